"""A human who helps out: watches the robot, and when it takes too long holds the deadman and does the task.

A scripted one, through the topics that a joystick's driver and the teleop node use. What it wants is what Meta-World's
expert would do. Arguments: the task, and for how long after an instruction the policy may try [s].
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String

from vla_ros.control import channels
from vla_ros.geometry import zero_twist
from vla_ros.interface import reading
from vla_ros.learning.experts import Expert
from vla_ros.policy.metaworld_action import OBSERVATION, to_gripper, to_velocity
from vla_ros.ros import messages
from vla_ros.ros.inputs import NEWEST, SAID_ONCE
from vla_ros.types import NS_PER_S, is_hold

_BASE, _GRIPPER = "base", "gripper"
_EVERY = 2  # of the robot's 80 states per second one is answered


class ScriptedHuman(Node):
    """In command from `patience_s` after an instruction until the next "stop"."""

    def __init__(self, task: str, patience_s: float) -> None:
        super().__init__("human", parameter_overrides=[Parameter("use_sim_time", value=True)])
        self._expert = Expert(task)
        self._patience_ns = round(patience_s * NS_PER_S)
        self._acts_from_ns: int | None = None
        self._states = 0
        self._deadman = self.create_publisher(Bool, channels.TELEOP_DEADMAN, NEWEST)
        self._twist = self.create_publisher(TwistStamped, channels.TELEOP_TWIST, NEWEST)
        self._gripper = self.create_publisher(JointState, channels.TELEOP_GRIPPER, NEWEST)
        self.create_subscription(String, channels.COMMAND, self._on_command, SAID_ONCE)
        self.create_subscription(JointState, channels.PRIVILEGED, self._on_state, NEWEST)

    def _on_command(self, msg: Any) -> None:
        told = reading.from_string(msg)
        now_ns = self.get_clock().now().nanoseconds
        self._acts_from_ns = None if is_hold(told) else now_ns + self._patience_ns

    def _on_state(self, msg: Any) -> None:
        self._states += 1
        if self._states % _EVERY:
            return
        stamp_ns = reading.from_stamp(msg.header.stamp)
        acts = self._acts_from_ns is not None and stamp_ns >= self._acts_from_ns
        self._deadman.publish(messages.to_bool(acts))
        if not acts:
            return
        action = self._expert.decide(reading.from_numbers(msg)[OBSERVATION]).action
        twist = replace(zero_twist(), linear=to_velocity(action))
        self._twist.publish(messages.to_twist_stamped(twist, stamp_ns, _BASE))
        self._gripper.publish(messages.to_gripper(to_gripper(action), _GRIPPER, stamp_ns))


def main() -> None:
    """Until killed."""
    rclpy.init()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(ScriptedHuman(sys.argv[1], float(sys.argv[2])))


if __name__ == "__main__":
    main()
