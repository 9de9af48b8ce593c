"""What was measured, instant by instant: quantities that metrics are made from, over one bag or over many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """One quantity. at_ns: (N,) ROS time [ns] of each value; values: (N,) finite, in the quantity's unit."""

    at_ns: IntArray
    values: FloatArray

    def where(self, kept: NDArray[np.bool_]) -> Samples:
        """Some of them. kept: (N,)"""
        return Samples(self.at_ns[kept], self.values[kept])


Quantities = Mapping[str, Samples]


def samples(at_ns: Iterable[int], values: Iterable[float]) -> Samples:
    """Samples from any numbers; what is not finite was not measured and is left out."""
    instants, numbers = np.array(list(at_ns), np.int64), np.array(list(values), np.float64)
    return Samples(instants, numbers).where(np.isfinite(numbers))


def gathered(pairs: Iterable[tuple[int, float]]) -> Samples:
    """The same from pairs of an instant and its value."""
    found = list(pairs)
    return samples([at_ns for at_ns, _ in found], [value for _, value in found])


def pooled(bags: Sequence[Quantities]) -> Quantities:
    """Several bags as if they were one: every sample counts the same, so a longer bag counts for more."""
    names = dict.fromkeys(name for bag in bags for name in bag)
    return {name: _joined([bag[name] for bag in bags if name in bag]) for name in names}


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(np.concatenate([part.at_ns for part in parts]), np.concatenate([part.values for part in parts]))
