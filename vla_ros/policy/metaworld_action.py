"""Meta-World's four numbers and our fourteen.

Meta-World acts at 80 Hz with (dx, dy, dz, effort), each in [-1, 1]: a step moves the commanded hand by 1 cm per
unit, which is 0.8 m/s, and the effort closes (+1) or opens (-1) the fingers. The orientation never changes.
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import ACTION_WIDTH, GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, FloatArray, Pose

CONTROL_DT_S = 0.0125
FULL_SPEED_M_S = 0.8

# The privileged vector of the simulated robot: Meta-World's observation, then the box that holds the commanded hand.
OBSERVATION = slice(0, 39)
GOAL_POSITION = slice(36, 39)
PLACE_COLUMNS = (4, 5, 6, 11, 12, 13, 36, 37, 38)  # where a task's two things and its goal are
REACH_MIN = slice(39, 42)
REACH_MAX = slice(42, 45)
PRIVILEGED_WIDTH = 45


def to_velocity(action: FloatArray) -> FloatArray:
    """The commanded hand's velocity. action: (4,), clipped to [-1, 1] as Meta-World does; returns (3,) [m/s]."""
    return FULL_SPEED_M_S * np.clip(action[:3], -1.0, 1.0)


def to_gripper(action: FloatArray) -> float:
    """The gripper's opening, 0 closed to 1 open. Zero effort is 0.5: no force either way."""
    return (1.0 - float(np.clip(action[3], -1.0, 1.0))) / 2.0


def to_effort(gripper: float) -> float:
    """Meta-World's effort for an opening of 0 to 1: the inverse of `to_gripper`."""
    return 1.0 - 2.0 * gripper


def to_rows(action: FloatArray, start: Pose, dt_s: float, horizon: int) -> FloatArray:
    """Hold one action for `horizon` rows. start: the commanded pose of row 0; returns (horizon, 14), absolute."""
    velocity = to_velocity(action)
    elapsed_s = dt_s * np.arange(horizon)[:, None]
    rows = np.zeros((horizon, ACTION_WIDTH))
    rows[:, POSITION] = start.position + elapsed_s * velocity
    rows[:, QUATERNION] = start.quaternion
    rows[:, LINEAR_VELOCITY] = velocity
    rows[:, GRIPPER] = to_gripper(action)
    return rows
