"""Numpy to ROS messages, each by its `to_x`. Images: `image_messages`.

Its counterpart, `vla_ros.interface.reading`, reads them and needs no ROS, so that it serves bags too.
"""

from __future__ import annotations

import array
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, PoseStamped, Quaternion, TwistStamped, Vector3
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState as JointStateMessage
from std_msgs.msg import Bool, Float64, Header, String

from vla_ros.types import NS_PER_S, FloatArray, JointState, Json, Pose, Provenance, Twist


def to_stamp(stamp_ns: int) -> Time:
    """ROS time [ns], 0 to 2^31 s -> builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    return Time(sec=seconds, nanosec=nanoseconds)


def to_stamped_header(stamp_ns: int, frame: str) -> Header:
    """The header of anything stamped."""
    return Header(stamp=to_stamp(stamp_ns), frame_id=frame)


def to_pose_stamped(pose: Pose, stamp_ns: int, frame: str) -> PoseStamped:
    """Pose -> geometry_msgs/PoseStamped."""
    msg = PoseStamped(header=to_stamped_header(stamp_ns, frame))
    _fill(msg.pose.position, pose.position)
    _fill(msg.pose.orientation, pose.quaternion)
    return msg


def to_twist_stamped(twist: Twist, stamp_ns: int, frame: str) -> TwistStamped:
    """Twist -> geometry_msgs/TwistStamped."""
    msg = TwistStamped(header=to_stamped_header(stamp_ns, frame))
    _fill(msg.twist.linear, twist.linear)
    _fill(msg.twist.angular, twist.angular)
    return msg


def to_joint_state(joints: JointState, stamp_ns: int) -> JointStateMessage:
    """JointState -> sensor_msgs/JointState with positions only."""
    header = to_stamped_header(stamp_ns, "")
    return JointStateMessage(header=header, name=list(joints.names), position=_doubles(joints.positions))


def to_gripper(opening: float, joint: str, stamp_ns: int) -> JointStateMessage:
    """Gripper opening, 0 closed to 1 open -> sensor_msgs/JointState with one position."""
    return to_joint_state(JointState((joint,), np.array([opening])), stamp_ns)


def to_numbers(values: FloatArray, stamp_ns: int) -> JointStateMessage:
    """(m,) -> sensor_msgs/JointState used as a stamped list of numbers."""
    return JointStateMessage(header=to_stamped_header(stamp_ns, ""), position=_doubles(values))


def to_provenance(provenance: Provenance, stamp_ns: int) -> Header:
    """Provenance -> std_msgs/Header."""
    return to_stamped_header(stamp_ns, f"{provenance.instruction_hash}/{provenance.t_obs_ns}")


def to_bool(value: bool) -> Bool:
    """bool -> std_msgs/Bool."""
    return Bool(data=bool(value))


def to_float(value: float) -> Float64:
    """float -> std_msgs/Float64."""
    return Float64(data=float(value))


def to_string(text: str) -> String:
    """str -> std_msgs/String."""
    return String(data=text)


def to_clock(ros_ns: int) -> Clock:
    """ROS time [ns] -> rosgraph_msgs/Clock."""
    return Clock(clock=to_stamp(ros_ns))


def to_trace(record: Json) -> String:
    """Mapping, numpy values allowed -> std_msgs/String with one line of JSON. NaN and infinities become strings."""
    try:
        line = json.dumps(record, separators=(",", ":"), default=_plain, allow_nan=False)
    except ValueError:
        strict = json.loads(json.dumps(record, default=_plain), parse_constant=str)
        line = json.dumps(strict, separators=(",", ":"))
    return String(data=line)


def to_diagnostics(name: str, level: int, message: str, values: Mapping[str, str], stamp_ns: int) -> DiagnosticArray:
    """One status -> diagnostic_msgs/DiagnosticArray. level: 0 ok, 1 warning, 2 error, 3 stale."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    status = DiagnosticStatus(name=name, level=bytes([level]), message=message, values=pairs)
    return DiagnosticArray(header=to_stamped_header(stamp_ns, ""), status=[status])


def _fill(part: Point | Vector3 | Quaternion, values: FloatArray) -> None:
    for axis, value in zip("xyzw", values.tolist(), strict=False):
        setattr(part, axis, value)


def _doubles(values: FloatArray) -> array.array[float]:
    return array.array("d", values.tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a trace cannot hold a {type(value).__name__}")
