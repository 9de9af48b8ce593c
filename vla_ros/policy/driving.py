"""Driving to a thing in a room: what the simulated base tells of its world, and a scripted driver that reads it.

The driver is a function of what it is given and of nothing else, so that who imitates it needs no memory: out of sight
it turns left on the spot, whatever it saw before. Things in the way are passed along the tangents of discs around
them, as in the tangent graph of Liu and Arimoto, "Path planning using a tangent graph for mobile robots among polygonal
and curved obstacles", 1992, looked at anew at every instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.types import (
    ACTION_WIDTH,
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    POSITION,
    QUATERNION,
    FloatArray,
    Pose,
)

WHEELS = ("left_wheel", "right_wheel")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("box", "ball", "cylinder")
THINGS: tuple[str, ...] = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""All that may stand in a room. No two things of one room have the same colour."""
TASKS: tuple[str, ...] = tuple(f"drive-{thing.replace(' ', '-')}" for thing in THINGS)

NO_GRIPPER = 0.5
"""In the place of a gripper's opening, of a robot that has none."""

# The privileged vector: the base, then each thing of THINGS. Metres, radians, m/s, rad/s, in the fixed frame.
BASE = slice(0, 5)  # x, y, heading, forward speed, turning speed
THING_WIDTH = 4  # x, y, radius, 1 if it is in this room
PRIVILEGED_WIDTH = BASE.stop + THING_WIDTH * len(THINGS)

BASE_RADIUS_M = 0.15
REACH_M = 0.4
"""From the base's middle to the edge of the thing that it was sent to: so near it has arrived."""
SIGHT_RAD = 0.78
"""To either side of straight ahead: further off the camera does not show a thing whole."""

_STOP_M = 0.3  # well within reach
_CLEARANCE_M = 0.1
_NEAR_M = 1.0  # what is further off is not in the way yet
_ASIDE_RAD = 0.6  # from the thing: it stays in sight
_BLOCKED_WEIGHT = 10.0
_SPEED_M_S, _CREEP_M_S, _TURN_RAD_S = 0.45, 0.04, 1.0
_SLOWING_PER_S, _STEERING_PER_S = 1.2, 2.5
_AIMED_RAD = 0.6  # further off than this it turns on the spot


class Phase(Enum):
    """What the driver is at, in words."""

    SEARCH = "turn left until the thing is in sight"
    AVOID = "drive past what is in the way"
    APPROACH = "drive up to the thing"
    STAY = "stand before the thing"


@dataclass(frozen=True)
class Drive:
    """What a differential drive can do: forward_m_s along its heading, turn_rad_s about z, left positive."""

    forward_m_s: float
    turn_rad_s: float
    phase: Phase


def thing_of(task: str) -> int:
    """Where in THINGS a task leads. Raises PolicyError, which lists the tasks."""
    if task not in TASKS:
        raise PolicyError(f"'{task}' is not a way to drive; choose one of {', '.join(TASKS)}")
    return TASKS.index(task)


def things_in(privileged: FloatArray) -> FloatArray:
    """The things of the privileged vector, as they stand in THINGS. -> (18, 4): x, y, radius [m], 1 if there"""
    things: FloatArray = privileged[BASE.stop :].reshape(len(THINGS), THING_WIDTH)
    return things


def decide(privileged: FloatArray, thing: int) -> Drive:
    """What a driver does who was sent to a thing, by its place in THINGS. Raises PolicyError if it is not there."""
    things = things_in(privileged)
    if not things[thing, 3]:
        raise PolicyError(f"there is no {THINGS[thing]} in this room")
    distances_m, bearings_rad = _seen_from(privileged[BASE], things)
    bearing_rad = float(bearings_rad[thing])
    if abs(bearing_rad) > SIGHT_RAD:
        return Drive(0.0, _TURN_RAD_S, Phase.SEARCH)
    left_m = float(distances_m[thing] - things[thing, 2]) - _STOP_M
    course_rad = _course(thing, things, distances_m, bearings_rad)
    aim = max(0.0, 1.0 - abs(course_rad) / _AIMED_RAD)
    forward_m_s = aim * min(_SLOWING_PER_S * left_m + _CREEP_M_S, _SPEED_M_S)
    turn_rad_s = min(max(_STEERING_PER_S * course_rad, -_TURN_RAD_S), _TURN_RAD_S)
    if left_m <= 0.0:
        return Drive(0.0, turn_rad_s, Phase.STAY)
    return Drive(forward_m_s, turn_rad_s, Phase.APPROACH if course_rad == bearing_rad else Phase.AVOID)


