"""What a running loop said, with the steady instant at which each message arrived, and questions about it."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from helpers import Probe
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_ros.ros.inbox import steady_reception
from vla_ros.types import NS_PER_S

_DEEP = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
_CLOCK = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class Entry(NamedTuple):
    """received_ns: steady; stamp_ns: ROS time of the header, or 0."""

    received_ns: int
    stamp_ns: int
    value: Any


def _stamp(header: Any) -> int:
    return int(header.stamp.sec * NS_PER_S + header.stamp.nanosec)


def _twist(msg: TwistStamped) -> tuple[int, float]:
    """A speed that is zero only if all six numbers are."""
    linear, angular = msg.twist.linear, msg.twist.angular
    return _stamp(msg.header), float(np.linalg.norm([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]))


def _pose(msg: PoseStamped) -> tuple[int, np.ndarray]:
    position = msg.pose.position
    return _stamp(msg.header), np.array([position.x, position.y, position.z])


def _status(msg: DiagnosticArray) -> tuple[int, str]:
    return _stamp(msg.header), str(msg.status[0].message)


def _tick(msg: String) -> tuple[int, dict[str, Any]]:
    line = json.loads(msg.data)
    return line["ros_ns"], line


def _diagnosis(msg: DiagnosticArray) -> tuple[int, tuple[str, dict[str, str]]]:
    status = msg.status[0]
    return _stamp(msg.header), (str(status.name), {pair.key: pair.value for pair in status.values})


SOURCES: dict[str, tuple[type, Callable[[Any], tuple[int, Any]]]] = {
    "target_twist": (TwistStamped, _twist),
    "sim/commanded_pose": (PoseStamped, _pose),
    "ee_twist": (TwistStamped, _twist),
    "guard/status": (DiagnosticArray, _status),
    "policy/status": (DiagnosticArray, _status),
    "guard/trace": (String, _tick),
    "policy/trace": (String, _tick),
    "/diagnostics": (DiagnosticArray, _diagnosis),
    "/clock": (Clock, lambda msg: (msg.clock.sec * NS_PER_S + msg.clock.nanosec, None)),
}


class Records:
    """Everything since the start, by topic, in order of arrival."""

    def __init__(self, probe: Probe) -> None:
        self._entries: dict[str, list[Entry]] = {topic: [] for topic in SOURCES}
        for topic, (kind, read) in SOURCES.items():
            qos = _CLOCK if topic == "/clock" else _DEEP
            probe.node.create_subscription(kind, topic, partial(self._store, topic, read), qos)

    def _store(self, topic: str, read: Callable[[Any], tuple[int, Any]], msg: Any, info: Any) -> None:
        received_ns = steady_reception(info["received_timestamp"], time.time_ns(), time.monotonic_ns())
        self._entries[topic].append(Entry(received_ns, *read(msg)))

    def since(self, topic: str, from_ns: int) -> list[Entry]:
        """What arrived at or after a steady instant."""
        entries = self._entries[topic]
        return entries[bisect_left(entries, from_ns, key=lambda entry: entry.received_ns) :]

    def last(self, topic: str, window_s: float) -> list[Entry]:
        """What arrived in the last window_s of steady time."""
        return self.since(topic, time.monotonic_ns() - round(window_s * NS_PER_S))

    def newest(self, topic: str) -> Any:
        """The value that arrived last; None if none did."""
        entries = self._entries[topic]
        return entries[-1].value if entries else None

    def traces(self, topic: str, from_ns: int) -> list[dict[str, Any]]:
        """Ticks that were made at or after a steady instant."""
        return [entry.value for entry in self.since(topic, from_ns) if entry.value["steady_ns"] >= from_ns]

    def words(self, topic: str, from_ns: int) -> list[str]:
        """Statuses since a steady instant, each once in a row."""
        texts = [entry.value for entry in self.since(topic, from_ns)]
        return [text for index, text in enumerate(texts) if index == 0 or text != texts[index - 1]]

    def ros_ns(self, steady_ns: int) -> int:
        """ROS time at a steady instant: the clock last heard by then, or the first one ever."""
        clock = self._entries["/clock"]
        index = bisect_left(clock, steady_ns, key=lambda entry: entry.received_ns)
        return clock[max(0, index - 1)].stamp_ns

    def steady_ns(self, ros_ns: int) -> int | None:
        """When the clock reached a ROS time; None if it has not yet."""
        clock = self._entries["/clock"]
        index = bisect_left(clock, ros_ns, key=lambda entry: entry.stamp_ns)
        return clock[index].received_ns if index < len(clock) else None

    def zero_since(self, from_ns: int) -> int | None:
        """Since when the twist that the robot was sent is zero, as of now; None if it is not, or none was sent."""
        sent = self.since("target_twist", from_ns)
        if not sent or sent[-1].value != 0.0:
            return None
        moving = [entry for entry in sent if entry.value != 0.0]
        return from_ns if not moving else next(e.received_ns for e in sent if e.received_ns > moving[-1].received_ns)

    def still_since(self, from_ns: int) -> int:
        """When the pose that the robot is told to be at last changed, or from_ns if it has not since."""
        told = self.since("sim/commanded_pose", from_ns)
        changes = [after.received_ns for before, after in pairwise(told) if (before.value != after.value).any()]
        return changes[-1] if changes else from_ns
