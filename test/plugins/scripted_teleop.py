"""A human for tests: holds the deadman and pushes the robot upwards until killed. Argument `release`: holds nothing."""

from __future__ import annotations

import sys
from contextlib import suppress

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool

RATE_HZ = 40.0
SPEED_M_S = 0.1


class ScriptedTeleop(Node):
    """Publishes at a steady rate, whatever the robot does. Alternates up and down, so that it may go on for long."""

    def __init__(self, held: bool) -> None:
        super().__init__("scripted_teleop", parameter_overrides=[Parameter("use_sim_time", value=True)])
        self._held = held
        self._ticks = 0
        self._deadman = self.create_publisher(Bool, "teleop/deadman", 1)
        self._twist = self.create_publisher(TwistStamped, "teleop/target_twist", 1)
        self.create_timer(1.0 / RATE_HZ, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        twist = TwistStamped()
        twist.header.frame_id = "base"
        twist.header.stamp = self.get_clock().now().to_msg()
        twist.twist.linear.z = SPEED_M_S if self._ticks // round(RATE_HZ) % 2 == 0 else -SPEED_M_S
        if self._held:
            self._twist.publish(twist)
        self._deadman.publish(Bool(data=self._held))


def main() -> None:
    """Until killed."""
    rclpy.init()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(ScriptedTeleop("release" not in sys.argv))


if __name__ == "__main__":
    main()
