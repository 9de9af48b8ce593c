"""What a bag holds around the tick that is being played."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from vla_ros.types import Sample


class Window:
    """Stamped samples, found by channel and stamp, and forgotten by the stamp of their reception.

    perhaps_unheard: channels whose samples are to be had by `fresh`, too.
    """

    def __init__(self, perhaps_unheard: Collection[str]) -> None:
        self._perhaps_unheard = perhaps_unheard
        self._found: dict[tuple[str, int], Any] = {}
        self._keys: deque[tuple[int, tuple[str, int]]] = deque()
        self._fresh: deque[tuple[int, Sample[Any]]] = deque()

    def put(self, recorded_ns: int, channel: str, value: Any, stamp_ns: int) -> None:
        """Remember a message. Of several with one stamp the first counts, as live."""
        key = (channel, stamp_ns)
        if key in self._found:
            return
        self._found[key] = value
        self._keys.append((recorded_ns, key))
        if channel in self._perhaps_unheard:
            self._fresh.append((recorded_ns, Sample(channel, value, stamp_ns, 0)))

    def find(self, channel: str, stamp_ns: int) -> Any | None:
        """The value of the message with a stamp; None if there is no such."""
        return self._found.get((channel, stamp_ns))

    def fresh(self, until_ns: int, steady_ns: int) -> list[Sample[Any]]:
        """What was recorded since the last call, until an instant of the recorder's clock, which is steady_ns."""
        arrived = []
        while self._fresh and self._fresh[0][0] <= until_ns:
            recorded_ns, sample = self._fresh.popleft()
            arrived.append(replace(sample, received_ns=steady_ns - (until_ns - recorded_ns)))
        return arrived

    def forget(self, before_ns: int) -> None:
        """Drop what was recorded before an instant."""
        while self._keys and self._keys[0][0] < before_ns:
            del self._found[self._keys.popleft()[1]]
        while self._fresh and self._fresh[0][0] < before_ns:
            self._fresh.popleft()
