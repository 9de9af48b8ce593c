"""Messages to numpy. Reading touches attributes only: rclpy's messages and those of a bag's reader do alike.

What cannot be read raises MessageError, whose kind is one of: bad_stamp, wrong_frame, not_finite, not_unit,
out_of_range, wrong_length, missing_joint, bad_provenance, too_long, bad_json; images have kinds of their own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.errors import MessageError
from vla_ros.types import NS_PER_S, FloatArray, JointState, Json, Pose, Provenance, Twist

MAX_TEXT = 4096  # characters of an instruction
UNIT_TOLERANCE = 1e-3  # how far from 1 a quaternion's length may be
_RANGE_TOLERANCE = 1e-6
_PROVENANCE = re.compile(r"([0-9a-f]{16})/(\d{1,19})", re.ASCII)


@dataclass(frozen=True)
class Status:
    """One diagnostic status. level: 0 ok, 1 warning, 2 error, 3 stale; message is for people, values for machines."""

    name: str
    level: int
    message: str
    values: Mapping[str, str]


def from_stamp(stamp: Any) -> int:
    """builtin_interfaces/Time -> ROS time [ns]."""
    if stamp.sec < 0 or stamp.nanosec >= NS_PER_S:
        raise MessageError("bad_stamp", f"{stamp.sec} s and {stamp.nanosec} ns is not an instant")
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def from_pose_stamped(msg: Any, base_frame: str) -> Pose:
    """geometry_msgs/PoseStamped in the base frame -> Pose, its quaternion normalised."""
    _require_frame(msg, base_frame)
    position = _finite(_xyz(msg.pose.position), "the position")
    orientation = msg.pose.orientation
    quaternion = _finite([*_xyz(orientation), orientation.w], "the quaternion")
    return unit_pose(position, quaternion)


def unit_pose(position: FloatArray, quaternion: FloatArray) -> Pose:
    """A pose as everybody has it who read it from a message: its quaternion normalised."""
    norm = math.hypot(*quaternion.tolist())
    if abs(norm - 1.0) > UNIT_TOLERANCE:
        raise MessageError("not_unit", f"the quaternion's length is {norm:.6g}, not 1")
    return Pose(position, quaternion / norm)


def from_twist_stamped(msg: Any, base_frame: str) -> Twist:
    """geometry_msgs/TwistStamped in the base frame -> Twist."""
    _require_frame(msg, base_frame)
    linear = _finite(_xyz(msg.twist.linear), "the linear velocity")
    return Twist(linear, _finite(_xyz(msg.twist.angular), "the angular velocity"))


def from_joint_state(msg: Any, joints: tuple[str, ...]) -> JointState:
    """sensor_msgs/JointState -> the positions of `joints`, in that order; others on the topic are ignored."""
    names = list(msg.name)
    if len(names) != len(msg.position) or len(set(names)) != len(names):
        raise MessageError("wrong_length", f"{len(names)} joint names for {len(msg.position)} positions, or one twice")
    place = {name: index for index, name in enumerate(names)}
    missing = [joint for joint in joints if joint not in place]
    if missing:
        raise MessageError("missing_joint", f"no {', '.join(missing)} among the joints {', '.join(names)}")
    return JointState(joints, _finite([msg.position[place[joint]] for joint in joints], "a joint position"))


def from_gripper(msg: Any) -> float:
    """sensor_msgs/JointState with one position -> gripper opening, 0 closed to 1 open."""
    if len(msg.position) != 1:
        raise MessageError("wrong_length", f"a gripper has one position, not {len(msg.position)}")
    opening = float(_finite(msg.position, "the gripper's opening")[0])
    if not -_RANGE_TOLERANCE <= opening <= 1.0 + _RANGE_TOLERANCE:
        raise MessageError("out_of_range", f"the gripper's opening {opening:.6g} is not within 0 (closed) and 1 (open)")
    return min(max(opening, 0.0), 1.0)


def from_numbers(msg: Any) -> FloatArray:
    """sensor_msgs/JointState used as a stamped list of numbers -> (m,)."""
    return _finite(msg.position, "a value")


def from_provenance(msg: Any) -> Provenance:
    """std_msgs/Header whose frame_id is "<instruction hash>/<t_obs in ns>" -> Provenance. Its stamp is the tick's."""
    match = _PROVENANCE.fullmatch(msg.frame_id)
    if match is None:
        text = f"{msg.frame_id[:40]!r} is not 16 hex digits, a slash and an instant in nanoseconds"
        raise MessageError("bad_provenance", text)
    return Provenance(match[1], int(match[2]))


def from_bool(msg: Any) -> bool:
    """std_msgs/Bool -> bool."""
    return bool(msg.data)


def from_float(msg: Any) -> float:
    """std_msgs/Float64 -> float."""
    return float(_finite([msg.data], "the value")[0])


def from_string(msg: Any) -> str:
    """std_msgs/String of at most MAX_TEXT characters -> str."""
    if len(msg.data) > MAX_TEXT:
        raise MessageError("too_long", f"the text has {len(msg.data)} characters; at most {MAX_TEXT} are read")
    return str(msg.data)


def from_clock(msg: Any) -> int:
    """rosgraph_msgs/Clock -> ROS time [ns]."""
    return from_stamp(msg.clock)


def from_trace(msg: Any) -> Json:
    """std_msgs/String with one JSON object -> mapping."""
    try:
        record = json.loads(msg.data)
    except (ValueError, RecursionError) as error:
        raise MessageError("bad_json", f"a trace that is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise MessageError("bad_json", "a trace that is not a JSON object")
    return record


def from_diagnostics(msg: Any) -> tuple[Status, ...]:
    """diagnostic_msgs/DiagnosticArray -> statuses."""
    return tuple(
        Status(status.name, status.level[0], status.message, {pair.key: pair.value for pair in status.values})
        for status in msg.status
    )


def _require_frame(msg: Any, base_frame: str) -> None:
    if msg.header.frame_id != base_frame:
        found = msg.header.frame_id
        raise MessageError("wrong_frame", f"the frame is {found[:40]!r}; only the contract's {base_frame!r} is read")


def _finite(values: Iterable[float], what: str) -> FloatArray:
    numbers = np.array(values, np.float64)
    if not all(map(math.isfinite, numbers.tolist())):  # several times faster than numpy's for a few numbers
        raise MessageError("not_finite", f"{what} is not finite: {numbers[:16].tolist()}")
    return numbers


def _xyz(vector: Any) -> list[float]:
    return [vector.x, vector.y, vector.z]
