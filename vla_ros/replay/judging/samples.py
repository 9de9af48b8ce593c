"""What was measured, instant by instant: quantities that metrics are made from, over one bag or over many."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


Measured = Mapping[str, Samples]
"""What was measured just now, by quantity."""


class Quantities(ABC):
    """All that was measured, which may be more than fits into memory: each is read when asked for, and not kept.

    names: of the quantities, those without samples too. Others raise KeyError.
    """

    names: Sequence[str]

    @abstractmethod
    def at_ns(self, name: str) -> IntArray:
        """(N,) ROS time [ns] of each value."""

    @abstractmethod
    def values(self, name: str) -> FloatArray:
        """(N,) finite; a copy, which may be changed."""

    def samples(self, name: str) -> Samples:
        """Both."""
        return Samples(self.at_ns(name), self.values(name))


class Held(Quantities):
    """Quantities in memory."""

    def __init__(self, measured: Measured) -> None:
        self.names = tuple(measured)
        self._measured = measured

    def at_ns(self, name: str) -> IntArray:
        return self._measured[name].at_ns

    def values(self, name: str) -> FloatArray:
        return np.array(self._measured[name].values)


class Pooled(Quantities):
    """Several bags as if they were one: every sample counts the same, so a longer bag counts for more."""

    def __init__(self, bags: Sequence[Quantities]) -> None:
        self.names = tuple(dict.fromkeys(name for bag in bags for name in bag.names))
        self._bags = bags

    def at_ns(self, name: str) -> IntArray:
        return np.concatenate([bag.at_ns(name) for bag in self._bags if name in bag.names])

    def values(self, name: str) -> FloatArray:
        return np.concatenate([bag.values(name) for bag in self._bags if name in bag.names])


def samples(at_ns: Iterable[int], values: Iterable[float]) -> Samples:
    """Samples from any numbers; what is not finite was not measured and is left out."""
    instants, numbers = np.array(list(at_ns), np.int64), np.array(list(values), np.float64)
    kept = np.isfinite(numbers)
    return Samples(instants[kept], numbers[kept])


def gathered(pairs: Iterable[tuple[int, float]]) -> Samples:
    """The same from pairs of an instant and its value."""
    found = list(pairs)
    return samples([at_ns for at_ns, _ in found], [value for _, value in found])


def counted(instants_ns: Iterable[int]) -> Samples:
    """Things that happened, each worth 1."""
    found = list(instants_ns)
    return samples(found, [1.0] * len(found))
