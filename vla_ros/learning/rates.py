"""Recordings of different rates as ones of the same, by leaving out frames of the faster ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.learning.experience import Experience
from vla_ros.learning.stacked import Chosen
from vla_ros.learning.targets import labels_at
from vla_ros.types import ANGULAR_VELOCITY, LINEAR_VELOCITY

_VELOCITIES = slice(LINEAR_VELOCITY.start, ANGULAR_VELOCITY.stop)


def at_one_rate(parts: Sequence[Experience]) -> list[Experience]:
    """All as slow as the slowest, where that divides their rate; others stay as they are."""
    slowest = min(part.fps for part in parts)
    return [part if part.fps % slowest else thinned(part, part.fps // slowest) for part in parts]


def thinned(experience: Experience, factor: int) -> Experience:
    """Every so many frames of each episode, from its first on, each with what was done until the next one.

    Between two of them somebody pushed if he did at any frame, and something is to be learned if it is from all.
    """
    if factor == 1:
        return experience
    starts = np.flatnonzero(np.diff(experience.episodes, prepend=-1))
    within = np.arange(len(experience)) - starts[experience.episodes]
    kept = np.flatnonzero(within % factor == 0)
    counts = np.diff(kept, append=len(experience))  # fewer where an episode ends
    return replace(
        experience,
        fps=experience.fps // factor,
        images={view: Chosen(pictures, kept) for view, pictures in experience.images.items()},
        states=experience.states[kept],
        actions=_until_the_next(experience.actions, kept, counts),
        places=experience.places[kept],
        places_known=experience.places_known[kept],
        is_pushed=np.logical_or.reduceat(experience.is_pushed, kept),
        worth=np.minimum.reduceat(experience.worth, kept),
        is_start=experience.is_start[kept],
        episodes=experience.episodes[kept],
        subtasks=experience.subtasks[kept],
        labels=labels_at(experience.labels, kept),
    )


def _until_the_next(
    actions: NDArray[np.float32], kept: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Poses where the last of the frames led to, velocities on the average, grippers of the first. -> (kept, 14)"""
    rows: NDArray[np.float32] = actions[kept + counts - 1]
    rows[:, _VELOCITIES] = np.add.reduceat(actions[:, _VELOCITIES], kept) / counts[:, None]
    rows[:, _VELOCITIES.stop :] = actions[kept, _VELOCITIES.stop :]
    return rows
