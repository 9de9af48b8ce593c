"""Messages to numpy and back: poses, twists, joints, statuses, stamps."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from hypothesis import assume, given
from hypothesis import strategies as st
from sensor_msgs.msg import JointState as JointStateMessage
from std_msgs.msg import Header, String

from vla_ros.errors import MessageError
from vla_ros.interface import reading
from vla_ros.ros import messages
from vla_ros.types import JointState, Pose, Provenance, Twist, instruction_hash

BASE = "base"
numbers = st.floats(-1e6, 1e6)
vectors = st.lists(numbers, min_size=3, max_size=3).map(np.array)
stamps = st.integers(0, (2**31 - 1) * 1_000_000_000 + 999_999_999)
not_finite = st.sampled_from([math.nan, math.inf, -math.inf])


def refused(kind: str, read: Any, *arguments: Any) -> MessageError:
    with pytest.raises(MessageError) as caught:
        read(*arguments)
    assert caught.value.kind == kind
    return caught.value


def pose_message(quaternion: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0), frame: str = BASE) -> PoseStamped:
    return messages.to_pose_stamped(Pose(np.array([0.1, 0.2, 0.3]), np.array(quaternion)), 5, frame)


@given(stamps)
def test_stamps_survive_to_the_nanosecond(stamp_ns: int) -> None:
    assert reading.from_stamp(messages.to_stamp(stamp_ns)) == stamp_ns
    assert reading.from_clock(messages.to_clock(stamp_ns)) == stamp_ns


def test_a_stamp_before_the_epoch_or_with_too_many_nanoseconds_is_refused() -> None:
    refused("bad_stamp", reading.from_stamp, SimpleNamespace(sec=-1, nanosec=0))
    refused("bad_stamp", reading.from_stamp, SimpleNamespace(sec=0, nanosec=1_000_000_000))


@given(vectors, st.lists(numbers, min_size=4, max_size=4).map(np.array), stamps)
def test_poses_survive(position: np.ndarray, direction: np.ndarray, stamp_ns: int) -> None:
    assume(np.linalg.norm(direction) > 1e-3)
    pose = Pose(position, direction / np.linalg.norm(direction))
    msg = messages.to_pose_stamped(pose, stamp_ns, BASE)
    read = reading.from_pose_stamped(msg, BASE)
    assert reading.from_stamp(msg.header.stamp) == stamp_ns
    np.testing.assert_array_equal(read.position, position)
    np.testing.assert_allclose(read.quaternion, pose.quaternion, atol=1e-15)


def test_a_nearly_unit_quaternion_is_normalised() -> None:
    read = reading.from_pose_stamped(pose_message((0.0, 0.0, 0.0, 1.0009)), BASE)
    assert np.linalg.norm(read.quaternion) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("quaternion", [(0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.002), (1.0, 1.0, 1.0, 1.0)])
def test_a_quaternion_that_is_not_unit_is_refused(quaternion: tuple[float, ...]) -> None:
    refused("not_unit", reading.from_pose_stamped, pose_message(quaternion), BASE)


@given(not_finite, st.integers(0, 6))
def test_a_pose_that_is_not_finite_is_refused(value: float, place: int) -> None:
    msg = pose_message()
    part, axis = (msg.pose.position, "xyz"[place]) if place < 3 else (msg.pose.orientation, "xyzw"[place - 3])
    setattr(part, axis, value)
    refused("not_finite", reading.from_pose_stamped, msg, BASE)


@pytest.mark.parametrize("frame", ["", "/base", "camera_front", "Base"])
def test_another_frame_than_the_base_is_refused(frame: str) -> None:
    error = refused("wrong_frame", reading.from_pose_stamped, pose_message(frame=frame), BASE)
    assert "'base'" in str(error)
    twist = messages.to_twist_stamped(Twist(np.zeros(3), np.zeros(3)), 0, frame)
    refused("wrong_frame", reading.from_twist_stamped, twist, BASE)


@given(vectors, vectors)
def test_twists_survive(linear: np.ndarray, angular: np.ndarray) -> None:
    read = reading.from_twist_stamped(messages.to_twist_stamped(Twist(linear, angular), 7, BASE), BASE)
    np.testing.assert_array_equal(read.linear, linear)
    np.testing.assert_array_equal(read.angular, angular)


@given(not_finite, st.sampled_from(["linear", "angular"]), st.sampled_from("xyz"))
def test_a_twist_that_is_not_finite_is_refused(value: float, part: str, axis: str) -> None:
    msg = messages.to_twist_stamped(Twist(np.zeros(3), np.zeros(3)), 7, BASE)
    setattr(getattr(msg.twist, part), axis, value)
    refused("not_finite", reading.from_twist_stamped, msg, BASE)


@given(st.permutations(["a", "b", "c", "other"]))
def test_joints_come_in_the_contracts_order_and_others_are_ignored(names: list[str]) -> None:
    positions = {"a": 1.0, "b": 2.0, "c": 3.0, "other": math.nan}
    msg = messages.to_joint_state(JointState(tuple(names), np.array([positions[name] for name in names])), 3)
    read = reading.from_joint_state(msg, ("a", "b", "c"))
    assert read.names == ("a", "b", "c")
    np.testing.assert_array_equal(read.positions, [1.0, 2.0, 3.0])


def test_wrong_joint_states_are_refused() -> None:
    def message(names: list[str], positions: list[float]) -> JointStateMessage:
        return JointStateMessage(name=names, position=positions)

    wanted = ("a", "b")
    error = refused("missing_joint", reading.from_joint_state, message(["a", "c"], [0.0, 0.0]), wanted)
    assert "no b among the joints a, c" in str(error)
    refused("wrong_length", reading.from_joint_state, message(["a", "b"], [0.0]), wanted)
    refused("wrong_length", reading.from_joint_state, message(["a", "b"], []), wanted)
    refused("wrong_length", reading.from_joint_state, message(["a", "b", "a"], [0.0, 1.0, 2.0]), wanted)
    refused("not_finite", reading.from_joint_state, message(["a", "b"], [0.0, math.nan]), wanted)


@given(st.floats(0.0, 1.0))
def test_gripper_openings_survive(opening: float) -> None:
    assert reading.from_gripper(messages.to_gripper(opening, "gripper", 1)) == opening


def test_a_gripper_opening_outside_0_to_1_is_refused_but_for_rounding() -> None:
    for kind, positions in (
        ("out_of_range", [1.01]),
        ("out_of_range", [-0.01]),
        ("not_finite", [math.nan]),
        ("wrong_length", []),
        ("wrong_length", [0.1, 0.2]),
    ):
        refused(kind, reading.from_gripper, JointStateMessage(position=positions))
    assert reading.from_gripper(JointStateMessage(position=[1.0 + 1e-9])) == 1.0
    assert reading.from_gripper(JointStateMessage(position=[-1e-9])) == 0.0


@given(st.lists(numbers, max_size=50).map(lambda values: np.array(values, np.float64)))
def test_numbers_survive(values: np.ndarray) -> None:
    np.testing.assert_array_equal(reading.from_numbers(messages.to_numbers(values, 9)), values)


@given(st.text(), st.integers(0, 2**63 - 1), stamps)
def test_provenance_survives(instruction: str, t_obs_ns: int, stamp_ns: int) -> None:
    provenance = Provenance(instruction_hash(instruction), t_obs_ns)
    msg = messages.to_provenance(provenance, stamp_ns)
    assert reading.from_provenance(msg) == provenance
    assert reading.from_stamp(msg.stamp) == stamp_ns


@pytest.mark.parametrize(
    "frame_id",
    [
        *("", "base", "0123456789abcdef", "0123456789abcdef/", "0123456789ABCDEF/1", "0123456789abcdef/-1"),
        *("0123456789abcdef/1\n", "0123456789abcdef/1.5", "0123456789abcdef/" + "9" * 4000, "0123456789abcdef/\u0661"),
    ],
)
def test_a_header_that_is_no_provenance_is_refused(frame_id: str) -> None:
    refused("bad_provenance", reading.from_provenance, Header(frame_id=frame_id))


def test_small_messages_survive() -> None:
    assert reading.from_bool(messages.to_bool(True)) is True
    assert reading.from_bool(messages.to_bool(False)) is False
    assert messages.to_float(0.25).data == 0.25
    assert reading.from_string(messages.to_string("pick up the cup")) == "pick up the cup"


def test_a_huge_instruction_is_refused() -> None:
    refused("too_long", reading.from_string, String(data="a" * (reading.MAX_TEXT + 1)))


def test_a_status_survives() -> None:
    msg = messages.to_diagnostics("guard", 2, "stopped: camera stale", {"age_s": "0.7", "clips": "3"}, 1_500_000_000)
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == (1, 500_000_000)
    expected = reading.Status("guard", 2, "stopped: camera stale", {"age_s": "0.7", "clips": "3"})
    assert reading.from_diagnostics(msg) == (expected,)


def test_a_trace_is_one_line_of_strict_json_whatever_numpy_is_in_it() -> None:
    record = {"pose": np.array([1.0, 2.0]), "dt": np.float64(0.5), "reason": "a\nb", "n": np.int64(3)}
    msg = messages.to_trace(record)
    assert "\n" not in msg.data
    assert reading.from_trace(msg) == {"pose": [1.0, 2.0], "dt": 0.5, "reason": "a\nb", "n": 3}


def test_not_a_number_in_a_trace_stays_visible() -> None:
    msg = messages.to_trace({"row": np.array([1.0, math.nan, -math.inf]), "ok": 1})

    def never(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(msg.data, parse_constant=never) == {"row": [1.0, "NaN", "-Infinity"], "ok": 1}


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_a_trace_that_is_no_json_object_is_refused(text: str) -> None:
    refused("bad_json", reading.from_trace, String(data=text))
