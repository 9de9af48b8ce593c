"""What was measured of one bag, as it is kept: numbers for people and programs, and the samples behind them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.files import replacing
from vla_ros.errors import ReplayError
from vla_ros.replay.judging.action_errors import LEAD
from vla_ros.replay.judging.comparison import Side, side_from_arrays, side_to_arrays
from vla_ros.replay.judging.judgement import Judgement
from vla_ros.replay.judging.moments import Moment, worst_moments
from vla_ros.replay.judging.samples import IntArray, Quantities
from vla_ros.types import FloatArray, Json

LOG, RIVALS_LOG, MEASURED, SAMPLES = "decisions.jsonl", "against.jsonl", "measured.json", "samples.npz"
_MOMENTS = 10
_AT_ONCE = 1 << 16
_AT, _VALUES, _SIDE, _NPY = "/at_ns", "/values", "side/", ".npy"
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, BadZipFile, zlib.error)
"""What files that are gone, cut short or damaged make NumPy, zipfile and JSON raise."""


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


def facts_of(judged: Judgement, about: Json) -> Json:
    """All that is told of a bag. about: what was replayed, how it ended, and how long it took."""
    return {
        **about,
        "ticks": judged.ticks,
        "metrics": judged.metrics,
        "horizon": judged.horizon,
        "interventions": judged.interventions,
        "silences": judged.silences,
        "stale": judged.stale,
        "moments": [asdict(one) for one in worst_moments(judged, _MOMENTS)],
    }


class Kept(Quantities):
    """Those of a file of samples. What is asked of it raises ReplayError where the file is gone, or damaged."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self.names = path, names

    def at_ns(self, name: str) -> IntArray:
        return np.asarray(self._read(f"{name}{_AT}"), np.int64)

    def values(self, name: str) -> FloatArray:
        return np.asarray(self._read(f"{name}{_VALUES}"), np.float64)

    def _read(self, name: str) -> NDArray[Any]:
        try:
            with np.load(self._path, allow_pickle=False) as file:
                return np.asarray(file[name])
        except _UNREADABLE as error:
            raise ReplayError(f"the results in {self._path.parent} are gone: {error}") from error


def write_result(folder: Path, result: Result) -> None:
    """The samples first: a folder with numbers has all. Raises DataError."""
    with replacing(folder / SAMPLES) as draft, ZipFile(draft, "w", ZIP_DEFLATED) as file:
        for name, array in _arrays(result):
            with file.open(f"{name}{_NPY}", "w", force_zip64=True) as member:
                _write_array(member, array())
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
            names = [name.removesuffix(_AT) for name in file.files if name.endswith(_AT)]
            side = {name.removeprefix(_SIDE): file[name] for name in file.files if name.startswith(_SIDE)}
            is_whole = file.zip.testzip() is None
        return (
            Result(facts, Kept(folder / SAMPLES, names), side_from_arrays(side) if side else None) if is_whole else None
        )
    except _UNREADABLE:
        return None


def _write_array(file: IO[bytes], values: NDArray[Any]) -> None:
    """As .npy, some at a time."""
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
    for start in range(0, len(values), _AT_ONCE):
        file.write(values[start : start + _AT_ONCE].tobytes())


def _arrays(result: Result) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    """Names, and how to get at each: all of them at once may be more than fits into memory."""
    for name in result.quantities.names:
        if name != LEAD:
            yield f"{name}{_AT}", partial(result.quantities.at_ns, name)
            yield f"{name}{_VALUES}", partial(result.quantities.values, name)
    if result.side is not None:
        for name, values in side_to_arrays(result.side).items():
            yield f"{_SIDE}{name}", values.copy
