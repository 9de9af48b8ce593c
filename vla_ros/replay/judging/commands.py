"""The commands that the robot was sent when the bag was recorded, at any instant between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.control.arbiter import Source
from vla_ros.control.chunks import make_row
from vla_ros.control.safety import Motion
from vla_ros.replay.decisions import GuardDecision, Instructed, RecordedCommand, Replayed
from vla_ros.replay.judging.samples import IntArray
from vla_ros.types import (
    ACTION_WIDTH,
    GRIPPER,
    NS_PER_S,
    QUATERNION,
    FloatArray,
    Target,
)


@dataclass(frozen=True, eq=False)
class Track:
    """Commands over time. at_ns: (N,) ROS time, increasing; rows: (N, 14), gripper NaN where none was sent yet."""

    at_ns: IntArray
    rows: FloatArray


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


def is_human(replayed: Replayed, instants_ns: IntArray) -> NDArray[np.bool_]:
    """Whether a human was in command at instants of any shape, by the guard's last tick until then."""
    ticks_ns = np.array([tick.now.ros_ns for tick in replayed.guard], np.int64)
    human = np.array([tick.source == Source.TELEOP.value for tick in replayed.guard], np.bool_)
    if not len(ticks_ns):
        return np.zeros(instants_ns.shape, np.bool_)
    index = np.searchsorted(ticks_ns, instants_ns, side="right") - 1
    return np.asarray(human[np.maximum(index, 0)] & (index >= 0))


def instruction_index(instructions: Sequence[Instructed], instants_ns: IntArray) -> NDArray[np.intp]:
    """Which instruction held at instants of any shape; -1 before the first."""
    begins_ns = np.array([instructed.ros_ns for instructed in instructions], np.int64)
    return np.asarray(np.searchsorted(begins_ns, instants_ns, side="right") - 1, np.intp)


def _track(commands: Sequence[tuple[int, Motion]]) -> Track:
    """In the order of their instants; of several at one instant the last."""
    by_instant = {at_ns: _row(motion) for at_ns, motion in commands}
    at_ns = sorted(by_instant)
    rows = np.array([by_instant[instant] for instant in at_ns]).reshape(-1, ACTION_WIDTH)
    return Track(np.array(at_ns, np.int64), rows)


def _row(motion: Motion) -> FloatArray:
    return make_row(Target(motion.pose, motion.twist, math.nan if motion.gripper is None else motion.gripper))


def _same_hemisphere(rows: FloatArray, others: FloatArray) -> FloatArray:
    """The other rows with quaternions of the sign that is nearer to the rows'. Both (..., 14)."""
    near: FloatArray = others.copy()
    dots = (rows[..., QUATERNION] * others[..., QUATERNION]).sum(axis=-1, keepdims=True)
    near[..., QUATERNION] = np.where(dots < 0.0, -others[..., QUATERNION], others[..., QUATERNION])
    return near
