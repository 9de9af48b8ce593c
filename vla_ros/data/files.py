"""Files that are whole or absent, and a folder that one process writes at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vla_ros.errors import DataError

_DRAFT = ".draft"
_LOCK = ".lock"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` if the block succeeds. Raises DataError.

    A process that is killed leaves the old file, and a draft (see drafts). Nothing is promised of a power cut.
    """
    draft = path.with_name(f".{path.name}{_DRAFT}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # what it is about has been said
            draft.unlink(missing_ok=True)


def drafts(folder: Path) -> Iterator[Path]:
    """What killed processes left behind."""
    return folder.rglob(f".*{_DRAFT}")


def lock(folder: Path) -> int:
    """Keep other processes from writing here until the returned descriptor is closed. Raises DataError."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error
    try:
        # lockf, not flock: forked workers that outlive their parent must not go on holding it.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DataError(f"{folder} is being written by another process; wait for it, or stop it") from error
    return descriptor
