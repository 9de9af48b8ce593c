"""Limits on commanded motion. Pure; every function says what it had to change.

The invariant behind all of it: *from any commanded state, braking in a straight line at the acceleration limit
ends inside the workspace.* A step that would break it is bent towards that braking until it does not (the
"backup controller" form of a safety filter: Gurriet, Mote, Ames, Feron, 2018). Braking is always allowed, so
there is always an answer, and it holds for any sequence of tick lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vla_ros.contract import Box, Contract, Gripper, Limits
from vla_ros.geometry import integrate, length, rotation_between, x_axis
from vla_ros.types import FloatArray, Pose, Twist

# How fast a commanded pose closes in on its target. Shorter follows the jitter of unsynchronised ticks.
TRACKING_TIME_S = 0.05
_BISECTIONS = 20
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Motion:
    """What is commanded now. gripper: 0 closed to 1 open, None until somebody has commanded it (then from at_start)."""

    pose: Pose
    twist: Twist
    gripper: float | None


@dataclass(frozen=True, eq=False)
class Limited:
    """A motion within the limits, and the names of the limits that had to act."""

    motion: Motion
    clips: tuple[str, ...]


def tracking_twist(pose: Pose, target: Pose, target_twist: Twist, limits: Limits) -> Twist:
    """The twist that follows a moving target: its own twist plus a correction that can still brake in time."""
    # Faster than the robot may move the twist leads away from the pose that it claims to follow.
    own = Twist(
        _shortened(target_twist.linear, limits.max_linear_velocity_m_s),
        _shortened(target_twist.angular, limits.max_angular_velocity_rad_s),
    )
    low, high = corners(limits.workspace_m)
    inside = np.minimum(np.maximum(target.position, low), high)
    linear = _approach(inside - pose.position, limits.max_linear_acceleration_m_s2)
    angular = _approach(rotation_between(pose.quaternion, target.quaternion), limits.max_angular_acceleration_rad_s2)
    return Twist(own.linear + linear, own.angular + angular)


def too_fast(twist: Twist, limits: Limits) -> tuple[str, ...]:
    """The names of the velocity limits that a twist exceeds, as in `Limited.clips`."""
    linear = length(twist.linear) > limits.max_linear_velocity_m_s
    angular = length(twist.angular) > limits.max_angular_velocity_rad_s
    return (*(("linear velocity",) if linear else ()), *(("angular velocity",) if angular else ()))


def limit_motion(motion: Motion, desired: Twist, gripper: float | None, dt_s: float, contract: Contract) -> Limited:
    """One tick towards a desired twist: pose(k+1) = pose(k) (+) twist(k+1) * dt, all limits held.

    gripper: wanted opening, None to leave it.
    """
    limits = contract.limits
    limit_linear = _LIMIT_LINEAR[contract.drive]
    linear, linear_clips = limit_linear(motion.pose, motion.twist.linear, desired.linear, dt_s, limits)
    angular, angular_clips = _limit_vector(
        motion.twist.angular,
        desired.angular,
        limits.max_angular_velocity_rad_s,
        limits.max_angular_acceleration_rad_s2 * dt_s,
        "angular",
    )
    opening, gripper_clips = _limit_gripper(motion.gripper, gripper, dt_s, contract.gripper)
    twist = Twist(linear, angular)
    limited = Motion(integrate(motion.pose, twist, dt_s), twist, opening)
    return Limited(limited, (*linear_clips, *angular_clips, *gripper_clips))


def brake(motion: Motion, dt_s: float, limits: Limits) -> Limited:
    """One tick towards rest at the acceleration limits. The gripper holds what it has."""
    still = Twist(np.zeros(3), np.zeros(3))
    slowed = Twist(
        _braked(motion.twist.linear, limits.max_linear_acceleration_m_s2 * dt_s),
        _braked(motion.twist.angular, limits.max_angular_acceleration_rad_s2 * dt_s),
    )
    twist = still if is_at_rest(slowed) else slowed
    return Limited(Motion(integrate(motion.pose, twist, dt_s), twist, motion.gripper), ())


def is_at_rest(twist: Twist) -> bool:
    """Exactly at rest, up to rounding."""
    return length(twist.linear) < _SLACK and length(twist.angular) < _SLACK


def distance(first: Pose, second: Pose) -> tuple[float, float]:
    """How far apart two poses are: [m], [rad]."""
    metres = length(first.position - second.position)
    return metres, length(rotation_between(first.quaternion, second.quaternion))


@lru_cache(maxsize=8)
def corners(box: Box) -> tuple[FloatArray, FloatArray]:
    """The lowest and the highest corner, (3,) each [m]: made once, as every tick needs them. Not to be written to."""
    return np.array(box.min), np.array(box.max)


def _approach(error: FloatArray, acceleration: float) -> FloatArray:
    # sqrt(a d) brakes at half the limit, which leaves the other half to the tick's length and to the target's motion.
    far = length(error)
    if far < _SLACK:
        return np.zeros(3)
    return error * (min(far / TRACKING_TIME_S, math.sqrt(acceleration * far)) / far)


def _limit_any_way(
    pose: Pose, velocity: FloatArray, desired: FloatArray, dt_s: float, limits: Limits
) -> tuple[FloatArray, tuple[str, ...]]:
    """Of a robot that moves in any direction: along a wall it slides."""
    acceleration = limits.max_linear_acceleration_m_s2
    shaped = _slow_before_walls(pose.position, desired, acceleration, dt_s, limits.workspace_m)
    return _within_limits(pose.position, velocity, desired, shaped, dt_s, limits)


def _limit_ahead(
    pose: Pose, velocity: FloatArray, desired: FloatArray, dt_s: float, limits: Limits
) -> tuple[FloatArray, tuple[str, ...]]:
    """Of a robot that moves along its x axis alone: before a wall it slows down, for if it were told to slide along it,
    the forward part of that would lead it through. The acceleration is that of its speed.
    """
    ahead = x_axis(pose.quaternion)
    wanted, rolling = float(desired @ ahead) * ahead, float(velocity @ ahead) * ahead
    low, high = corners(limits.workspace_m)
    room = np.where(wanted > 0.0, high - pose.position, pose.position - low)
    bounds = _speed_to_stop_within(room, 0.5 * limits.max_linear_acceleration_m_s2, dt_s)
    shares = bounds / np.maximum(np.abs(wanted), _SLACK)
    shaped = wanted * min(1.0, float(shares[np.abs(wanted) > _SLACK].min(initial=1.0)))
    return _within_limits(pose.position, rolling, wanted, shaped, dt_s, limits)


_LIMIT_LINEAR = {"omnidirectional": _limit_any_way, "differential": _limit_ahead}


def _within_limits(
    position: FloatArray, velocity: FloatArray, desired: FloatArray, shaped: FloatArray, dt_s: float, limits: Limits
) -> tuple[FloatArray, tuple[str, ...]]:
    """shaped: what is desired, slowed down before walls."""
    acceleration = limits.max_linear_acceleration_m_s2
    candidate, clips = _limit_vector(velocity, shaped, limits.max_linear_velocity_m_s, acceleration * dt_s, "linear")
    kept = _keep_able_to_stop(position, velocity, candidate, acceleration, dt_s, limits.workspace_m)
    bent = kept is not candidate or length(shaped - desired) > _SLACK
    return kept, (*clips, "workspace") if bent else clips


def _limit_vector(
    current: FloatArray, desired: FloatArray, max_speed: float, max_change: float, name: str
) -> tuple[FloatArray, tuple[str, ...]]:
    clips: tuple[str, ...] = ()
    if length(desired) > max_speed:
        desired = _shortened(desired, max_speed)
        clips = (f"{name} velocity",)
    change = desired - current
    size = length(change)
    if size > max_change:
        return current + change * (max_change / size), (*clips, f"{name} acceleration")
    return desired, clips


def _shortened(vector: FloatArray, bound: float) -> FloatArray:
    size = length(vector)
    return vector * (bound / size) if size > bound else vector


def _slow_before_walls(
    position: FloatArray, desired: FloatArray, acceleration: float, dt_s: float, box: Box
) -> FloatArray:
    """Bound each axis by v <= sqrt(2 a d), at half the limit, so that sliding along a wall stays possible."""
    low, high = corners(box)
    upper = _speed_to_stop_within(high - position, 0.5 * acceleration, dt_s)
    lower = _speed_to_stop_within(position - low, 0.5 * acceleration, dt_s)
    return np.minimum(np.maximum(desired, -lower), upper)


def _speed_to_stop_within(room: FloatArray, acceleration: float, dt_s: float) -> FloatArray:
    # v dt + v^2 / (2 a) <= d, solved for v: the continuous sqrt(2 a d), less what one tick covers.
    inside = np.maximum(room, 0.0)
    return acceleration * (np.sqrt(dt_s**2 + 2.0 * inside / acceleration) - dt_s)


def _keep_able_to_stop(
    position: FloatArray, velocity: FloatArray, candidate: FloatArray, acceleration: float, dt_s: float, box: Box
) -> FloatArray:
    """The velocity nearest to `candidate`, on the line from braking to it, that can still stop inside the box."""
    braking = _braked(velocity, acceleration * dt_s)
    # Outside the box (it may be armed there) nothing may end further out than braking would.
    allowed = np.maximum(_overrun(position, braking, acceleration, dt_s, box), _SLACK)
    if (_overrun(position, candidate, acceleration, dt_s, box) <= allowed).all():
        return candidate
    safe, unsafe = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (safe + unsafe)
        trial = braking + middle * (candidate - braking)
        if (_overrun(position, trial, acceleration, dt_s, box) <= allowed).all():
            safe = middle
        else:
            unsafe = middle
    return braking + safe * (candidate - braking)


def _overrun(position: FloatArray, velocity: FloatArray, acceleration: float, dt_s: float, box: Box) -> FloatArray:
    """How far outside the box one tick at `velocity`, then straight braking, would end. -> (3,) [m], 0 inside."""
    speed = length(velocity)
    reached = position + velocity * (dt_s + speed / (2.0 * acceleration))
    low, high = corners(box)
    return np.maximum(np.maximum(reached - high, low - reached), 0.0)


def _braked(velocity: FloatArray, max_change: float) -> FloatArray:
    speed = length(velocity)
    return velocity * max(0.0, 1.0 - max_change / speed) if speed > 0.0 else velocity


def _limit_gripper(
    current: float | None, wanted: float | None, dt_s: float, gripper: Gripper
) -> tuple[float | None, tuple[str, ...]]:
    if wanted is None:
        return current, ()
    bounded = min(max(wanted, 0.0), 1.0)
    start = gripper.at_start if current is None else current
    max_change = gripper.max_rate_per_s * dt_s
    limited = start + min(max(bounded - start, -max_change), max_change)
    return limited, ("gripper rate",) if abs(limited - bounded) > _SLACK else ()
