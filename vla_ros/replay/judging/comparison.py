"""Two policies on the same ticks: paired differences with intervals, and how far their plans lie apart.

Only observations that both answered count, each row beside the same recorded command. Chunks of one second have much in
common, so the interval is that of whole seconds drawn anew (a block bootstrap: Kunsch, 1989), not of single rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.replay.judging.action_errors import LEAD, observed_ns
from vla_ros.replay.judging.chunk_consistency import chunk_distance
from vla_ros.replay.judging.samples import IntArray
from vla_ros.replay.judging.spool import Spool
from vla_ros.types import NS_PER_S, Chunk, FloatArray, Json

QUANTITIES = {
    "position_error": "m",
    "rotation_error": "rad",
    "velocity_error": "m/s",
    "gripper_error": "of its range",
    "direction_agreement": "cosine",
}
_DRAWS, _SEED = 2000, 0
_LEAST_BLOCKS = 5


@dataclass(frozen=True, eq=False)
class Blocks:
    """One quantity in B seconds of a bag that both policies have samples of. Sums over the rows of a second; counts."""

    first: FloatArray
    second: FloatArray
    counts: FloatArray


@dataclass(frozen=True, eq=False)
class Side:
    """What of one bag two policies are compared by. distances_m: between their plans, one for each observation."""

    blocks: Mapping[str, Blocks]
    distances_m: FloatArray


@dataclass(frozen=True)
class Difference:
    """Means of both over the same rows, and second less first with its 95 % interval, None of less than 5 seconds."""

    quantity: str
    unit: str
    rows: int
    first: float
    second: float
    interval: tuple[float, float] | None

    @property
    def differs(self) -> bool:
        """Whether the interval is clear of 0."""
        return self.interval is not None and (self.interval[0] > 0.0 or self.interval[1] < 0.0)


@dataclass(frozen=True)
class Comparison:
    """observations: that both answered; apart_*_m: mean distance between their plans, over those."""

    observations: int
    apart_p50_m: float | None
    apart_p95_m: float | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, eq=False)
class Answers:
    """What one policy answered. rows: of `ActionErrors`; chunks: in the order of their observations."""

    rows: Spool
    chunks: Iterable[Chunk]


def side_by_side(first: Answers, second: Answers) -> Side:
    """Two replays of one bag, by what they can be compared by."""
    distances = (chunk_distance(one, other) for one, other in _of_one_observation(first.chunks, second.chunks))
    known = [distance_m for distance_m in distances if distance_m is not None]
    return Side(_blocks(first.rows, second.rows), np.array(known, np.float64))


def compare_all(bags: Sequence[Side]) -> Comparison:
    """Over all seconds of all bags."""
    distances = np.concatenate([bag.distances_m for bag in bags] or [np.zeros(0)])
    quantiles = np.percentile(distances, [50.0, 95.0]).tolist() if len(distances) else [None, None]
    found = (_difference(name, [bag.blocks[name] for bag in bags if name in bag.blocks]) for name in QUANTITIES)
    return Comparison(len(distances), quantiles[0], quantiles[1], tuple(one for one in found if one is not None))


def comparison_json(comparison: Comparison) -> Json:
    """For replay.json."""
    return {
        "observations": comparison.observations,
        "apart_p50_m": comparison.apart_p50_m,
        "apart_p95_m": comparison.apart_p95_m,
        "differences": {
            one.quantity: {
                "unit": one.unit,
                "rows": one.rows,
                "first": one.first,
                "second": one.second,
                "difference": one.second - one.first,
                "interval_95": one.interval,
            }
            for one in comparison.differences
        },
    }


def side_to_arrays(side: Side) -> Mapping[str, FloatArray]:
    """As named arrays, for a file; `side_from_arrays` is its inverse."""
    arrays = {"distances_m": side.distances_m}
    for name, blocks in side.blocks.items():
        arrays[f"blocks/{name}"] = np.stack([blocks.first, blocks.second, blocks.counts])
    return arrays


def side_from_arrays(arrays: Mapping[str, FloatArray]) -> Side:
    """The side that these arrays were made from."""
    found = {name: Blocks(*arrays[key]) for name in QUANTITIES if (key := f"blocks/{name}") in arrays}
    return Side(found, arrays["distances_m"])


def _of_one_observation(first: Iterable[Chunk], second: Iterable[Chunk]) -> Iterator[tuple[Chunk, Chunk]]:
    """Pairs of chunks that were made from the same."""
    others = _keyed(second)
    other = next(others, None)
    for key, chunk in _keyed(first):
        while other is not None and other[0] < key:
            other = next(others, None)
        if other is not None and other[0] == key:
            yield chunk, other[1]


def _keyed(chunks: Iterable[Chunk]) -> Iterator[tuple[tuple[int, int], Chunk]]:
    """((how often the clock was set back, stamp of the observation), chunk), increasing.

    Of an observation that was asked about again, after a new instruction, the last answer.
    """
    times_back, last = 0, None
    for chunk in chunks:
        if last is not None and chunk.t_obs_ns != last.t_obs_ns:
            yield (times_back, last.t_obs_ns), last
            times_back += chunk.t_obs_ns < last.t_obs_ns
        last = chunk
    if last is not None:
        yield (times_back, last.t_obs_ns), last


def _blocks(first: Spool, second: Spool) -> Mapping[str, Blocks]:
    """By quantity, over the rows that both planned: those of one observation, for one instant; the last of several."""
    keys, others = _keys(first)[::-1], _keys(second)[::-1]
    _, one, other = np.intersect1d(keys, others, return_indices=True)
    one, other = len(keys) - 1 - one, len(others) - 1 - other
    seconds = observed_ns(first)[one] // NS_PER_S
    return {name: _summed(first.rows(name)[one], second.rows(name)[other], seconds) for name in QUANTITIES}


def _keys(rows: Spool) -> NDArray[np.void]:
    """What a row is for, and from which observation. -> (R,)"""
    t_obs_ns = observed_ns(rows)
    keys = np.empty(len(t_obs_ns), [("t_obs_ns", "<i8"), ("at_ns", "<i8")])
    keys["t_obs_ns"], keys["at_ns"] = t_obs_ns, rows.row_instants(LEAD)
    return keys


def _summed(first: FloatArray, second: FloatArray, seconds: IntArray) -> Blocks:
    """first, second, seconds: (R,); rows that either lacks are left out."""
    known = np.isfinite(first) & np.isfinite(second)
    _, block = np.unique(seconds[known], return_inverse=True)
    return Blocks(*(_sums(block, values[known]) for values in (first, second, np.ones(len(first)))))


def _sums(block: NDArray[np.intp], values: FloatArray) -> FloatArray:
    return np.bincount(block, values).astype(np.float64)


def _difference(name: str, bags: Sequence[Blocks]) -> Difference | None:
    first, second, counts = (
        np.concatenate([getattr(bag, part) for bag in bags] or [np.zeros(0)]) for part in ("first", "second", "counts")
    )
    rows = float(counts.sum())
    if not rows:
        return None
    interval = _interval(second - first, counts)
    return Difference(
        name, QUANTITIES[name], int(rows), float(first.sum() / rows), float(second.sum() / rows), interval
    )


def _interval(differences: FloatArray, counts: FloatArray) -> tuple[float, float] | None:
    """95 % of the mean difference, with the blocks drawn anew. differences, counts: (B,)"""
    if len(counts) < _LEAST_BLOCKS:
        return None
    rng = np.random.default_rng(_SEED)
    drawn = [rng.integers(len(counts), size=len(counts)) for _ in range(_DRAWS)]
    means = [float(differences[index].sum() / counts[index].sum()) for index in drawn]
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return low, high