def goal_of(privileged: FloatArray, thing: int) -> FloatArray:
    """Where a base stands before a thing if it drives straight to it, seen from the base. -> (3,): x ahead, y left [m],
    how far to turn until the thing is straight ahead, -pi to pi [rad]
    """
    things = things_in(privileged)
    distances_m, bearings_rad = _seen_from(privileged[BASE], things)
    left_m = max(0.0, float(distances_m[thing] - things[thing, 2]) - _STOP_M)
    bearing_rad = float(bearings_rad[thing])
    return np.array([left_m * math.cos(bearing_rad), left_m * math.sin(bearing_rad), bearing_rad])


def to_rows(drive: Drive, start: Pose, dt_s: float, horizon: int) -> FloatArray:
    """Hold one drive for `horizon` rows: arcs. start: the commanded pose of row 0; returns (horizon, 14), absolute."""
    headings: FloatArray = heading_of(start.quaternion) + drive.turn_rad_s * dt_s * np.arange(horizon, dtype=np.float64)
    rows = np.zeros((horizon, ACTION_WIDTH))
    rows[:, LINEAR_VELOCITY] = drive.forward_m_s * _ahead(headings)
    rows[:, ANGULAR_VELOCITY.stop - 1] = drive.turn_rad_s
    travelled = np.cumsum(rows[:-1, LINEAR_VELOCITY], axis=0) * dt_s
    rows[:, POSITION] = start.position
    rows[1:, POSITION] += travelled
    rows[:, QUATERNION] = np.stack([quaternion_of(heading) for heading in headings.tolist()])
    rows[:, GRIPPER] = NO_GRIPPER
    return rows


def heading_of(quaternion: FloatArray) -> float:
    """The angle about z of a base's orientation, -pi to pi. (4,) -> [rad]"""
    x, y, z, w = quaternion.tolist()
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def quaternion_of(heading_rad: float) -> FloatArray:
    """A base's orientation. -> (4,) unit, w >= 0"""
    half = 0.5 * math.remainder(heading_rad, 2.0 * math.pi)
    return np.array([0.0, 0.0, math.sin(half), math.cos(half)])


def _ahead(headings_rad: FloatArray) -> FloatArray:
    """Unit vectors along headings. (N,) -> (N, 3)"""
    return np.stack([np.cos(headings_rad), np.sin(headings_rad), np.zeros_like(headings_rad)], axis=1)


def _seen_from(base: FloatArray, things: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far from the base's middle each thing's is [m], and how far left of straight ahead [rad]. -> (18,), (18,)"""
    offsets = things[:, :2] - base[:2]
    bearings = np.arctan2(offsets[:, 1], offsets[:, 0]) - base[2]
    return np.hypot(offsets[:, 0], offsets[:, 1]), _wrapped(bearings)


def _course(thing: int, things: FloatArray, distances_m: FloatArray, bearings_rad: FloatArray) -> float:
    """The bearing to steer by: of the thing, or past what is near and in the way, the thing still in sight [rad]."""
    wanted_rad = float(bearings_rad[thing])
    is_near = (things[:, 3] > 0.0) & (distances_m < min(_NEAR_M, float(distances_m[thing])))
    is_near[thing] = False
    middles = bearings_rad[is_near]
    widths = _half_widths(things[is_near, 2] + BASE_RADIUS_M + _CLEARANCE_M, distances_m[is_near])
    courses = np.concatenate([[wanted_rad], middles + widths, middles - widths])
    courses = np.clip(courses, wanted_rad - _ASIDE_RAD, wanted_rad + _ASIDE_RAD)
    blocked_rad = np.maximum(widths - np.abs(_wrapped(courses[:, None] - middles)), 0.0).sum(axis=1)
    return float(courses[(np.abs(courses - wanted_rad) + _BLOCKED_WEIGHT * blocked_rad).argmin()])


def _half_widths(radii_m: FloatArray, distances_m: FloatArray) -> FloatArray:
    """Half the angle that a disc covers, at most a right angle. (N,), (N,) -> (N,) [rad]"""
    widths: FloatArray = np.arcsin(np.minimum(radii_m / np.maximum(distances_m, 1e-6), 1.0))
    return widths


def _wrapped(angles_rad: FloatArray) -> FloatArray:
    """To -pi to pi."""
    wrapped: FloatArray = (angles_rad + np.pi) % (2.0 * np.pi) - np.pi
    return wrapped
