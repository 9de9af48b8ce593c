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
MEMORY_NS = 60 * NS_PER_S


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

    def anew(self) -> Told:
        """In a new time, in which the last one holds from the beginning."""
        last = max(len(self.begins_ns) - 1, 0)
        begins_ns = np.full_like(self.begins_ns[last:], np.iinfo(np.int64).min)
        return Told(begins_ns, self.are_holds[last:], self.forgotten + last)


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
        ticks_ns = np.array([tick.now.ros_ns for tick in batch.guard], np.int64)
        are_human = np.array([tick.source == Source.TELEOP.value for tick in batch.guard], np.bool_)
        return Surroundings(
            _sorted(self.track, as_recorded(batch.recorded)),
            self.told.and_then(batch.instructions),
            np.concatenate([self.ticks_ns, ticks_ns]),
            np.concatenate([self.are_human, are_human]),
        )

    def between(self, from_ns: int, to_ns: int) -> Surroundings:
        """Without what was over by an instant, and without commands of after another."""
        sent = slice(_newest(self.track.at_ns, from_ns), int(np.searchsorted(self.track.at_ns, to_ns, side="right")))
        tick = _newest(self.ticks_ns, from_ns)
        return Surroundings(
            self.track.part(sent), self.told.since(from_ns), self.ticks_ns[tick:], self.are_human[tick:]
        )


class InOrder:
    """Commands as the robot took them: of several of one instant the last, and none that is older than another.

    The newest is held back, since another may take its place.
    """

    def __init__(self) -> None:
        self._newest = recorded_track(())

    def hear(self, track: Track) -> Track:
        """Those that are certain now. track: in the order of their arrival."""
        at_ns = np.append(self._newest.at_ns, track.at_ns)
        if not len(at_ns):
            return track
        kept = at_ns >= np.maximum.accumulate(at_ns)
        at_ns, rows = at_ns[kept], np.concatenate([self._newest.rows, track.rows])[kept]
        last = np.append(at_ns[1:] != at_ns[:-1], True)
        certain = Track(at_ns[last], rows[last])
        self._newest = certain.part(slice(-1, None))
        return certain.part(slice(-1))

    def end(self) -> Track:
        """The newest."""
        newest, self._newest = self._newest, recorded_track(())
        return newest


def no_surroundings(told: Told = NOTHING_TOLD) -> Surroundings:
    """Those of nothing but an instruction."""
    return Surroundings(recorded_track(()), told, np.zeros(0, np.int64), np.zeros(0, np.bool_))


def recorded_track(recorded: Sequence[RecordedCommand]) -> Track:
    """What the robot was sent by the recording, in the order of the instants; of several at one instant the last."""
    return _sorted(as_recorded(recorded))


def replayed_track(guard: Sequence[GuardDecision]) -> Track:
    """What the robot would have been sent by the replay, likewise; ticks that send nothing are left out."""
    return _sorted(as_replayed(guard))


def as_recorded(recorded: Sequence[RecordedCommand]) -> Track:
    """The same as it comes."""
    return _track([(command.stamp_ns, command.motion) for command in recorded])


def as_replayed(guard: Sequence[GuardDecision]) -> Track:
    """The same as it comes."""
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
    at_ns = np.array([instant for instant, _ in commands], np.int64)
    return Track(at_ns, np.array([_row(motion) for _, motion in commands]).reshape(-1, ACTION_WIDTH))


def _sorted(*tracks: Track) -> Track:
    """Tracks as one, by their instants; of several at one instant the last."""
    at_ns = np.concatenate([track.at_ns for track in tracks])
    rows = np.concatenate([track.rows for track in tracks])
    order = np.argsort(at_ns, kind="stable")
    at_ns, rows = at_ns[order], rows[order]
    last = np.append(at_ns[1:] != at_ns[:-1], True)[: len(at_ns)]
    return Track(at_ns[last], rows[last])


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
