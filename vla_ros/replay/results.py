"""What was measured of one bag, as it is kept: numbers for people and programs, and the samples behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.files import replacing
from vla_ros.replay.agreement import Agreement
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.comparison import Side, side_from_arrays, side_to_arrays
from vla_ros.replay.judging.judgement import Judgement
from vla_ros.replay.judging.moments import Moment, worst_moments
from vla_ros.replay.judging.samples import Quantities, Samples
from vla_ros.types import Json

LOG, RIVALS_LOG, MEASURED, SAMPLES = "decisions.jsonl", "against.jsonl", "measured.json", "samples.npz"
_MOMENTS = 10
_AT, _VALUES, _SIDE = "/at_ns", "/values", "side/"


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


def facts_of(replayed: Replayed, judged: Judgement, agreement: Agreement | None, about: Json) -> Json:
    """All that is told of a bag. about: what was replayed, and how long it took."""
    return {
        **about,
        "identity": replayed.identity,
        "ticks": {"policy": len(replayed.policy), "guard": len(replayed.guard)},
        **asdict(replayed.outcome),
        "agreement": None if agreement is None else _tallies(agreement),
        "metrics": judged.metrics,
        "horizon": judged.horizon,
        "interventions": judged.interventions,
        "silences": judged.silences,
        "stale": judged.stale,
        "moments": [asdict(one) for one in worst_moments(replayed, judged.quantities["chunk_error"], _MOMENTS)],
    }


def write_result(folder: Path, result: Result) -> None:
    """The samples first: a folder with numbers has all. Raises DataError."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, one in result.quantities.items():
        arrays |= {f"{name}{_AT}": one.at_ns, f"{name}{_VALUES}": one.values}
    if result.side is not None:
        arrays |= {f"{_SIDE}{name}": values for name, values in side_to_arrays(result.side).items()}
    with replacing(folder / SAMPLES) as draft, draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
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
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, TypeError, BadZipFile):
        return None
    return Result(facts, _quantities(arrays), _side(arrays))


def _quantities(arrays: Mapping[str, NDArray[Any]]) -> Quantities:
    names = [name.removesuffix(_AT) for name in arrays if name.endswith(_AT)]
    return {name: Samples(arrays[f"{name}{_AT}"], arrays[f"{name}{_VALUES}"]) for name in names}


def _side(arrays: Mapping[str, NDArray[Any]]) -> Side | None:
    found = {name.removeprefix(_SIDE): values for name, values in arrays.items() if name.startswith(_SIDE)}
    return side_from_arrays(found) if found else None


def _tallies(agreement: Agreement) -> Json:
    return {"policy": asdict(agreement.policy), "guard": asdict(agreement.guard)}
