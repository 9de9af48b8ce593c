"""What chunks are judged by: what the robot was sent when the bag was recorded, who was in command, and the
instructions, at any instant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.control.arbiter import Source
from vla_ros.control.chunks import make_row
from vla_ros.control.safety import Motion
from vla_ros.replay.decisions import Batch, GuardDecision, Instructed, RecordedCommand
from vla_ros.replay.judging.samples import IntArray
from vla_ros.types import (
    ACTION_WIDTH,
    GRIPPER,
    NS_PER_S,
    QUATERNION,
    FloatArray,
    Target,
    is_hold,
)

# What is older is forgotten: no answer is as late as that.
MEMORY_S = 60.0


@dataclass(frozen=True, eq=False)
class Track:
    """Commands over time. at_ns: (N,) ROS time, increasing; rows: (N, 14), gripper NaN where none was sent yet."""

    at_ns: IntArray
    rows: FloatArray

    def part(self, kept: slice | NDArray[np.intp]) -> Track:
        """Some of them."""
        return Track(self.at_ns[kept], self.rows[kept])


@dataclass(frozen=True, eq=False)
class Told:
    """Instructions and when they began. begins_ns: (N,) ROS time; are_holds: (N,); forgotten: how many came before."""

    begins_ns: IntArray
    are_holds: NDArray[np.bool_]
    forgotten: int = 0

    def number(self, instants_ns: IntArray) -> NDArray[np.intp]:
        """Which one held at instants of any shape, counted from the first of all; -1 before it."""
        return np.asarray(np.searchsorted(self.begins_ns, instants_ns, side="right") - 1 + self.forgotten, np.intp)

    def asks(self, instants_ns: IntArray) -> NDArray[np.bool_]:
        """Whether there was one, which asked for something, at instants of any shape."""
        index = np.searchsorted(self.begins_ns, instants_ns, side="right") - 1
        return np.asarray((index >= 0) & ~np.append(self.are_holds, True)[index])

    def and_then(self, told: Sequence[Instructed]) -> Told:
        """With more of them."""
        begins_ns = np.array([one.ros_ns for one in told], np.int64)
        are_holds = np.array([is_hold(one.text) for one in told], np.bool_)
        return Told(
            np.concatenate([self.begins_ns, begins_ns]), np.concatenate([self.are_holds, are_holds]), self.forgotten
        )

    def since(self, at_ns: int) -> Told:
        """Without those that had ended by an instant."""
        first = _newest(self.begins_ns, at_ns)
        return Told(self.begins_ns[first:], self.are_holds[first:], self.forgotten + first)


NOTHING_TOLD = Told(np.zeros(0, np.int64), np.zeros(0, np.bool_))


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What chunks are compared in. track: what the robot was sent; told: the instructions.

    ticks_ns, are_human: (N,) the guard's ticks, ROS time, and whether a human was in command.
    """

    track: Track
    told: Told
    ticks_ns: IntArray
    are_human: NDArray[np.bool_]

    def is_human(self, instants_ns: IntArray) -> NDArray[np.bool_]:
        """Whether a human was in command at instants of any shape, by the guard's last tick until then."""
        index = np.searchsorted(self.ticks_ns, instants_ns, side="right") - 1
        return np.asarray((index >= 0) & np.append(self.are_human, False)[index])

    def and_then(self, batch: Batch) -> Surroundings:
        """With what followed."""
        track = recorded_track(batch.recorded)
        ticks_ns = np.array([tick.now.ros_ns for tick in batch.guard], np.int64)
        are_human = np.array([tick.source == Source.TELEOP.value for tick in batch.guard], np.bool_)
        return Surroundings(
            Track(*_in_order(self.track.at_ns, track.at_ns, self.track.rows, track.rows)),
            self.told.and_then(batch.instructions),
            np.concatenate([self.ticks_ns, ticks_ns]),
            np.concatenate([self.are_human, are_human]),
        )

    def since(self, at_ns: int) -> Surroundings:
        """Without what was over by an instant."""
        sent, tick = _newest(self.track.at_ns, at_ns), _newest(self.ticks_ns, at_ns)
        track = Track(self.track.at_ns[sent:], self.track.rows[sent:])
        return Surroundings(track, self.told.since(at_ns), self.ticks_ns[tick:], self.are_human[tick:])


