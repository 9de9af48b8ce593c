"""Libraries that a command needs and not everybody has: what is missing is said as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vla_ros.errors import VlaRosError


@contextmanager
def needed(by: str, install: str) -> Iterator[None]:
    """Around what imports them. by: subject and verb, such as "the network needs"; install: what brings them.

    Raises VlaRosError instead of ModuleNotFoundError, unless it is a module of our own that is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "vla_ros"):
            raise
        raise VlaRosError(f"{by} {missing}, which is not installed: {install}") from error
