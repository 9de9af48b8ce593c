"""A snapshot of a running graph is compared with the contract; every difference is said in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from contract_mapping import spoilt, valid_mapping

from vla_ros.contract import Contract
from vla_ros.contract_file import parse_contract
from vla_ros.live_check import Endpoint, LiveGraph, LiveTopic, expected_inputs, mismatches

CONTRACT = parse_contract(valid_mapping(), "arm.yaml")
FRONT = "camera/front/image_raw"
WRIST = "camera/wrist/image_raw/compressed"
POSE_TYPE = "geometry_msgs/msg/PoseStamped"


def good_input(name: str, message_type: str, rate_hz: float, frame: str | None) -> LiveTopic:
    publisher = Endpoint("/driver", message_type, reliable=True)
    return LiveTopic((publisher,), heard=20, rate_hz=rate_hz, frame_id=frame, age_s=0.01)


def good_graph(contract: Contract = CONTRACT) -> LiveGraph:
    topics = {
        expected.topic: good_input(expected.topic, expected.type, 100.0, expected.frame)
        for expected in expected_inputs(contract)
    }
    topics[contract.outputs.pose] = LiveTopic(subscribers=(Endpoint("/driver", POSE_TYPE, reliable=True),))
    return LiveGraph(5.0, topics, {"gripper_command": "control_msgs/action/GripperCommand"})


def with_topic(topic: str, **changes: Any) -> LiveGraph:
    graph = good_graph()
    return replace(graph, topics={**graph.topics, topic: replace(graph.topic(topic), **changes)})


def test_a_graph_that_keeps_the_contract_has_no_mismatch() -> None:
    assert mismatches(CONTRACT, good_graph()) == []


def publisher(message_type: str, reliable: bool = True, node: str = "/driver") -> Endpoint:
    return Endpoint(node, message_type, reliable)


@pytest.mark.parametrize(
    ("topic", "changes", "beginning", "words"),
    [
        (FRONT, {"publishers": ()}, "cameras.front (camera/front/image_raw)", "nobody publishes it"),
        ("ee_pose", {"publishers": ()}, "feedback.ee_pose (ee_pose)", "nobody publishes it"),
        ("joint_states", {"publishers": ()}, "feedback.joint_states", "nobody publishes it"),
        ("emergency_stop", {"publishers": ()}, "emergency_stop", "nobody publishes it"),
        (
            FRONT,
            {"publishers": (publisher("sensor_msgs/msg/CompressedImage"),)},
            "cameras.front",
            "is sensor_msgs/msg/CompressedImage; the contract means sensor_msgs/msg/Image",
        ),
        (
            "ee_pose",
            {"publishers": (publisher("geometry_msgs/msg/Pose"),)},
            "feedback.ee_pose",
            "is geometry_msgs/msg/Pose; the contract means geometry_msgs/msg/PoseStamped",
        ),
        (
            "ee_pose",
            {"publishers": (publisher(POSE_TYPE), publisher(POSE_TYPE, node="/other"))},
            "feedback.ee_pose",
            "2 publishers: /driver, /other; there must be one",
        ),
        (
            "emergency_stop",
            {"publishers": (publisher("std_msgs/msg/Bool", reliable=False),)},
            "emergency_stop",
            "best effort from /driver never reaches us",
        ),
        ("emergency_stop", {"rate_hz": 1.9}, "emergency_stop", "at least 2 Hz is needed"),
        ("emergency_stop", {"rate_hz": None}, "emergency_stop", "no message within 5 s"),
        (FRONT, {"rate_hz": 7.9}, "cameras.front", "arrives at 7.9 Hz; at least 8 Hz is needed"),
        (FRONT, {"rate_hz": None, "heard": 0}, "cameras.front", "no message within 5 s"),
        (WRIST, {"rate_hz": 15.9}, "cameras.wrist", "at least 16 Hz is needed"),
        ("joint_states", {"rate_hz": 39.0}, "feedback.joint_states", "at least 40 Hz is needed"),
        (FRONT, {"frame_id": "camera"}, "cameras.front", "frame 'camera'; the contract says 'camera_front'"),
        (FRONT, {"age_s": 0.31}, "cameras.front", "stamps are 0.31 s old on arrival, max_age_s is 0.3"),
        ("ee_pose", {"age_s": -0.2}, "feedback.ee_pose", "stamps are 0.2 s in the future"),
        (
            FRONT,
            {"refused": {"an image of 32x32 pixels; the contract says 64x48": 3}},
            "cameras.front",
            "3 of 20 messages refused: an image of 32x32 pixels",
        ),
        ("target_pose", {"subscribers": ()}, "outputs.pose (target_pose)", "nobody subscribes to it"),
        (
            "target_pose",
            {"subscribers": (publisher("geometry_msgs/msg/Pose"),)},
            "outputs.pose",
            "/driver expects geometry_msgs/msg/Pose; the guard publishes geometry_msgs/msg/PoseStamped",
        ),
        (
            "target_pose",
            {"subscribers": (Endpoint("/driver", POSE_TYPE, reliable=True, transient_local=True),)},
            "outputs.pose",
            "/driver subscribes transient local",
        ),
        (
            "target_pose",
            {"publishers": (publisher(POSE_TYPE, node="/guard"), publisher(POSE_TYPE, node="/rogue"))},
            "outputs.pose",
            "2 publishers: /guard, /rogue; only the guard may command",
        ),
        (
            "target_twist",
            {"subscribers": (publisher("geometry_msgs/msg/Twist"),)},
            "outputs.twist",
            "/driver expects geometry_msgs/msg/Twist",
        ),
    ],
)
def test_a_difference_is_named(topic: str, changes: dict[str, Any], beginning: str, words: str) -> None:
    (text,) = mismatches(CONTRACT, with_topic(topic, **changes))
    assert text.startswith(beginning)
    assert words in text


def test_all_differences_are_named_together() -> None:
    found = mismatches(CONTRACT, with_topic(FRONT, rate_hz=1.0, frame_id="x", age_s=9.0, refused={"truncated": 1}))
    assert len(found) == 4
    empty = mismatches(CONTRACT, LiveGraph(5.0, {}))
    assert len(empty) == 6  # a camera, two feedbacks, emergency stop, pose output, gripper


def test_an_optional_topic_may_be_absent_but_not_wrong() -> None:
    assert mismatches(CONTRACT, with_topic(WRIST, publishers=())) == []
    assert mismatches(CONTRACT, with_topic("ee_twist", publishers=())) == []
    assert len(mismatches(CONTRACT, with_topic(WRIST, frame_id="x"))) == 1


def test_an_optional_emergency_stop_may_be_silent() -> None:
    contract = parse_contract(spoilt("emergency_stop.required", False), "arm.yaml")
    assert mismatches(contract, with_topic("emergency_stop", rate_hz=None, heard=0)) == []


def test_the_slack_of_a_rate_is_a_fifth() -> None:
    assert mismatches(CONTRACT, with_topic(FRONT, rate_hz=8.0)) == []


def test_a_twist_contract_wants_a_listener_on_its_twist() -> None:
    mapping = spoilt("command_interface", "twist")
    del mapping["limits"]["max_following_error_m"], mapping["limits"]["max_following_error_rad"]
    contract = parse_contract(mapping, "arm.yaml")
    (text,) = mismatches(contract, good_graph(contract))
    assert text == "outputs.twist (target_twist): nobody subscribes to it: nothing would move"


def test_the_grippers_action_must_be_served_and_of_the_right_type() -> None:
    (absent,) = mismatches(CONTRACT, replace(good_graph(), actions={}))
    assert absent.startswith("gripper (gripper_command): no node serves this action")
    (wrong,) = mismatches(CONTRACT, replace(good_graph(), actions={"gripper_command": "my/action/Grip"}))
    assert "the action is my/action/Grip; the contract means control_msgs/action/GripperCommand" in wrong


def test_a_gripper_on_a_topic_needs_a_listener() -> None:
    mapping = spoilt("gripper.interface", "float64")
    del mapping["gripper"]["max_effort"]
    contract = parse_contract(mapping, "arm.yaml")
    (text,) = mismatches(contract, good_graph(contract))
    assert text == "gripper (gripper_command): nobody subscribes to it: nothing would move"
