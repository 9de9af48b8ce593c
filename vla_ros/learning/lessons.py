"""What frames teach the parts of a network that reason: what is still to be done, what comes next, how it ends.

A plan is what a success was made of: its subtasks, one after the other. From any frame some of those that are done may
be told, and the one that is under way and those after it are to be foretold. Failures tell what comes next and how it
ends; nobody learns from them what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.errors import LearningError
from vla_ros.learning.experience import FAILURE, SUCCESS, Experience
from vla_ros.model.config import VLAConfig
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.planner import LONGEST, Plan
from vla_ros.model.reasoning import Lessons, OutcomeLesson, PlanLesson
from vla_ros.model.relative import to_relative
from vla_ros.types import (
    ACTION_WIDTH,
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    QUATERNION,
    FloatArray,
)

Look = Callable[[NDArray[np.int64]], ModelInputs]
"""What the network is shown at some frames, told what it was told at those of the batch."""


@dataclass(frozen=True, eq=False)
class Stretches:
    """Frames of one episode and one subtask, one behind the other. starts, ends: (S,), the last frame is in it.

    names: of the subtasks, "" where nobody knows. of_frame: (N,), which one a frame is in.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    names: tuple[str, ...]
    episodes: NDArray[np.int64]
    of_frame: NDArray[np.int64]


def stretches_of(experience: Experience) -> Stretches:
    """All of them, in order."""
    subtasks, episodes = experience.subtasks, experience.episodes
    is_new = np.ones(len(experience), bool)
    is_new[1:] = (subtasks[1:] != subtasks[:-1]) | (episodes[1:] != episodes[:-1])
    starts = np.flatnonzero(is_new)
    ends = np.append(starts[1:], len(experience)) - 1
    return Stretches(starts, ends, tuple(subtasks[starts].tolist()), episodes[starts], np.cumsum(is_new) - 1)


class LessonMaker:
    """Makes lessons for one network. Raises LearningError for a subtask of the data that its planner cannot name."""

    def __init__(self, experience: Experience, config: VLAConfig, stride: int) -> None:
        """stride: recorded frames to a row of a chunk."""
        self._experience, self._config, self._stride = experience, config, stride
        self._stretches = stretches_of(experience)
        self._ends = _last_frames(experience)
        unknown = sorted(set(self._stretches.names) - {"", *config.subtasks})
        if config.plans and unknown:
            raise LearningError(f"model.subtasks: the data's {', '.join(map(repr, unknown))} are missing")

    def make(self, frames: NDArray[np.int64], look: Look, look_again: Look, rng: np.random.Generator) -> Lessons:
        """Of some frames, (B,); for the parts that there are. look: at goals; look_again: a row later."""
        return Lessons(
            self._plan(frames, look, rng) if self._config.plans else None,
            self._outcome(frames, look_again) if self._config.foresees else None,
        )

    def later(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """A row later, or the last frame of all. (B,) -> (B,)"""
        return np.minimum(frames + self._stride, len(self._experience) - 1)

    def _plan(self, frames: NDArray[np.int64], look: Look, rng: np.random.Generator) -> PlanLesson:
        subtasks = np.zeros((len(frames), LONGEST), np.int64)
        proposals = np.zeros((len(frames), LONGEST, ACTION_WIDTH), np.float32)
        proposals[..., QUATERNION] = (0.0, 0.0, 0.0, 1.0)
        length, done = np.zeros(len(frames), np.int64), np.ones(len(frames), np.int64)
        episodes = self._experience.episodes[frames]
        is_success = self._experience.outcomes[episodes] == SUCCESS
        for row, frame in enumerate(frames.tolist()):
            steps, count = self._steps(frame, rng)
            # Where it did not end well, or nobody knows the subtasks, more is given than there is: nothing is learned.
            if not steps or not is_success[row]:
                continue
            length[row], done[row] = len(steps), count
            subtasks[row, : len(steps)] = [self._config.subtasks.index(self._stretches.names[step]) for step in steps]
            proposals[row, : len(steps)] = self._proposals(frame, steps)
        tensors = [torch.from_numpy(array) for array in (subtasks, length, done, proposals)]
        return PlanLesson(Plan(tensors[0], tensors[1]), tensors[2], tensors[3], look(self._ends[episodes]))

    def _steps(self, frame: int, rng: np.random.Generator) -> tuple[list[int], int]:
        """The stretches of a plan at a frame, none if one has no name, and how many of them are done."""
        stretches = self._stretches
        now = int(stretches.of_frame[frame])
        mine = np.flatnonzero(stretches.episodes == stretches.episodes[now])
        done = int(rng.integers(min(now - int(mine[0]), LONGEST - 1) + 1))
        steps = list(range(now - done, int(mine[-1]) + 1))[:LONGEST]
        return ([] if any(not stretches.names[step] for step in steps) else steps), done

    def _proposals(self, frame: int, steps: Sequence[int]) -> FloatArray:
        """Where each step ends, how fast it is on the average, and what the gripper does then; relative. -> (L, 14)"""
        actions = self._experience.actions
        ends = self._stretches.ends[list(steps)]
        rows = actions[ends].astype(np.float64)
        for row, step in zip(rows, steps, strict=True):
            moved = slice(LINEAR_VELOCITY.start, ANGULAR_VELOCITY.stop)
            row[moved] = actions[self._stretches.starts[step] : self._stretches.ends[step] + 1, moved].mean(axis=0)
        rows[:, GRIPPER] = actions[ends, GRIPPER]
        return to_relative(rows, self._experience.commanded_at(frame), self._config.axes)

    def _outcome(self, frames: NDArray[np.int64], look: Look) -> OutcomeLesson:
        experience = self._experience
        later = self.later(frames)
        between = np.minimum(frames[:, None] + np.arange(self._stride), len(experience) - 1)
        counts = (later == frames + self._stride) & (experience.episodes[later] == experience.episodes[frames])
        counts &= experience.is_start[later] & ~experience.is_pushed[between].any(axis=1)
        outcome = experience.outcomes[experience.episodes[frames]]
        known = np.isin(outcome, (SUCCESS, FAILURE))
        return OutcomeLesson(
            look(later),
            torch.from_numpy(counts.astype(np.float32)),
            torch.from_numpy(outcome == SUCCESS),
            torch.from_numpy(known.astype(np.float32)),
        )


def _last_frames(experience: Experience) -> NDArray[np.int64]:
    """Of each episode. -> (episodes,)"""
    last = np.zeros(len(experience.tasks), np.int64)
    np.maximum.at(last, experience.episodes, np.arange(len(experience)))
    return last
