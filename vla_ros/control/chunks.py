"""Chunks in time: which row of a plan is due now."""

from __future__ import annotations

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.geometry import interpolate, normalise
from vla_ros.types import (
    ACTION_WIDTH,
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    NS_PER_S,
    POSITION,
    QUATERNION,
    Chunk,
    FloatArray,
    Pose,
    Target,
    Twist,
)

MAX_DT_S = 10.0
_UNIT_TOLERANCE = 1e-3
_ABSURD = 1e6  # metres, m/s or rad/s


def validate_chunk(chunk: Chunk) -> None:
    """Raise PolicyError, in words, unless rows are (H >= 2, 14), finite, with unit quaternions and 0..1 grippers."""
    rows = chunk.rows
    if not 0.0 < chunk.dt_s <= MAX_DT_S:
        raise PolicyError(f"the chunk's dt is {chunk.dt_s} s; it must be above 0 and at most {MAX_DT_S}")
    if rows.ndim != 2 or rows.shape[1] != ACTION_WIDTH or len(rows) < 2:
        raise PolicyError(f"the chunk's rows have shape {rows.shape}; (2 or more, {ACTION_WIDTH}) is needed")
    if not np.isfinite(rows).all():
        row = np.argwhere(~np.isfinite(rows))[0, 0]
        raise PolicyError(f"row {row} of the chunk is not finite")
    if np.abs(rows).max() > _ABSURD:
        row, column = np.unravel_index(np.abs(rows).argmax(), rows.shape)
        raise PolicyError(f"row {row} of the chunk has {rows[row, column]:g} in column {column}: no robot can do that")
    norms = np.linalg.norm(rows[:, QUATERNION], axis=1)
    if np.abs(norms - 1.0).max() > _UNIT_TOLERANCE:
        raise PolicyError(f"row {int(np.abs(norms - 1.0).argmax())} of the chunk has a quaternion that is not unit")
    gripper = rows[:, GRIPPER]
    if gripper.min() < 0.0 or gripper.max() > 1.0:
        raise PolicyError("a gripper value of the chunk lies outside 0 (closed) to 1 (open)")


def target_at(chunk: Chunk, instant_ns: int) -> Target | None:
    """The chunk at an instant of ROS time; None before its first row and after its last: it is never stretched.

    Positions and velocities are interpolated linearly, rotations by slerp; the gripper is the last row's that is
    due, since half a grasp is no grasp.
    """
    elapsed = (instant_ns - chunk.t_obs_ns) / (chunk.dt_s * NS_PER_S)
    if instant_ns < chunk.t_obs_ns or instant_ns > chunk.end_ns:
        return None
    index = min(int(elapsed), len(chunk.rows) - 2)
    fraction = min(elapsed - index, 1.0)
    before, after = chunk.rows[index], chunk.rows[index + 1]
    blended = before + fraction * (after - before)
    return Target(
        interpolate(_pose(before), _pose(after), fraction),
        Twist(blended[LINEAR_VELOCITY], blended[ANGULAR_VELOCITY]),
        float((after if fraction == 1.0 else before)[GRIPPER]),
    )


def make_row(target: Target) -> FloatArray:
    """A target as one row. -> (14,)."""
    pose, twist = target.pose, target.twist
    return np.concatenate([pose.position, pose.quaternion, twist.linear, twist.angular, [target.gripper]])


def _pose(row: FloatArray) -> Pose:
    return Pose(row[POSITION], normalise(row[QUATERNION]))
