"""A node's status on its own topic: at once when the words change, and a few times a second while they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.ros import messages
from vla_ros.types import NS_PER_S, Now

EVERY_S = 0.2
OK, WARNING, ERROR = 0, 1, 2


def level_of(is_fault: bool) -> int:
    """The diagnostic level of a tick."""
    return ERROR if is_fault else OK


class StatusPublisher:
    """Publishes one diagnostic status to a DiagnosticArray publisher."""

    def __init__(self, publisher: Any, name: str) -> None:
        self._publisher = publisher
        self._name = name
        self._published_ns = 0
        self._words = ""

    def publish(self, level: int, text: str, values: Mapping[str, str], instant: Now) -> None:
        """Called every tick. Numbers in brackets alone do not make a status new."""
        words = text.split(" (")[0]
        if words == self._words and instant.steady_ns - self._published_ns < EVERY_S * NS_PER_S:
            return
        self._words, self._published_ns = words, instant.steady_ns
        self._publisher.publish(messages.to_diagnostics(self._name, level, text, values, instant.ros_ns))
