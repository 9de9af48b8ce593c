"""The limits on motion, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from builders import UPRIGHT, pose, pose_contract, speed, twist
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.control.intents import Track
from vla_ros.control.safety import Motion, brake, is_at_rest, limit_motion, tracking_twist
from vla_ros.types import Pose, Twist

CONTRACT = pose_contract()
LIMITS = CONTRACT.limits
BOX = LIMITS.workspace_m
DT = 0.0125
REST = Motion(pose(), twist(), None)


def _run(motion: Motion, wish: Twist, ticks: int) -> list[Motion]:
    motions = []
    for _ in range(ticks):
        motion = limit_motion(motion, wish, None, DT, CONTRACT).motion
        motions.append(motion)
    return motions


def test_speed_builds_up_at_the_acceleration_limit_to_the_speed_limit():
    motions = _run(REST, twist(x=9.0), 20)
    speeds = [speed(motion.twist.linear) for motion in motions]
    assert speeds[0] == pytest.approx(LIMITS.max_linear_acceleration_m_s2 * DT)
    assert speeds[-1] == pytest.approx(LIMITS.max_linear_velocity_m_s)


def test_clips_are_named():
    limited = limit_motion(REST, twist(y=1.0, angular=(9.0, 0.0, 0.0)), 0.0, 1e-3, CONTRACT)
    assert set(limited.clips) == {
        "linear velocity", "linear acceleration", "angular velocity", "angular acceleration", "gripper rate"
    }  # fmt: skip
    assert limit_motion(REST, twist(x=0.01), 0.5, DT, CONTRACT).clips == ()


@pytest.mark.parametrize("lead_m", [-0.02, 0.0, 0.02])
def test_a_target_faster_than_the_limit_is_told_wherever_it_is(lead_m):
    limit_m_s = LIMITS.max_linear_velocity_m_s
    cruising = Motion(pose(), twist(x=limit_m_s), None)
    too_fast = Track(pose(x=lead_m), twist(x=1.2 * limit_m_s), None).execute(cruising, DT, CONTRACT)
    assert too_fast.clips.count("linear velocity") == 1
    allowed = Track(pose(), twist(x=0.9 * limit_m_s), None).execute(cruising, DT, CONTRACT)
    assert "linear velocity" not in allowed.clips


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_wall_is_reached_but_never_passed_whatever_is_wished(axis, sign):
    wish = Twist(sign * np.eye(3)[axis], np.zeros(3))
    last = _run(REST, wish, 200)[-1].pose.position
    wall = (BOX.max if sign > 0 else BOX.min)[axis]
    assert 0.0 <= sign * (wall - last[axis]) < 0.005


def test_the_robot_slides_along_a_wall():
    motions = _run(REST, twist(x=0.3, z=-0.5), 200)
    assert motions[-1].pose.position[0] == pytest.approx(BOX.max[0], abs=0.005)
    assert motions[-1].pose.position[2] == pytest.approx(BOX.min[2], abs=0.005)


def test_from_outside_the_box_the_way_back_is_open_and_the_way_out_is_not():
    outside = Motion(Pose(np.array([0.6, 0.6, 0.2]), UPRIGHT), twist(), None)
    assert _run(outside, twist(x=-0.2), 20)[-1].twist.linear[0] == pytest.approx(-0.2)
    assert _run(outside, twist(x=0.2), 20)[-1].pose.position[0] <= 0.6 + 1e-6


@given(st.integers(0, 2**31), st.lists(st.sampled_from([0.0, 0.001, 0.0125, 0.025]), min_size=1, max_size=60))
def test_braking_from_any_reached_state_ends_inside_at_exactly_zero(seed, periods):
    random = np.random.default_rng(seed)
    motion = Motion(Pose(random.uniform(BOX.min, BOX.max), UPRIGHT), twist(), None)
    for dt_s in periods:
        wish = Twist(random.uniform(-3, 3, 3), random.uniform(-3, 3, 3))
        motion = limit_motion(motion, wish, None, dt_s, CONTRACT).motion
    taken_s = 0.0
    while not is_at_rest(motion.twist):
        motion = brake(motion, DT, LIMITS).motion
        taken_s += DT
    assert not motion.twist.linear.any() and not motion.twist.angular.any()
    assert taken_s <= CONTRACT.stop_time_s + DT
    assert (motion.pose.position <= np.array(BOX.max) + 1e-8).all()
    assert (motion.pose.position >= np.array(BOX.min) - 1e-8).all()


def test_a_target_outside_the_box_is_followed_to_the_wall():
    motion = REST
    for _ in range(300):
        wish = tracking_twist(motion.pose, pose(z=0.5), twist(), LIMITS)
        motion = limit_motion(motion, wish, None, DT, CONTRACT).motion
    assert motion.pose.position[2] == pytest.approx(BOX.max[2], abs=1e-3) and motion.pose.position[2] <= BOX.max[2]


@pytest.mark.parametrize("far_m", [0.001, 0.05, 0.25])
def test_a_target_is_reached_without_overshoot(far_m):
    motion, furthest = REST, 0.0
    for _ in range(200):
        wish = tracking_twist(motion.pose, pose(x=far_m), twist(), LIMITS)
        motion = limit_motion(motion, wish, None, DT, CONTRACT).motion
        furthest = max(furthest, motion.pose.position[0])
    assert motion.pose.position[0] == pytest.approx(far_m, abs=1e-4) and furthest < 1.01 * far_m + 1e-6


@pytest.mark.parametrize("claimed_m_s", [0.5, 3.0, 1e6])
def test_a_twist_that_contradicts_its_pose_leads_not_far_from_it(claimed_m_s: float):
    motion = REST
    for _ in range(300):
        wish = tracking_twist(motion.pose, pose(), twist(x=claimed_m_s), LIMITS)
        motion = limit_motion(motion, wish, None, DT, CONTRACT).motion
    assert motion.pose.position[0] < 0.06


def test_a_moving_target_is_followed_without_lag():
    motion = REST
    for tick in range(100):
        target = pose(x=0.2 * DT * (tick + 1))
        wish = tracking_twist(motion.pose, target, twist(x=0.2), LIMITS)
        motion = limit_motion(motion, wish, None, DT, CONTRACT).motion
    assert np.linalg.norm(motion.pose.position - target.position) < 0.2 * 2 * DT


def test_braking_holds_the_gripper():
    assert brake(Motion(pose(), twist(x=0.1), 0.3), DT, LIMITS).motion.gripper == 0.3


@pytest.mark.parametrize(("wanted", "expected"), [(2.0, 1.0), (-1.0, 0.0), (0.7, 0.7), (None, 0.5)])
def test_the_gripper_stays_within_its_range(wanted, expected):
    motion = Motion(pose(), twist(), 0.5)
    for _ in range(5):
        motion = limit_motion(motion, twist(), wanted, DT, CONTRACT).motion
    assert motion.gripper == pytest.approx(expected)
