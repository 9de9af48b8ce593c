"""Which earlier frames of its own episode a sample comes with, for networks that look back or remember.

A network that looks back is shown the frames that a live policy would have had: those at the camera's instants before.
One with a memory is shown a few of all that went before, drawn by lot, since an episode as a whole is too long to learn
through. Some samples have nothing behind them, so that the network also works without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.learning.experience import Experience
from vla_ros.model.config import VLAConfig
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.past import Look, Past

REMEMBERED = 5
"""Frames that a sample of a network with a memory comes with."""
_FORGETFUL = 0.1  # share of the samples with an empty memory, beside those at the beginning of an episode

Shown = Callable[[NDArray[np.int64]], ModelInputs]
"""What the network is shown at some frames, told what it was told at those of the batch."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Of each sample T earlier frames. numbers: (B, T), oldest first; here: (B, T) bool, False where there is none.

    Those are at the front, and in their place stands the sample's own frame.
    """

    numbers: NDArray[np.int64]
    here: NDArray[np.bool_]


def looked_back(starts: NDArray[np.int64], frames: NDArray[np.int64], count: int, period: int) -> Frames:
    """The last `count` frames, `period` apart. starts: (B,), the first frame of each sample's episode; frames: (B,)"""
    numbers = frames[:, None] - period * np.arange(count, 0, -1)
    here = numbers >= starts[:, None]
    return Frames(np.where(here, numbers, frames[:, None]), here)


def drawn(starts: NDArray[np.int64], frames: NDArray[np.int64], count: int, rng: np.random.Generator) -> Frames:
    """`count` different ones of all that went before, or all of them where they are fewer; of some samples none."""
    numbers, here = np.repeat(frames[:, None], count, axis=1), np.zeros((len(frames), count), bool)
    forgetful = rng.random(len(frames)) < _FORGETFUL
    for row, (start, frame) in enumerate(zip(starts.tolist(), frames.tolist(), strict=True)):
        known = min(count, frame - start)
        chosen = np.sort(rng.choice(frame - start, known, replace=False)) if known else np.zeros(0, np.int64)
        if known and not forgetful[row]:
            numbers[row, count - known :], here[row, count - known :] = start + chosen, True
    return Frames(numbers, here)


class PastMaker:
    """Makes the past of batches for one network."""

    def __init__(self, experience: Experience, config: VLAConfig, camera_rate_hz: float) -> None:
        """camera_rate_hz: of the robot, at which a live policy looks."""
        _, first, self._episodes = np.unique(experience.episodes, return_index=True, return_inverse=True)
        self._first = first.astype(np.int64)
        self._period = max(1, round(experience.fps / camera_rate_hz))
        self._recent = config.fusion.history
        self._remembered = REMEMBERED if config.memory == "external" else 0

    def make(self, frames: NDArray[np.int64], shown: Shown, rng: np.random.Generator) -> Past:
        """Of some frames, (B,); nothing for a network without history and memory, for which nothing is drawn."""
        recent = self.recent(frames, shown)
        if not self._remembered:
            return Past(recent)
        return Past(recent, _looks(drawn(self._starts(frames), frames, self._remembered, rng), shown))

    def recent(self, frames: NDArray[np.int64], shown: Shown) -> tuple[Look, ...]:
        """What is looked back at from some frames, (B,)."""
        return _looks(looked_back(self._starts(frames), frames, self._recent, self._period), shown)

    def _starts(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._first[self._episodes[frames]]


def _looks(frames: Frames, shown: Shown) -> tuple[Look, ...]:
    pairs = zip(frames.numbers.T, frames.here.T, strict=True)
    return tuple(Look(shown(numbers), torch.from_numpy(here.copy())) for numbers, here in pairs)
