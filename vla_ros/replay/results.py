"""What was measured of one bag, as it is kept: numbers for people and programs, and the samples behind them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.files import replacing
from vla_ros.errors import ReplayError
from vla_ros.replay.agreement import Agreement
from vla_ros.replay.decisions import Outcome
from vla_ros.replay.judging.comparison import Side, side_from_arrays, side_to_arrays
from vla_ros.replay.judging.judgement import Judgement
from vla_ros.replay.judging.moments import Moment, worst_moments
from vla_ros.replay.judging.samples import Quantities, ReadWhenAsked, Samples
from vla_ros.types import Json

LOG, RIVALS_LOG, MEASURED, SAMPLES = "decisions.jsonl", "against.jsonl", "measured.json", "samples.npz"
_MOMENTS = 10
_AT, _VALUES, _SIDE, _NPY = "/at_ns", "/values", "side/", ".npy"


@dataclass(frozen=True, eq=False)
class Told:
    """What a replay tells of itself. agreement: of live and replay, None where the bag has no traces."""

    identity: Json
    outcome: Outcome
    agreement: Agreement | None


@dataclass(frozen=True, eq=False)
class Result:
    """facts: JSON of the bag's replay, see `facts_of`; side: beside the rival, None without one."""

    facts: Json
    quantities: Quantities
    side: Side | None = None

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The worst first."""
        return tuple(Moment(**moment) for moment in self.facts["moments"])


def facts_of(told: Told, judged: Judgement, about: Json) -> Json:
    """All that is told of a bag. about: what was replayed, and how long it took."""
    return {
        **about,
        "identity": told.identity,
        "ticks": judged.ticks,
        **asdict(told.outcome),
        "agreement": None if told.agreement is None else _tallies(told.agreement),
        "metrics": judged.metrics,
        "horizon": judged.horizon,
        "interventions": judged.interventions,
        "silences": judged.silences,
        "stale": judged.stale,
        "moments": [asdict(one) for one in worst_moments(judged, _MOMENTS)],
    }


def write_result(folder: Path, result: Result) -> None:
    """The samples first: a folder with numbers has all. Raises DataError."""
    with replacing(folder / SAMPLES) as draft, ZipFile(draft, "w", ZIP_DEFLATED) as file:
        for name, values in _arrays(result):
            with file.open(f"{name}{_NPY}", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
    with replacing(folder / MEASURED) as draft:
        draft.write_text(json.dumps(result.facts, indent=1) + "\n", encoding="utf-8")


def read_result(folder: Path, key: Json | None = None) -> Result | None:
    """What is kept there, of the replay with this key if one is given; None without any, or if it cannot be read."""
    try:
        facts = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
        is_other = key is not None and facts["key"] != json.loads(json.dumps(key))
        if is_other or not (folder / LOG).is_file():
            return None
        with np.load(folder / SAMPLES, allow_pickle=False) as file:
            names = file.files
            side = {name.removeprefix(_SIDE): file[name] for name in names if name.startswith(_SIDE)}
            is_whole = file.zip.testzip() is None
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, zlib.error):
        return None
    kept = ReadWhenAsked([n.removesuffix(_AT) for n in names if n.endswith(_AT)], partial(_kept, folder / SAMPLES))
    return Result(facts, kept, side_from_arrays(side) if side else None) if is_whole else None


def _arrays(result: Result) -> Iterator[tuple[str, NDArray[Any]]]:
    """One after the other: all of them may be more than fits into memory."""
    for name, one in result.quantities.items():
        yield f"{name}{_AT}", one.at_ns
        yield f"{name}{_VALUES}", one.values
    if result.side is not None:
        for name, values in side_to_arrays(result.side).items():
            yield f"{_SIDE}{name}", values


def _kept(path: Path, name: str) -> Samples:
    """Raises ReplayError where the file has changed since it was looked at."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Samples(file[f"{name}{_AT}"], file[f"{name}{_VALUES}"])
    except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise ReplayError(f"the results in {path.parent} are gone: {error}") from error


def _tallies(agreement: Agreement) -> Json:
    return {"policy": asdict(agreement.policy), "guard": asdict(agreement.guard)}
