"""`check --live` against robots that publish from another process: a good one, and one for every fault."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rclpy
from helpers import Process, own_domain, wait_for
from rclpy.context import Context
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.live_check import mismatches
from vla_ros.ros.live_graph import take_snapshot

ROBOT = Path(__file__).with_name("robot_publishers.py")
LISTEN_S = 1.5
CONTRACT = """
name: arm
description: an arm that only publishes
command_interface: pose
units: {length: m, angle: rad}
frames: {base: base_link, tool: tool0}
rates: {policy_hz: 25, guard_hz: 50}
cameras:
  front: {topic: camera/front/image_raw, transport: raw, encoding: rgb8, width: 64, height: 48, rate_hz: 10,
          max_age_s: 0.5, frame: camera_front}
  wrist: {topic: camera/wrist/image_raw/compressed, transport: compressed, encoding: jpeg, width: 64, height: 48,
          rate_hz: 10, max_age_s: 0.5, frame: camera_wrist}
max_camera_skew_s: 0.1
feedback:
  ee_pose: {topic: ee_pose, rate_hz: 25, max_age_s: 0.5}
  joint_states: {topic: joint_states, rate_hz: 25, max_age_s: 0.5, joints: [shoulder, elbow]}
outputs: {}
gripper: {interface: float64, topic: gripper_command, closed_at: 0, open_at: 1, max_rate_per_s: 2, at_start: 1}
limits:
  workspace_m: {min: [-1, -1, -1], max: [1, 1, 1]}
  max_linear_velocity_m_s: 0.2
  max_linear_acceleration_m_s2: 1
  max_angular_velocity_rad_s: 0.2
  max_angular_acceleration_rad_s2: 1
  max_target_jump_m: 0.1
  max_target_jump_rad: 0.3
  max_following_error_m: 0.1
  max_following_error_rad: 0.3
timeouts: {policy_s: 0.2, teleop_s: 0.2, deadman_s: 0.2, inference_s: 1, clock_s: 0.5, frozen_camera_s: 0.5,
           driver_s: 0.2}
stop_time_s: 0.2
emergency_stop: {topic: emergency_stop, required: true, silence_s: 0.5}
"""


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    file = tmp_path_factory.mktemp("contract") / "arm.yaml"
    file.write_text(CONTRACT)
    return load_contract(file)


def differences(contract: Contract, faults: str) -> list[str]:
    """What is said of a robot with these faults, once it publishes."""
    with robot_in_own_domain(faults) as env:
        context = Context()
        domain_id = int(env["ROS_DOMAIN_ID"])
        rclpy.init(context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = Node("check", context=context)
            wait_for(lambda: node.count_publishers("emergency_stop"), what="the robot's topics")
            found = mismatches(contract, take_snapshot(node, contract, LISTEN_S))
            node.destroy_node()
        finally:
            context.try_shutdown()
    return found


@contextmanager
def robot_in_own_domain(faults: str, *ros_arguments: str) -> Iterator[dict[str, str]]:
    with own_domain() as env, Process([sys.executable, str(ROBOT), faults, *ros_arguments], env) as robot:
        wait_for(lambda: "publishing" in robot.output() or not robot.running(), what="the robot's first words")
        yield env


def test_a_robot_that_keeps_the_contract_has_no_mismatch(contract: Contract) -> None:
    assert differences(contract, "none") == []


FAULTS = {
    "slow_camera": ["cameras.front", "at least 8 Hz is needed"],
    "silent_camera": ["cameras.front", "no message within 1.5 s"],
    "size": ["cameras.front", "messages refused: an image of 32x32 pixels; the contract says 64x48"],
    "encoding": ["cameras.front", "messages refused: an image in 'bgr8'; the contract says rgb8"],
    "camera_frame": ["cameras.front", "frame 'camera'; the contract says 'camera_front'"],
    "base_frame": ["feedback.ee_pose", "the frame is 'map'"],
    "pose_type": ["feedback.ee_pose", "is geometry_msgs/msg/PointStamped; the contract means"],
    "two_poses": ["feedback.ee_pose", "2 publishers: /robot, /robot"],
    "nan": ["feedback.ee_pose", "the position is not finite"],
    "not_unit": ["feedback.ee_pose", "the quaternion's length is 0.5, not 1"],
    "missing_joint": ["feedback.joint_states", "no elbow among the joints shoulder"],
    "deaf_stop": ["emergency_stop", "best effort from /robot never reaches us"],
}


@pytest.mark.parametrize(
    "together",
    [
        # Faults of different topics share a robot, since starting one takes seconds.
        ["slow_camera", "nan", "missing_joint", "deaf_stop"],
        ["size", "not_unit"],
        ["encoding", "base_frame"],
        ["camera_frame", "pose_type"],
        ["silent_camera", "two_poses"],
    ],
    ids="+".join,
)
def test_each_fault_is_named_once_and_nothing_else(contract: Contract, together: list[str]) -> None:
    found = differences(contract, ",".join(together))
    assert len(found) == len(together), found
    for fault in together:
        assert any(all(words in text for words in FAULTS[fault]) for text in found), (fault, found)


@pytest.mark.parametrize(("fault", "words"), [("old_stamps", "s old on arrival"), ("future_stamps", "s in the future")])
def test_stamps_far_from_now_are_named_for_every_stamped_topic(contract: Contract, fault: str, words: str) -> None:
    found = differences(contract, fault)
    assert len(found) == 4
    assert all(words in text for text in found)


def test_commands_that_nobody_hears_are_named(contract: Contract) -> None:
    found = differences(contract, "no_listener")
    assert [text.split(" ")[0] for text in found] == ["outputs.pose", "gripper"]


def test_the_command_listens_as_a_node_of_its_own_and_answers_by_exit_status(tmp_path: Path) -> None:
    file = tmp_path / "arm.yaml"
    file.write_text(CONTRACT)
    code = "import sys; from vla_ros.check import run_check; sys.exit(run_check(sys.argv[1], True, 1.0))"
    with own_domain() as env, Process([sys.executable, "-c", code, str(file)], env) as check:
        assert check.wait() == 1
        assert "mismatch: cameras.front (camera/front/image_raw): nobody publishes it" in check.output()
        assert "the graph differs from the contract in 7 ways" in check.output()
    with robot_in_own_domain("none") as env, Process([sys.executable, "-c", code, str(file)], env) as check:
        assert check.wait() == 0, check.output()
        assert "the graph matches the contract" in check.output()


def test_the_command_looks_in_the_robots_namespace(tmp_path: Path) -> None:
    file = tmp_path / "arm.yaml"
    file.write_text(CONTRACT)
    words = ["check", str(file), "--live", "--duration", "1"]
    with robot_in_own_domain("none", "--ros-args", "-r", "__ns:=/arm1") as env:
        for namespace, status in (("arm1", 0), ("arm2", 1)):
            command = [sys.executable, "-m", "vla_ros.cli", *words, "--namespace", namespace]
            with Process(command, env) as check:
                assert check.wait() == status, check.output()
