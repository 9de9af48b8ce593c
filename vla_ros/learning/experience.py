"""Frames to learn from, and the chunks that followed them, as arrays.

A chunk's rows are relative to where the robot was commanded to be at its frame: the running integral of the recorded
clean velocities, linear and angular. Rows do not count from where somebody pushed the robot off its way, since nobody
carried them out, nor from where somebody acted of whom nothing is to be learned, nor past the end of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import LearningError
from vla_ros.learning.stacked import Pictures, Stacked
from vla_ros.learning.targets import Labels, joined_labels
from vla_ros.model.config import Axes
from vla_ros.model.relative import along, commanded_orientations, state_of
from vla_ros.policy.metaworld_action import PLACE_COLUMNS
from vla_ros.rotations import turned
from vla_ros.types import (
    ACTION_WIDTH,
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    POSITION,
    QUATERNION,
    FloatArray,
    Observation,
    Pose,
)

SUCCESS, FAILURE, UNKNOWN = 1, 0, -1
"""How an episode ended."""


@dataclass(frozen=True, eq=False)
class Experience:
    """N frames, episode by episode.

    images: view -> (N, S, S, 3) uint8, perhaps on disk. states: (N, 14), see relative.state_of. actions: (N, 14),
    as recorded. places: (N, 9) [m], where the task's two things and its goal are. places_known: (N, 9) bool.
    is_pushed: (N,) bool. worth: (N,), how much a chunk that begins at a frame counts; 0 where nothing is to be learned.
    is_start: (N,) bool, whether a chunk may begin at it. episodes: (N,), which one a frame belongs to. tasks: of each
    episode; where it is none of the simulator's, the sentence. worlds: where each
    episode was; "" where nobody knows. subtasks: (N,), what each frame is a part of, in words,
    "" where nobody knows. outcomes: of each episode: SUCCESS, FAILURE or UNKNOWN. labels: of tasks beside the chunk.
    """

    fps: int
    images: Mapping[str, Pictures]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    places: NDArray[np.float32]
    places_known: NDArray[np.bool_]
    is_pushed: NDArray[np.bool_]
    worth: NDArray[np.float32]
    is_start: NDArray[np.bool_]
    episodes: NDArray[np.int64]
    tasks: tuple[str, ...]
    worlds: tuple[str, ...]
    subtasks: NDArray[np.str_]
    outcomes: NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.states)

    @property
    def is_learned_from(self) -> NDArray[np.bool_]:
        """(N,), whether chunks that begin at a frame are shown to a network at all."""
        learned: NDArray[np.bool_] = self.is_start & (self.worth > 0.0)
        return learned

    @property
    def is_failure(self) -> NDArray[np.bool_]:
        """(N,), whether a frame is of an episode that is known to have ended badly, and may be shown."""
        failed: NDArray[np.bool_] = self.is_start & (self.outcomes[self.episodes] == FAILURE)
        return failed

    def task_of(self, frame: int) -> str:
        """The task that a frame's episode is about."""
        return self.tasks[int(self.episodes[frame])]

    def commanded_at(self, frame: int) -> Pose:
        """Where the robot was commanded to be, which its rows start from; see relative.state_of."""
        state = self.states[frame].astype(np.float64)
        [orientation] = commanded_orientations(state[None])
        return Pose(state[POSITION] + state[LINEAR_VELOCITY], orientation)


@dataclass(frozen=True, eq=False)
class Chunks:
    """rows: (B, H, 14) relative rows; weights: (B, H), how much a row counts: as much as its chunk is worth, or 0."""

    rows: NDArray[np.float32]
    weights: NDArray[np.float32]


def chunks_at(
    experience: Experience, frames: NDArray[np.int64], horizon: int, stride: int, axes: Axes = "base"
) -> Chunks:
    """What followed some frames. stride: recorded frames per row of a chunk. frames: (B,)"""
    offsets = np.arange(horizon * stride)
    steps = np.minimum(frames[:, None] + offsets, len(experience) - 1)  # (B, H * stride)
    actions = experience.actions[steps]  # (B, H * stride, 14)
    velocities = actions[..., LINEAR_VELOCITY.start : ANGULAR_VELOCITY.stop].astype(np.float64)
    travelled = np.cumsum(velocities[..., :3], axis=1) / experience.fps
    rows = np.zeros((len(frames), horizon, ACTION_WIDTH), np.float32)
    rows[:, 1:, POSITION] = travelled[:, stride - 1 : -1 : stride][:, : horizon - 1]
    rows[..., QUATERNION] = turned(velocities[..., 3:], 1.0 / experience.fps)[:, ::stride]
    by_row = velocities.reshape(len(frames), horizon, stride, 6)
    rows[..., LINEAR_VELOCITY.start : ANGULAR_VELOCITY.stop] = by_row.mean(axis=2)
    rows[..., GRIPPER] = actions[:, ::stride, GRIPPER]
    seen = along(axes, rows.astype(np.float64), commanded_orientations(experience.states[frames].astype(np.float64)))
    return Chunks(seen.astype(np.float32), _weights(experience, frames, steps, stride))


