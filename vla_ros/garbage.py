"""Python's search for garbage in cycles, for loops that make many values and next to no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's own is some hundreds: a second of messages held back is more than that, and was searched again and again.
_NEW_OBJECTS = 20_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While the block runs, what exists before it is not searched, and what is new only once there is a lot of it.

    What no cycle holds is freed at once, as ever.
    """
    young, *older = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(young, _NEW_OBJECTS), *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)
        gc.unfreeze()
