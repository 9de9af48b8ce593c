"""Decisions as ROS messages for a bag, without ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from vla_ros.types import NS_PER_S, POSITION, QUATERNION, Chunk, FloatArray, Pose, Twist

POSE, TWIST, FLOAT = "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/TwistStamped", "std_msgs/msg/Float64"
PATH, DIAGNOSTICS = "nav_msgs/msg/Path", "diagnostic_msgs/msg/DiagnosticArray"


class Builder:
    """Serialized messages of one frame. frame: the contract's base frame."""

    def __init__(self, frame: str) -> None:
        self._frame = frame

    def pose(self, pose: Pose, stamp_ns: int) -> bytes:
        """geometry_msgs/PoseStamped."""
        return self._serialized(POSE, self._pose(pose.position, pose.quaternion, stamp_ns))

    def twist(self, twist: Twist, stamp_ns: int) -> bytes:
        """geometry_msgs/TwistStamped."""
        inner = self._make(
            "geometry_msgs/msg/Twist", linear=self._vector(twist.linear), angular=self._vector(twist.angular)
        )
        return self._serialized(TWIST, self._make(TWIST, header=self._header(stamp_ns), twist=inner))

    def number(self, value: float) -> bytes:
        """std_msgs/Float64."""
        return self._serialized(FLOAT, self._make(FLOAT, data=float(value)))

    def path(self, chunk: Chunk) -> bytes:
        """nav_msgs/Path: each row a pose, stamped with the instant that it is for."""
        poses = [
            self._pose(row[POSITION], row[QUATERNION], chunk.t_obs_ns + round(index * chunk.dt_s * NS_PER_S))
            for index, row in enumerate(chunk.rows)
        ]
        return self._serialized(PATH, self._make(PATH, header=self._header(chunk.t_obs_ns), poses=poses))

    def status(self, name: str, level: int, text: str, values: Mapping[str, str], stamp_ns: int) -> bytes:
        """diagnostic_msgs/DiagnosticArray of one status. level: 0 ok, 1 warning, 2 error."""
        pairs = [self._make("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in values.items()]
        status = self._make(
            "diagnostic_msgs/msg/DiagnosticStatus", level=level, name=name, message=text, hardware_id="", values=pairs
        )
        return self._serialized(DIAGNOSTICS, self._make(DIAGNOSTICS, header=self._header(stamp_ns), status=[status]))

    @cached_property
    def _store(self) -> Any:
        from rosbags.typesys import Stores, get_typestore

        return get_typestore(Stores.ROS2_JAZZY)

    def _pose(self, position: FloatArray, quaternion: FloatArray, stamp_ns: int) -> Any:
        point = self._make("geometry_msgs/msg/Point", **_axes(position.tolist()))
        turn = self._make("geometry_msgs/msg/Quaternion", **_axes(quaternion.tolist()))
        inner = self._make("geometry_msgs/msg/Pose", position=point, orientation=turn)
        return self._make(POSE, header=self._header(stamp_ns), pose=inner)

    def _vector(self, values: FloatArray) -> Any:
        return self._make("geometry_msgs/msg/Vector3", **_axes(values.tolist()))

    def _header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
        stamp = self._make("builtin_interfaces/msg/Time", sec=int(seconds), nanosec=int(nanoseconds))
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=self._frame)

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def _serialized(self, kind: str, message: Any) -> bytes:
        return bytes(self._store.serialize_cdr(message, kind))


def _axes(values: Sequence[float]) -> dict[str, float]:
    return dict(zip("xyzw", values, strict=False))
