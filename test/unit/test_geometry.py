"""Rotations and poses against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from vla_ros import geometry
from vla_ros.types import FloatArray, Pose, Twist

seeds = st.integers(0, 2**32 - 1)
angles = st.one_of(st.sampled_from([0.0, 1e-12, 1e-9, 1e-8, 1e-7, 1e-4, 3.14159, np.pi - 1e-9]), st.floats(0.0, np.pi))


def _random(seed: int, count: int = 1) -> Rotation:
    return Rotation.random(count, random_state=seed % 2**32)


def _vector(seed: int, angle: float) -> FloatArray:
    axis = np.random.default_rng(seed).normal(size=3)
    return axis / np.linalg.norm(axis) * angle


@given(seeds)
def test_products_and_inverses_are_those_of_scipy(seed):
    left, right = _random(seed, 2)
    product = geometry.multiply(left.as_quat(), right.as_quat())
    assert (Rotation.from_quat(product) * (left * right).inv()).magnitude() < 1e-9
    inverse = geometry.conjugate(left.as_quat())
    assert (Rotation.from_quat(inverse) * left).magnitude() < 1e-9


@given(seeds, angles)
def test_exponential_and_logarithm_are_those_of_scipy_down_to_nothing(seed, angle):
    vector = _vector(seed, angle)
    quaternion = geometry.from_rotation_vector(vector)
    assert abs(np.linalg.norm(quaternion) - 1.0) < 1e-12
    assert (Rotation.from_quat(quaternion) * Rotation.from_rotvec(vector).inv()).magnitude() < 1e-9
    for found in (geometry.to_rotation_vector(quaternion), geometry.to_rotation_vector(-quaternion)):
        # Half a turn about an axis is half a turn about its opposite: rounding decides which of the two comes back.
        half_a_turn = angle > np.pi - 1e-12
        assert np.allclose(found, vector, atol=1e-9) or (half_a_turn and np.allclose(found, -vector, atol=1e-9))


def test_half_a_turn_comes_back_about_one_of_the_two_axes():
    vector = _vector(108, np.pi)  # its length rounds to more than pi
    found = geometry.to_rotation_vector(geometry.from_rotation_vector(vector))
    assert min(np.abs(found - vector).max(), np.abs(found + vector).max()) < 1e-9


@given(seeds, st.floats(0.0, 1.0))
def test_slerp_is_that_of_scipy(seed, fraction):
    rotations = _random(seed, 2)
    expected = Slerp([0.0, 1.0], rotations)(fraction)
    start, end = (rotation.as_quat() for rotation in rotations)
    for sign in (1.0, -1.0):
        found = geometry.slerp(start, sign * end, fraction)
        assert (Rotation.from_quat(found) * expected.inv()).magnitude() < 1e-7
        assert abs(np.linalg.norm(found) - 1.0) < 1e-9


@given(seeds, angles, st.floats(1e-3, 1.0))
def test_a_constant_twist_leads_from_one_pose_to_another_and_back(seed, angle, dt_s):
    start = Pose(_vector(seed, 0.7), _random(seed)[0].as_quat())
    twist = Twist(_vector(seed + 1, 0.3), _vector(seed + 2, 0.99 * angle) / dt_s)
    end = geometry.integrate(start, twist, dt_s)
    turned = Rotation.from_rotvec(twist.angular * dt_s) * Rotation.from_quat(start.quaternion)
    assert (Rotation.from_quat(end.quaternion) * turned.inv()).magnitude() < 1e-8
    found = geometry.difference(start, end, dt_s)
    assert np.allclose(found.linear, twist.linear, atol=1e-9)
    assert np.allclose(found.angular * dt_s, twist.angular * dt_s, atol=1e-7)


def test_a_thousand_small_turns_keep_the_quaternion_unit_and_in_its_hemisphere():
    pose = Pose(np.zeros(3), geometry.IDENTITY)
    for _ in range(1000):
        after = geometry.integrate(pose, Twist(np.zeros(3), np.array([0.0, 0.0, 1.0])), 0.0125)
        assert after.quaternion @ pose.quaternion > 0.0
        pose = after
    assert abs(np.linalg.norm(pose.quaternion) - 1.0) < 1e-12


def test_interpolation_begins_and_ends_where_it_should():
    start, end = (Pose(_vector(seed, 1.0), _random(seed)[0].as_quat()) for seed in (1, 2))
    for fraction, expected in ((0.0, start), (1.0, end)):
        found = geometry.interpolate(start, end, fraction)
        assert np.allclose(found.position, expected.position)
        assert np.allclose(geometry.in_hemisphere_of(expected.quaternion, found.quaternion), expected.quaternion)


def test_a_zero_quaternion_has_no_direction():
    with pytest.raises(ZeroDivisionError):
        geometry.normalise(np.zeros(4))
