"""How far trainings and trials that go on side by side have come, and the end of them all before their time."""

from __future__ import annotations

import threading
from typing import Any

STEPS_PER_EPISODE = 5
"""An episode takes as long as so many steps of training, roughly: the bar learns the rest."""


class CalledOff(Exception):
    """What somebody is at is not wanted any more."""


class Progress:
    """One bar for several threads. Once called off, whoever tells it of more is told so by CalledOff."""

    def __init__(self, bar: Any) -> None:
        """bar: of tqdm, over steps of training."""
        self._bar, self._lock, self._is_off = bar, threading.Lock(), threading.Event()

    def __call__(self, steps: float) -> None:
        """So many more steps are done, perhaps none. Raises CalledOff."""
        if self._is_off.is_set():
            raise CalledOff
        with self._lock:
            self._bar.update(steps)

    def of_episodes(self, episodes: float) -> None:
        """So many more episodes are. Raises CalledOff."""
        self(STEPS_PER_EPISODE * episodes)

    def say(self, text: str) -> None:
        """What was begun last."""
        with self._lock:
            self._bar.set_description(text)

    def call_off(self) -> None:
        """Let everybody end."""
        self._is_off.set()
