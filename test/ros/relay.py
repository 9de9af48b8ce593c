"""A process between the simulated robot and those who watch it, which spoils one topic on demand.

It hands on `raw/TOPIC` as `TOPIC`. The ROS parameter `fault`, "TOPIC KIND", spoils one topic until it is "" again.
"""

from __future__ import annotations

import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.ros.inputs import HISTORY, OFFERED

TOPICS: dict[str, type] = {
    "ee_pose": PoseStamped,
    "joint_states": JointState,
    **{f"camera/{view}/image_raw": Image for view in ("front", "wrist", "top")},
    "camera/wrist/image_raw/compressed": CompressedImage,
}
_FEEDBACK = (PoseStamped, JointState)
DELAY_S = 1.0
FUTURE_S = 10
REMAPPINGS = [word for topic in TOPICS for word in ("-r", f"{topic}:=raw/{topic}")]
"""Arguments for the process whose topics go through the relay."""

# Serialised messages that begin with a header: four bytes of encapsulation, then the stamp's seconds and nanoseconds.
_STAMP = slice(4, 12)


def _frozen(message: bytes, before: bytes) -> bytes:
    """What was seen before, as if it were seen now."""
    return before[:4] + message[_STAMP] + before[12:]


def _from_the_future(message: bytes, _before: bytes) -> bytes:
    (seconds,) = struct.unpack_from("<i", message, 4)
    return message[:4] + struct.pack("<i", seconds + FUTURE_S) + message[8:]


def _corrupt(kind: type, message: bytes, _before: bytes) -> bytes:
    """An image that lacks half of its data, or a pose that is not a number."""
    spoilt = deserialize_message(message, kind)
    if isinstance(spoilt, (Image, CompressedImage)):
        spoilt.data = spoilt.data[: len(spoilt.data) // 2]
    else:
        spoilt.pose.position.x = float(np.nan)
    return bytes(serialize_message(spoilt))


def _undecodable(message: bytes, _before: bytes) -> bytes:
    """A jpeg file from its header to its end, whose quantisation tables have become comments."""
    spoilt = deserialize_message(message, CompressedImage)
    spoilt.data = array("B", bytes(spoilt.data).replace(b"\xff\xdb", b"\xff\xfe"))
    return bytes(serialize_message(spoilt))


class Relay(Node):
    """Hands messages on as they come, unread."""

    def __init__(self) -> None:
        super().__init__("relay")
        self._fault = ""
        self._good: dict[str, bytes] = {}
        self._late: deque[tuple[float, str, bytes]] = deque()
        self._publisher_of = {
            topic: self.create_publisher(kind, topic, OFFERED if kind in _FEEDBACK else HISTORY)
            for topic, kind in TOPICS.items()
        }
        for topic, kind in TOPICS.items():
            self.create_subscription(kind, f"raw/{topic}", partial(self._relay, topic, kind), HISTORY, raw=True)
        self.declare_parameter("fault", "")
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(0.01, self._send_late)

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "fault":
                self._fault = parameter.value
                self._late.clear()
        return SetParametersResult(successful=True)

    def _relay(self, topic: str, kind: type, message: bytes) -> None:
        spoilt_topic, _, fault = self._fault.partition(" ")
        if spoilt_topic != topic:
            self._good[topic] = message
            self._publisher_of[topic].publish(message)
        elif fault == "delay":
            self._late.append((time.monotonic() + DELAY_S, topic, message))
        elif fault != "drop":
            self._publisher_of[topic].publish(_spoilers(kind)[fault](message, self._good[topic]))

    def _send_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, topic, message = self._late.popleft()
            self._publisher_of[topic].publish(message)


def _spoilers(kind: type) -> dict[str, Callable[[bytes, bytes], bytes]]:
    return {
        "freeze": _frozen,
        "duplicate": lambda _message, before: before,
        "corrupt": partial(_corrupt, kind),
        "undecodable": _undecodable,
        "future": _from_the_future,
        "torn": lambda message, _before: message[: len(message) // 2],
    }


def main() -> None:
    """Until killed."""
    rclpy.init(args=sys.argv)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(Relay())


if __name__ == "__main__":
    main()
