"""Quantities on their way to a file: a bag has more samples than fit into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vla_ros.errors import ReplayError
from vla_ros.replay.judging.samples import Quantities, Samples

_RECORD = np.dtype([("at_ns", "<i8"), ("value", "<f8")])


class Spool(Mapping[str, Samples]):
    """Quantities that grow on disk, in a file without a name that is gone with this object.

    folder: where the file is; the system's temporary one without any. Raises ReplayError where it cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it lives as long as this object
        except OSError as error:
            raise ReplayError(f"what is measured cannot be written to {folder}: {error}") from error
        self._places: dict[str, list[tuple[int, int]]] = {}
        self._end = 0

    def add(self, quantities: Quantities) -> None:
        """Put samples behind those that are here. Values that are not finite are kept, but only `rows` gives them."""
        for name, one in quantities.items():
            places = self._places.setdefault(name, [])
            if len(one.values):
                records = np.empty(len(one.values), _RECORD)
                records["at_ns"], records["value"] = one.at_ns, one.values
                self._write(records.tobytes())
                places.append((self._end, len(records)))
                self._end += records.nbytes

    def rows(self, name: str) -> Samples:
        """All that was added, in that order."""
        places = self._places[name]
        records = np.empty(sum(count for _, count in places), _RECORD)
        filled = 0
        for start, count in places:
            self._file.seek(start)
            self._file.readinto(records[filled : filled + count].view(np.uint8).data)
            filled += count
        return Samples(records["at_ns"].copy(), records["value"].copy())

    def __getitem__(self, name: str) -> Samples:
        return self.rows(name).measured()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _write(self, data: bytes) -> None:
        try:
            self._file.seek(self._end)
            self._file.write(data)
        except OSError as error:
            raise ReplayError(f"what is measured cannot be written: {error}") from error
