"""Rotations and poses in plain numpy (scipy would double the guard's start-up time and memory).

Quaternions are x, y, z, w. Formulas: Sola, "Quaternion kinematics for the error-state Kalman filter", 2017.
"""

from __future__ import annotations

import math

import numpy as np

from vla_ros.types import FloatArray, Pose, Twist

_SMALL_ANGLE = 1e-8
CONJUGATE = np.array([-1.0, -1.0, -1.0, 1.0])
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def length(vector: FloatArray) -> float:
    """Euclidean norm, several times faster than numpy's for short vectors. (n,) -> float."""
    return math.hypot(*vector.tolist())


def multiply(left: FloatArray, right: FloatArray) -> FloatArray:
    """Hamilton product left * right: first rotate by `right`, then by `left`. (4,), (4,) -> (4,)."""
    x1, y1, z1, w1 = left.tolist()
    x2, y2, z2, w2 = right.tolist()
    return np.array(
        [
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ]
    )


def conjugate(quaternion: FloatArray) -> FloatArray:
    """The inverse rotation of a unit quaternion. (4,) -> (4,)."""
    inverse: FloatArray = quaternion * CONJUGATE
    return inverse


def normalise(quaternion: FloatArray) -> FloatArray:
    """Scale to unit length. (4,) -> (4,). Raises ZeroDivisionError for a zero quaternion."""
    norm = length(quaternion)
    if norm == 0.0:
        raise ZeroDivisionError("a zero quaternion has no direction")
    unit: FloatArray = quaternion / norm
    return unit


def in_hemisphere_of(reference: FloatArray, quaternion: FloatArray) -> FloatArray:
    """The sign of `quaternion` that lies nearer to `reference`; both signs are the same rotation."""
    return -quaternion if float(reference @ quaternion) < 0.0 else quaternion


def from_rotation_vector(rotation_vector: FloatArray) -> FloatArray:
    """Exponential map. (3,) [rad] -> (4,) unit."""
    angle = length(rotation_vector)
    scale = 0.5 if angle < _SMALL_ANGLE else math.sin(0.5 * angle) / angle
    x, y, z = (scale * rotation_vector).tolist()
    return normalise(np.array([x, y, z, math.cos(0.5 * angle)]))


def to_rotation_vector(quaternion: FloatArray) -> FloatArray:
    """Logarithm map, shortest way round. (4,) unit -> (3,) [rad], of length at most pi."""
    near = in_hemisphere_of(IDENTITY, quaternion)
    sine = length(near[:3])
    scale = 2.0 if sine < _SMALL_ANGLE else 2.0 * math.atan2(sine, float(near[3])) / sine
    return scale * near[:3]


def x_axis(quaternion: FloatArray) -> FloatArray:
    """Where an orientation's own x axis points, in the base frame. (4,) unit -> (3,) unit."""
    x, y, z, w = quaternion.tolist()
    return np.array([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + z * w), 2.0 * (x * z - y * w)])


def rotation_between(start: FloatArray, end: FloatArray) -> FloatArray:
    """The rotation vector, in the base frame, that turns `start` into `end`. (4,), (4,) -> (3,) [rad]."""
    return to_rotation_vector(multiply(end, conjugate(start)))


def slerp(start: FloatArray, end: FloatArray, fraction: float) -> FloatArray:
    """Spherical interpolation along the shorter arc. (4,), (4,), 0..1 -> (4,)."""
    if (start == end).all():  # the rows of most plans
        return start
    return multiply(from_rotation_vector(fraction * rotation_between(start, end)), start)


def integrate(pose: Pose, twist: Twist, dt_s: float) -> Pose:
    """pose (+) twist * dt: the pose after moving with a constant base-frame twist for dt_s."""
    turn = from_rotation_vector(twist.angular * dt_s)
    turned = normalise(multiply(turn, pose.quaternion))
    return Pose(pose.position + twist.linear * dt_s, in_hemisphere_of(pose.quaternion, turned))


def difference(start: Pose, end: Pose, dt_s: float) -> Twist:
    """end (-) start over dt: the constant base-frame twist that integrates `start` to `end` in dt_s > 0."""
    linear = (end.position - start.position) / dt_s
    return Twist(linear, rotation_between(start.quaternion, end.quaternion) / dt_s)


def interpolate(start: Pose, end: Pose, fraction: float) -> Pose:
    """Straight in position, slerp in rotation. fraction: 0 gives start, 1 gives end."""
    position = start.position + fraction * (end.position - start.position)
    return Pose(position, slerp(start.quaternion, end.quaternion, fraction))


def zero_twist() -> Twist:
    """A twist at rest."""
    return Twist(np.zeros(3), np.zeros(3))