def no_surroundings() -> Surroundings:
    """Those of nothing."""
    return Surroundings(recorded_track(()), NOTHING_TOLD, np.zeros(0, np.int64), np.zeros(0, np.bool_))


def recorded_track(recorded: Sequence[RecordedCommand]) -> Track:
    """What the robot was sent by the recording."""
    return _track([(command.stamp_ns, command.motion) for command in recorded])


def replayed_track(guard: Sequence[GuardDecision]) -> Track:
    """What the robot would have been sent by the replay; ticks that send nothing are left out."""
    return _track([(tick.now.ros_ns, tick.command) for tick in guard if tick.command is not None])


def rows_at(track: Track, instants_ns: IntArray, max_gap_s: float) -> FloatArray:
    """Commands at instants of any shape, linear in between; the gripper is the last one sent. -> (..., 14)

    All NaN outside the track, and between two commands that are further apart than max_gap_s: there the robot was
    sent nothing.
    """
    found = np.full((*instants_ns.shape, ACTION_WIDTH), np.nan)
    if len(track.at_ns) < 2:
        return found
    after = np.clip(np.searchsorted(track.at_ns, instants_ns, side="right"), 1, len(track.at_ns) - 1)
    before = after - 1
    gap_ns = track.at_ns[after] - track.at_ns[before]
    fraction = (instants_ns - track.at_ns[before]) / np.maximum(gap_ns, 1)
    known = (fraction >= 0.0) & (fraction <= 1.0) & (gap_ns <= max_gap_s * NS_PER_S)
    first, second = track.rows[before], _same_hemisphere(track.rows[before], track.rows[after])
    rows = first + fraction[..., None] * (second - first)
    rows[..., QUATERNION] /= np.linalg.norm(rows[..., QUATERNION], axis=-1, keepdims=True)
    rows[..., GRIPPER] = np.where(fraction >= 1.0, second[..., GRIPPER], first[..., GRIPPER])
    found[known] = rows[known]
    return found


def _track(commands: Sequence[tuple[int, Motion]]) -> Track:
    """In the order of their instants; of several at one instant the last."""
    at_ns = np.array([instant for instant, _ in commands], np.int64)
    rows = np.array([_row(motion) for _, motion in commands]).reshape(-1, ACTION_WIDTH)
    return Track(*_in_order(np.zeros(0, np.int64), at_ns, np.zeros((0, ACTION_WIDTH)), rows))


def _in_order(
    first_ns: IntArray, second_ns: IntArray, first: FloatArray, second: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Two stretches as one, by their instants; of several at one instant the last. -> (N,), (N, 14)"""
    at_ns, rows = np.concatenate([first_ns, second_ns]), np.concatenate([first, second])
    order = np.argsort(at_ns, kind="stable")
    at_ns, rows = at_ns[order], rows[order]
    last = np.append(at_ns[1:] != at_ns[:-1], True)[: len(at_ns)]
    return at_ns[last], rows[last]


def _newest(instants_ns: IntArray, at_ns: int) -> int:
    """Index of the last one until an instant; 0 where there is none."""
    return max(int(np.searchsorted(instants_ns, at_ns, side="right")) - 1, 0)


def _row(motion: Motion) -> FloatArray:
    return make_row(Target(motion.pose, motion.twist, math.nan if motion.gripper is None else motion.gripper))


def _same_hemisphere(rows: FloatArray, others: FloatArray) -> FloatArray:
    """The other rows with quaternions of the sign that is nearer to the rows'. Both (..., 14)."""
    near: FloatArray = others.copy()
    dots = (rows[..., QUATERNION] * others[..., QUATERNION]).sum(axis=-1, keepdims=True)
    near[..., QUATERNION] = np.where(dots < 0.0, -others[..., QUATERNION], others[..., QUATERNION])
    return near