def _weights(
    experience: Experience, frames: NDArray[np.int64], steps: NDArray[np.int64], stride: int
) -> NDArray[np.float32]:
    """Row i is real if the episode reaches its end, every frame until then is worth something, and nobody pushed the
    robot before its last frame. -> (B, H)
    """
    same = experience.episodes[steps] == experience.episodes[frames][:, None]
    same &= frames[:, None] + np.arange(steps.shape[1]) < len(experience)
    pushed_before = np.zeros(steps.shape, bool)
    pushed_before[:, 1:] = np.logical_or.accumulate(experience.is_pushed[steps], axis=1)[:, :-1]
    learned = np.logical_and.accumulate(experience.worth[steps] > 0.0, axis=1)
    is_real = (same & learned & ~pushed_before)[:, stride - 1 :: stride]
    weights: NDArray[np.float32] = is_real * experience.worth[frames][:, None]
    return weights


def stride_of(fps: int, dt_s: float) -> int:
    """How many recorded frames there are to a row of a chunk. Raises LearningError unless it is a whole number."""
    frames = fps * dt_s
    if abs(frames - round(frames)) > 1e-6 or round(frames) < 1:
        raise LearningError(
            f"model.decoder.dt_s is {dt_s} s; it must be a multiple of the data's {1.0 / fps:g} s ({fps} frames/s)"
        )
    return round(frames)


def model_states(recorded: NDArray[np.float32]) -> NDArray[np.float32]:
    """The recorded observation.state, (N, 15 or more), as the network's state. -> (N, 14)"""
    return np.stack([state_of(_observation(row.astype(np.float64))) for row in recorded]).astype(np.float32)


def places_of(
    privileged: NDArray[np.float32], goal_shown: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the task's things are, of Meta-World's observation, (N, 39), and which of these numbers can be seen.

    A second thing that a task lacks, and a goal that is hidden by then, are zeros there. goal_shown: (N,), whether the
    episode shows one at all. -> (N, 9), (N, 9)
    """
    places = privileged[:, PLACE_COLUMNS]
    known = np.ones(places.shape, bool)
    known[:, 3:6] = np.abs(places[:, 3:6]).max(axis=1, keepdims=True) > 0.0
    known[:, 6:9] = goal_shown[:, None] & (np.abs(places[:, 6:9]).max(axis=1, keepdims=True) > 0.0)
    return places, known


def difficulty(experience: Experience) -> FloatArray:
    """How hard each episode is, measured on the demonstration itself: 0 easiest to 1 hardest. -> (episodes,)

    The longer the expert took and the more often it was pushed, the harder; ranks, so that the scale does not matter.
    """
    count = len(experience.tasks)
    lengths = np.bincount(experience.episodes, minlength=count)
    pushed = np.bincount(experience.episodes, weights=experience.is_pushed, minlength=count)
    order = np.argsort(np.argsort(lengths + pushed, kind="stable"), kind="stable")
    ranks: FloatArray = order / max(count - 1, 1)
    return ranks


def joined(parts: Sequence[Experience]) -> Experience:
    """Several datasets as one. Raises LearningError if they were recorded at different rates or with other cameras."""
    first = parts[0]
    for part in parts:
        if part.fps != first.fps or set(part.images) != set(first.images):
            raise LearningError(
                f"datasets of {part.fps} frames/s with {', '.join(part.images)} and of {first.fps} frames/s with "
                f"{', '.join(first.images)} cannot be learned from together"
            )
    if len(parts) == 1:
        return first
    starts = np.cumsum([0, *(len(part.tasks) for part in parts)])
    return Experience(
        fps=first.fps,
        images={view: Stacked([part.images[view] for part in parts]) for view in first.images},
        states=np.concatenate([part.states for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        places=np.concatenate([part.places for part in parts]),
        places_known=np.concatenate([part.places_known for part in parts]),
        is_pushed=np.concatenate([part.is_pushed for part in parts]),
        worth=np.concatenate([part.worth for part in parts]),
        is_start=np.concatenate([part.is_start for part in parts]),
        episodes=np.concatenate([part.episodes + start for part, start in zip(parts, starts, strict=False)]),
        tasks=tuple(task for part in parts for task in part.tasks),
        worlds=tuple(world for part in parts for world in part.worlds),
        subtasks=np.concatenate([part.subtasks for part in parts]),
        outcomes=np.concatenate([part.outcomes for part in parts]),
        labels=joined_labels([part.labels for part in parts]),
    )


def _observation(row: FloatArray) -> Observation:
    return Observation(
        t_obs_ns=0,
        instruction="",
        images={},
        ee_pose=Pose(row[0:3], row[3:7]),
        commanded_pose=Pose(row[7:10], row[10:14]),
        joint_positions=None,
        gripper=float(row[14]),
    )
