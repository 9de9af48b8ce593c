"""sim.launch.py as `ros2 launch` runs it: all nodes active, a sentence leads to motion, everybody ends cleanly.

Needs a ROS 2 installation with launch_testing, and this package built by colcon and sourced.
"""

from __future__ import annotations

import subprocess
import sys
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Not `launch`: where ROS is not installed, this repository's folder of that name would be found.
pytest.importorskip("launch_testing", reason="launch_testing is not installed (it comes with ROS 2)")

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from geometry_msgs.msg import PoseStamped
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor

from vla_ros.ros.inputs import NEWEST

try:
    SHARE = Path(get_package_share_directory("vla_ros"))
except PackageNotFoundError:
    pytest.skip(
        "vla_ros is not built and sourced: colcon build, then source install/setup.bash", allow_module_level=True
    )

DOMAIN_ID = 76  # which test/ros/helpers.py leaves to this test
TIMEOUT_S = 60.0


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description() -> LaunchDescription:
    """The simulation with its oracle, armed."""
    arguments = {"domain_id": str(DOMAIN_ID), "policy": "oracle", "task": "reach-v3", "arm": "true"}
    sim = IncludeLaunchDescription(str(SHARE / "launch" / "sim.launch.py"), launch_arguments=arguments.items())
    return LaunchDescription([sim, launch_testing.actions.ReadyToTest()])


class TestSim(unittest.TestCase):
    """While it runs."""

    def setUp(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node("launch_test", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def tearDown(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"not within {TIMEOUT_S:g} s: {what}")
            self.executor.spin_once(0.05)

    def state_of_policy(self) -> int:
        client = self.node.create_client(GetState, "policy/get_state")
        self.wait_for(client.service_is_ready, "the policy's state")
        future = client.call_async(GetState.Request())
        self.wait_for(future.done, "the policy's answer")
        return int(future.result().current_state.id)

    def test_all_nodes_are_there_and_the_policy_is_active(self) -> None:
        self.wait_for(lambda: {"sim", "guard", "policy"} <= set(self.node.get_node_names()), "all nodes")
        self.wait_for(lambda: self.state_of_policy() == State.PRIMARY_STATE_ACTIVE, "an active policy")

    def test_a_sentence_leads_to_motion(self, proc_output: Any) -> None:
        proc_output.assertWaitFor("armed", timeout=TIMEOUT_S, stream="stdout")
        poses: list[PoseStamped] = []
        self.node.create_subscription(PoseStamped, "ee_pose", poses.append, NEWEST)
        self.wait_for(lambda: poses, "the robot's pose")
        words = ("say", "reach the goal", "--domain-id", str(DOMAIN_ID), "--timeout", "30")
        subprocess.run([sys.executable, "-m", "vla_ros.cli", *words], check=True, timeout=TIMEOUT_S)
        self.wait_for(lambda: _distance_m(poses[0], poses[-1]) > 0.05, "5 cm of motion")


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    """When launch has ended it."""

    def test_everybody_ended_cleanly(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)


def _distance_m(one: PoseStamped, other: PoseStamped) -> float:
    first, last = one.pose.position, other.pose.position
    return float(((first.x - last.x) ** 2 + (first.y - last.y) ** 2 + (first.z - last.z) ** 2) ** 0.5)
