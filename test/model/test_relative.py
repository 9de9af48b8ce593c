"""Rows relative to the commanded pose, and back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.model.relative import Axes, state_along, state_of, to_absolute, to_relative
from vla_ros.types import (
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    POSITION,
    QUATERNION,
    FloatArray,
    Observation,
    Pose,
)

seeds = st.integers(0, 2**32 - 1)


def pose(rng: np.random.Generator) -> Pose:
    return Pose(rng.normal(size=3), Rotation.random(random_state=int(rng.integers(2**31))).as_quat())


def absolute_rows(rng: np.random.Generator, origin: Pose) -> FloatArray:
    rows = rng.normal(size=(6, 14))
    rows[:, GRIPPER] = rng.uniform(size=6)
    for row in rows:
        turned = Rotation.from_rotvec(rng.normal(size=3)) * Rotation.from_quat(origin.quaternion)
        quaternion = turned.as_quat()
        row[QUATERNION] = quaternion if quaternion @ origin.quaternion >= 0 else -quaternion
    return rows


@given(seeds, st.sampled_from(["base", "tool"]))
def test_there_and_back_is_where_it_began(seed: int, axes: Axes) -> None:
    rng = np.random.default_rng(seed)
    origin = pose(rng)
    rows = absolute_rows(rng, origin)
    assert np.allclose(to_absolute(to_relative(rows, origin, axes), origin, axes), rows, atol=1e-9)


@given(seeds)
def test_along_the_tools_axes_it_makes_no_difference_which_way_the_robot_faces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    origin, turn, shift = pose(rng), Rotation.random(random_state=seed), rng.normal(size=3)
    rows = absolute_rows(rng, origin)
    elsewhere = Pose(turn.apply(origin.position) + shift, (turn * Rotation.from_quat(origin.quaternion)).as_quat())
    there = rows.copy()
    there[:, POSITION] = turn.apply(rows[:, POSITION]) + shift
    there[:, QUATERNION] = (turn * Rotation.from_quat(rows[:, QUATERNION])).as_quat()
    there[:, LINEAR_VELOCITY] = turn.apply(rows[:, LINEAR_VELOCITY])
    there[:, ANGULAR_VELOCITY] = turn.apply(rows[:, ANGULAR_VELOCITY])
    assert np.allclose(to_relative(there, elsewhere, "tool"), to_relative(rows, origin, "tool"), atol=1e-9)


def test_straight_ahead_is_along_x_of_a_tool_that_heads_to_the_left() -> None:
    left = Pose(np.array([1.0, 2.0, 0.0]), Rotation.from_euler("z", 90, degrees=True).as_quat())
    row = np.concatenate([[1.0, 2.5, 0.0], left.quaternion, [0.0, 0.4, 0.0], [0.0, 0.0, 0.2], [0.5]])[None]
    ahead = np.array([[0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.4, 0.0, 0.0, 0.0, 0.0, 0.2, 0.5]])
    assert np.allclose(to_relative(row, left, "tool"), ahead)


@given(seeds)
def test_a_relative_rotation_turns_the_commanded_one_and_keeps_w_positive(seed: int) -> None:
    rng = np.random.default_rng(seed)
    origin = pose(rng)
    rows = absolute_rows(rng, origin)
    relative = to_relative(rows, origin)
    assert (relative[:, 6] >= 0.0).all()
    turned = Rotation.from_quat(relative[:, QUATERNION]) * Rotation.from_quat(origin.quaternion)
    assert ((turned * Rotation.from_quat(rows[:, QUATERNION]).inv()).magnitude() < 1e-6).all()


def test_the_commanded_pose_itself_is_zero_and_identity() -> None:
    rng = np.random.default_rng(0)
    origin = pose(rng)
    row = np.concatenate([origin.position, origin.quaternion, rng.normal(size=6), [0.5]])[None]
    relative = to_relative(row, origin)
    assert np.allclose(relative[0, POSITION], 0.0) and np.allclose(relative[0, QUATERNION], [0, 0, 0, 1])
    assert np.array_equal(relative[0, 7:], row[0, 7:])


def test_the_state_holds_where_the_tool_is_and_where_the_command_leads_it() -> None:
    rng = np.random.default_rng(0)
    measured = pose(rng)
    turn = np.array([0.0, 0.0, 0.1])
    ahead = (Rotation.from_rotvec(turn) * Rotation.from_quat(measured.quaternion)).as_quat()
    commanded = Pose(measured.position + np.array([0.01, 0.0, 0.0]), ahead)
    state = state_of(Observation(0, "go", {}, measured, commanded, None, 0.25))
    assert np.allclose(state[POSITION], measured.position)
    assert np.allclose(state[LINEAR_VELOCITY], [0.01, 0.0, 0.0])
    assert np.allclose(state[ANGULAR_VELOCITY], turn)
    assert state[GRIPPER] == 0.25


@given(seeds)
def test_along_the_tools_axes_its_state_says_neither_where_it_is_nor_how_it_faces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    measured, turn, shift = pose(rng), Rotation.random(random_state=seed), rng.normal(size=3)
    lead = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3))
    led_m = np.array([0.1, 0.0, 0.02])
    commanded = Pose(measured.position + led_m, (lead * Rotation.from_quat(measured.quaternion)).as_quat())
    here = state_of(Observation(0, "go", {}, measured, commanded, None, 0.25))
    elsewhere, led_there = moved(measured, turn, shift), moved(commanded, turn, shift)
    there = state_of(Observation(0, "go", {}, elsewhere, led_there, None, 0.25))
    one, other = state_along("tool", np.stack([here, there]))
    assert np.allclose(one, other, atol=1e-9)
    assert np.array_equal(one[:7], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]) and one[GRIPPER] == 0.25
    ahead = Rotation.from_quat(commanded.quaternion).inv().apply(led_m)
    assert np.allclose(one[LINEAR_VELOCITY], ahead, atol=1e-9)
    assert np.array_equal(state_along("base", here[None])[0], here)


def moved(one: Pose, turn: Rotation, shift: FloatArray) -> Pose:
    return Pose(turn.apply(one.position) + shift, (turn * Rotation.from_quat(one.quaternion)).as_quat())


def test_nothing_given_is_changed() -> None:
    rng = np.random.default_rng(0)
    origin = pose(rng)
    rows = absolute_rows(rng, origin)
    before = rows.copy()
    to_absolute(to_relative(rows, origin), origin)
    assert np.array_equal(rows, before)
