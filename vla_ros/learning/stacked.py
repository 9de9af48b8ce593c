"""Arrays behind one another as one, without copying what lies on disk into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Pictures(Protocol):
    """Pictures by frame, all alike: (N, S, S, 3) uint8, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Those of some frames. (B,) -> (B, S, S, 3)"""
        ...


class Stacked:
    """The pictures of several datasets, numbered on from one to the next."""

    def __init__(self, parts: Sequence[Pictures]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(B,) -> (B, S, S, 3)"""
        of = np.searchsorted(self._ends, frames, side="right")
        found = [(of == number, part[frames[of == number] - start]) for number, part, start in self._used(of)]
        pictures = np.empty((len(frames), *found[0][1].shape[1:]), np.uint8)
        for where, some in found:
            pictures[where] = some
        return pictures

    def _used(self, of: NDArray[np.int64]) -> list[tuple[int, Pictures, int]]:
        """Parts that some of the frames are in, with the number of their first frame."""
        starts = [0, *self._ends.tolist()]
        return [(number, self._parts[number], starts[number]) for number in np.unique(of).tolist()]


class Chosen:
    """Some of the pictures, numbered anew."""

    def __init__(self, pictures: Pictures, chosen: NDArray[np.int64]) -> None:
        """chosen: (N,), the numbers that they had."""
        self._pictures, self._chosen = pictures, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(B,) -> (B, S, S, 3)"""
        return self._pictures[self._chosen[frames]]
