"""What was measured, instant by instant: quantities that metrics are made from, over one bag or over many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    def measured(self) -> Samples:
        """Without what is not finite, which was not measured."""
        return self.where(np.isfinite(self.values))


Quantities = Mapping[str, Samples]


class ReadWhenAsked(Mapping[str, Samples]):
    """Quantities that are somewhere else, and of which no more is in memory than what is looked at.

    read: gives one of the names.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Samples]) -> None:
        self._names, self._read = tuple(names), read

    def __getitem__(self, name: str) -> Samples:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def samples(at_ns: Iterable[int], values: Iterable[float]) -> Samples:
    """Samples from any numbers; what is not finite was not measured and is left out."""
    return Samples(np.array(list(at_ns), np.int64), np.array(list(values), np.float64)).measured()


def gathered(pairs: Iterable[tuple[int, float]]) -> Samples:
    """The same from pairs of an instant and its value."""
    found = list(pairs)
    return samples([at_ns for at_ns, _ in found], [value for _, value in found])


def counted(instants_ns: Iterable[int]) -> Samples:
    """Things that happened, each worth 1."""
    found = list(instants_ns)
    return samples(found, [1.0] * len(found))


def joined(parts: Sequence[Samples]) -> Samples:
    """One after the other."""
    return Samples(
        np.concatenate([part.at_ns for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.values for part in parts] or [np.zeros(0)]),
    )


def pooled(bags: Sequence[Quantities]) -> Quantities:
    """Several bags as if they were one: every sample counts the same, so a longer bag counts for more."""
    names = dict.fromkeys(name for bag in bags for name in bag)
    return ReadWhenAsked(names, lambda name: joined([bag[name] for bag in bags if name in bag]))
