"""Rows relative to where the robot was commanded to be, and back. Numpy only: data and policy use the same.

A network's rows start from the commanded pose at t_obs, so that what it learns holds anywhere: positions are
displacements, rotations turn the commanded orientation, velocities stay velocities, and the gripper is an opening.
Along whose axes all that is seen is the network's choice: along the base frame's, which suits cameras that stand, or
along the tool's as it is commanded at t_obs, which suits cameras that move with it.
"""

from __future__ import annotations

import numpy as np

from vla_ros.geometry import conjugate, in_hemisphere_of, multiply, normalise, rotation_between
from vla_ros.model.config import Axes
from vla_ros.rotations import from_rotation_vectors, products, rows_seen_along
from vla_ros.types import (
    ACTION_WIDTH,
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    POSITION,
    QUATERNION,
    FloatArray,
    Observation,
    Pose,
)


def to_relative(rows: FloatArray, origin: Pose, axes: Axes = "base") -> FloatArray:
    """Absolute rows in the base frame, seen from a commanded pose. (H, 14) -> (H, 14), quaternions with w >= 0."""
    relative: FloatArray = rows.copy()
    relative[:, POSITION] = rows[:, POSITION] - origin.position
    back = conjugate(origin.quaternion)
    identity = np.array([0.0, 0.0, 0.0, 1.0])
    turned = [in_hemisphere_of(identity, normalise(multiply(quaternion, back))) for quaternion in rows[:, QUATERNION]]
    relative[:, QUATERNION] = np.array(turned)
    return along(axes, relative, origin.quaternion)


def to_absolute(rows: FloatArray, origin: Pose, axes: Axes = "base") -> FloatArray:
    """The inverse of to_relative: quaternions lie in the hemisphere of the commanded orientation. (H, 14) -> (H, 14)"""
    rows = along(axes, rows, conjugate(origin.quaternion))
    absolute: FloatArray = rows.copy()
    absolute[:, POSITION] = rows[:, POSITION] + origin.position
    turned = [normalise(multiply(quaternion, origin.quaternion)) for quaternion in rows[:, QUATERNION]]
    absolute[:, QUATERNION] = np.array([in_hemisphere_of(origin.quaternion, quaternion) for quaternion in turned])
    return absolute


def along(axes: Axes, rows: FloatArray, tool: FloatArray) -> FloatArray:
    """Rows that are given along the base frame's axes, along a network's. tool: the commanded orientation.

    rows: (..., H, 14); tool: (..., 4) -> (..., H, 14)
    """
    return rows_seen_along(rows, tool) if axes == "tool" else rows


def state_along(axes: Axes, states: FloatArray) -> FloatArray:
    """What a network is told of the robot's states. (N, 14), by state_of -> (N, 14)

    Along the base frame's axes everything. Along the tool's nothing of where in the base frame it is, nor of how it
    faces there, which cameras that move with it do not show and which would tell two headings side by side apart by
    the signs of their quaternions: a position of zeros, no rotation, and how far the command leads it along its axes.
    """
    if axes == "base":
        return states
    seen: FloatArray = along(axes, states[:, None], commanded_orientations(states))[:, 0]
    seen[:, POSITION], seen[:, QUATERNION] = 0.0, (0.0, 0.0, 0.0, 1.0)
    return seen


def commanded_orientations(states: FloatArray) -> FloatArray:
    """By the measured ones and how far the commands led them. (N, 14), by state_of -> (N, 4)"""
    return products(from_rotation_vectors(states[:, ANGULAR_VELOCITY]), states[:, QUATERNION])


def state_of(observation: Observation) -> FloatArray:
    """The robot's state as one row of the action's layout. -> (14,)

    Position, orientation: measured. In the place of the velocity: how far the command leads the tool [m, rad], which
    for an arm that lags behind its command is proportional to its velocity and needs no further sensor. The gripper:
    as last commanded.
    """
    measured, commanded = observation.ee_pose, observation.commanded_pose
    state = np.zeros(ACTION_WIDTH)
    state[POSITION] = measured.position
    state[QUATERNION] = in_hemisphere_of(np.array([0.0, 0.0, 0.0, 1.0]), measured.quaternion)
    state[LINEAR_VELOCITY] = commanded.position - measured.position
    state[ANGULAR_VELOCITY] = rotation_between(measured.quaternion, commanded.quaternion)
    state[GRIPPER] = observation.gripper
    return state
