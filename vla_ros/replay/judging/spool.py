"""Quantities on their way to a file: a bag has more samples than fit into memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vla_ros.errors import ReplayError
from vla_ros.replay.judging.samples import IntArray, Measured, Quantities
from vla_ros.types import FloatArray

_BYTES = 8


class Spool(Quantities):
    """Quantities that grow on disk, in a file without a name that is gone with this object.

    Values that are not finite stay in `rows`, which tell of one thing row by row, and count for nothing elsewhere.
    folder: where the file is; the system's temporary one without any. Raises ReplayError where it cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._place = folder or "the system's temporary folder"
        try:
            # Unbuffered, so that a full disk is met where something is written. It lives as long as this object.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise ReplayError(f"what is measured cannot be written to {self._place}: {error}") from error
        self._counts: dict[str, array[int]] = {}
        self._starts: dict[str, array[int]] = {}
        self._end = 0

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]  # they grow
        """Those added so far."""
        return tuple(self._counts)

    def add(self, measured: Measured) -> None:
        """Put samples behind those that are here."""
        for name, one in measured.items():
            counts = self._counts.setdefault(name, array("q"))
            starts = self._starts.setdefault(name, array("q"))
            if len(one.values):
                starts.append(self._end)
                counts.append(len(one.values))
                self._write(np.asarray(one.at_ns, np.int64).tobytes() + np.asarray(one.values, np.float64).tobytes())

    def at_ns(self, name: str) -> IntArray:
        found = np.empty(sum(self._counts[name]), np.int64)
        return found[: self._read_finite(name, found, 0)]

    def values(self, name: str) -> FloatArray:
        found = np.empty(sum(self._counts[name]), np.float64)
        return found[: self._read_finite(name, found, 1)]

    def row_instants(self, name: str) -> IntArray:
        """(R,) ROS time [ns] of each row."""
        found = np.empty(sum(self._counts[name]), np.int64)
        self._read(name, found, 0)
        return found

    def rows(self, name: str) -> FloatArray:
        """(R,) NaN where nothing was measured."""
        found = np.empty(sum(self._counts[name]), np.float64)
        self._read(name, found, 1)
        return found

    def blocks(self, *names: str) -> Iterator[tuple[FloatArray, ...]]:
        """The rows of several quantities beside each other, some at a time. They must have been added together."""
        for index, count in enumerate(self._counts[names[0]]):
            found = tuple(np.empty(count, np.float64) for _ in names)
            for name, rows in zip(names, found, strict=True):
                self._fill(rows, self._starts[name][index] + _BYTES * count)
            yield found

    def _read(self, name: str, found: IntArray | FloatArray, part: int) -> None:
        """part: 0 for the instants of each addition, 1 for its values."""
        filled = 0
        for start, count in zip(self._starts[name], self._counts[name], strict=True):
            self._fill(found[filled : filled + count], start + part * _BYTES * count)
            filled += count

    def _read_finite(self, name: str, found: IntArray | FloatArray, part: int) -> int:
        """The same without rows in which nothing was measured. Block by block: two copies of all are one too many.

        -> how many there are
        """
        filled = 0
        for (rows,), start in zip(self.blocks(name), self._starts[name], strict=True):
            block: IntArray | FloatArray = rows
            if part == 0:
                block = np.empty(len(rows), np.int64)
                self._fill(block, start)
            kept = block[np.isfinite(rows)]
            found[filled : filled + len(kept)] = kept
            filled += len(kept)
        return filled

    def _fill(self, found: IntArray | FloatArray, start: int) -> None:
        self._file.seek(start)
        self._file.readinto(found.view(np.uint8).data)

    def _write(self, data: bytes) -> None:
        try:
            self._file.seek(self._end)
            written = self._file.write(data)
        except OSError as error:
            raise ReplayError(f"what is measured cannot be written to {self._place}: {error}") from error
        if written != len(data):
            raise ReplayError(f"what is measured cannot be written to {self._place}: no space left")
        self._end += len(data)
