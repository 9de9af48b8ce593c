"""A robot for a guard alone: it is where it was last told to be, and a human who pushes it. In real time."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from helpers import Probe, Process, wait_for
from rclpy.qos import QoSProfile
from records import Entry
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from vla_ros.contract_file import load_contract
from vla_ros.interface import reading
from vla_ros.ros import messages
from vla_ros.ros.inputs import LATCHING, NEWEST, OFFERED
from vla_ros.types import FloatArray, Pose, Twist

HOME = Pose(np.array([0.0, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))
PERIOD_S = 0.01


class ObedientRobot:
    """commands: the twists that the guard has sent, by arrival, with their linear velocity as value."""

    def __init__(self, probe: Probe, contract: Path) -> None:
        self.contract = load_contract(contract)
        self.probe = probe
        self.commands: list[Entry] = []
        self._pose = HOME
        self._push: FloatArray | None = None
        node = probe.node
        self._measured = node.create_publisher(PoseStamped, self.contract.feedback.ee_pose.topic, OFFERED)
        self._deadman = node.create_publisher(Bool, "teleop/deadman", NEWEST)
        self._twist = node.create_publisher(TwistStamped, "teleop/target_twist", NEWEST)
        self._stop = node.create_publisher(Bool, self.contract.emergency_stop.topic, LATCHING)
        deep = QoSProfile(depth=200)
        node.create_subscription(PoseStamped, self.contract.outputs.pose, self._obey, deep)
        node.create_subscription(TwistStamped, self.contract.outputs.twist, self._note, deep)
        node.create_timer(PERIOD_S, self._publish)

    def arm(self, armed: bool = True) -> Any:
        """One attempt; the answer says why it was refused."""
        return self.probe.call(SetBool, "guard/arm", SetBool.Request(data=armed))

    def press(self, pressed: bool) -> None:
        """The emergency stop."""
        wait_for(self._stop.get_subscription_count, what="the guard listens to the emergency stop")
        self._stop.publish(Bool(data=pressed))

    def push(self, x_m_s: float) -> None:
        """Arm, and let the human move it along x, until it is as fast as told."""
        wait_for(lambda: self.arm().success, what="the guard arms")
        self._push = np.array([x_m_s, 0.0, 0.0])
        wait_for(lambda: self.commands and np.allclose(self.commands[-1].value, self._push), what="moving as pushed")

    def end(self, guard: Process, number: signal.Signals) -> list[Entry]:
        """End a guard by a signal, wait for it, and return what it has sent since."""
        sent = len(self.commands)
        guard.signal(number)
        assert guard.wait(5.0) == 0, guard.output()
        time.sleep(10 * PERIOD_S)  # what was sent last may be on its way
        return self.commands[sent - 1 :]

    def _obey(self, msg: Any) -> None:
        self._pose = reading.from_pose_stamped(msg, self.contract.frames.base)

    def _note(self, msg: Any) -> None:
        value = reading.from_twist_stamped(msg, self.contract.frames.base).linear
        self.commands.append(Entry(time.monotonic_ns(), reading.from_stamp(msg.header.stamp), value))

    def _publish(self) -> None:
        stamp_ns, base = self.probe.node.get_clock().now().nanoseconds, self.contract.frames.base
        self._measured.publish(messages.to_pose_stamped(self._pose, stamp_ns, base))
        if self._push is not None:
            self._twist.publish(messages.to_twist_stamped(Twist(self._push, np.zeros(3)), stamp_ns, base))
            self._deadman.publish(Bool(data=True))
