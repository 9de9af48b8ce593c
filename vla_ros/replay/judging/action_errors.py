"""Open-loop error of chunks: every row beside what the robot was sent at the instant that the row is for.

The policy sees what the recorded robot saw, whatever it plans itself. So an error says how far its plan leads away
from the recorded way, not what would have become of the robot. Rows are left out where nothing was sent, where a human
was in command, and from the next instruction on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.commands import instruction_index, is_human, recorded_track, rows_at
from vla_ros.replay.judging.samples import IntArray, Quantities, Samples
from vla_ros.rotations import between
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
)

DIMENSIONS = ("x", "y", "z", "rx", "ry", "rz", "vx", "vy", "vz", "wx", "wy", "wz", "gripper")
UNITS = ("m", "m", "m", "rad", "rad", "rad", "m/s", "m/s", "m/s", "rad/s", "rad/s", "rad/s", "of its range")
# Slower than this a velocity has no direction worth comparing.
MOVING_M_S = 0.02


@dataclass(frozen=True, eq=False)
class Compared:
    """R rows of chunks, each beside the recorded command.

    at_ns: (R,) what the row is for; t_obs_ns: (R,) of the chunk's observation; lead_s: (R,) between the two.
    errors: (R, 13) planned less recorded, see DIMENSIONS; gripper NaN where none was recorded.
    planned, recorded: (R, 14).
    """

    at_ns: IntArray
    t_obs_ns: IntArray
    lead_s: FloatArray
    errors: FloatArray
    planned: FloatArray
    recorded: FloatArray


def chunks_of(replayed: Replayed) -> tuple[Chunk, ...]:
    """All chunks that reached a tick and can be followed, in that order."""
    plans = (reply.plan for tick in replayed.policy for reply in tick.replies)
    return tuple(plan for plan in plans if plan is not None)


def compare(replayed: Replayed) -> Compared:
    """Every row of every chunk that has something to be compared with."""
    chunks = chunks_of(replayed)
    planned = np.concatenate([chunk.rows for chunk in chunks] or [np.zeros((0, ACTION_WIDTH))])
    at_ns = np.concatenate([_instants(chunk) for chunk in chunks] or [np.zeros(0, np.int64)])
    lengths = [len(chunk.rows) for chunk in chunks]
    t_obs_ns = np.repeat(np.array([chunk.t_obs_ns for chunk in chunks], np.int64), lengths)
    recorded = rows_at(recorded_track(replayed.recorded), at_ns, replayed.contract.timeouts.driver_s)
    same = instruction_index(replayed.instructions, at_ns) == instruction_index(replayed.instructions, t_obs_ns)
    kept = np.isfinite(recorded[:, 0]) & same & ~is_human(replayed, at_ns)
    planned, recorded, at_ns, t_obs_ns = planned[kept], recorded[kept], at_ns[kept], t_obs_ns[kept]
    lead_s = (at_ns - t_obs_ns) / NS_PER_S
    return Compared(at_ns, t_obs_ns, lead_s, _errors(planned, recorded), planned, recorded)


def error_quantities(compared: Compared) -> Quantities:
    """Absolute errors by dimension, and the lengths of the errors of whole vectors; see the metrics' meanings."""
    found = {name: _samples(compared, values) for name, values in row_errors(compared).items()}
    agreement = found["direction_agreement"]
    opposed = Samples(agreement.at_ns, (agreement.values < 0.0).astype(np.float64))
    return {**found, "direction_opposed": opposed}


def row_errors(compared: Compared) -> Mapping[str, FloatArray]:
    """The same by row, NaN where there is nothing to compare. -> name: (R,)"""
    errors = compared.errors
    return {
        "position_error": np.linalg.norm(errors[:, 0:3], axis=1),
        "rotation_error": np.linalg.norm(errors[:, 3:6], axis=1),
        "velocity_error": np.linalg.norm(errors[:, 6:9], axis=1),
        "angular_velocity_error": np.linalg.norm(errors[:, 9:12], axis=1),
        **{f"{name}_error": np.abs(errors[:, index]) for index, name in enumerate(DIMENSIONS)},
        "direction_agreement": direction_agreement(compared.planned, compared.recorded),
    }


def direction_agreement(planned: FloatArray, recorded: FloatArray) -> FloatArray:
    """Cosine of the angle between the linear velocities of rows, NaN where either moves slower than 2 cm/s. -> (R,)"""
    first, second = planned[:, LINEAR_VELOCITY], recorded[:, LINEAR_VELOCITY]
    speeds = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    moving = (speeds[0] >= MOVING_M_S) & (speeds[1] >= MOVING_M_S)
    cosines = np.full(len(planned), np.nan)
    cosines[moving] = (first * second).sum(axis=1)[moving] / (speeds[0] * speeds[1])[moving]
    return cosines


def over_horizon(compared: Compared, bins: int = 8) -> Sequence[Mapping[str, float | None]]:
    """Mean absolute error of each dimension, by how far ahead a row is: equal parts of the longest lead.

    Each part: from_s, to_s, rows, and a number per dimension, None where nothing was compared.
    """
    if not len(compared.lead_s):
        return ()
    edges = np.linspace(0.0, float(compared.lead_s.max()), bins + 1)
    part = np.clip(np.searchsorted(edges, compared.lead_s, side="right") - 1, 0, bins - 1)
    return tuple(_part(compared, part == index, edges[index], edges[index + 1]) for index in range(bins))


def error_by_chunk(compared: Compared) -> Samples:
    """Mean position error [m] of each chunk, at the instant of its observation: where it is worst to look first."""
    instants, inverse = np.unique(compared.t_obs_ns, return_inverse=True)
    lengths = np.linalg.norm(compared.errors[:, 0:3], axis=1)
    sums = np.bincount(inverse, lengths, minlength=len(instants))
    return Samples(instants, sums / np.maximum(np.bincount(inverse, minlength=len(instants)), 1))


def _part(compared: Compared, kept: NDArray[np.bool_], from_s: float, to_s: float) -> Mapping[str, float | None]:
    numbers: dict[str, float | None] = {"from_s": float(from_s), "to_s": float(to_s), "rows": int(kept.sum())}
    for index, name in enumerate(DIMENSIONS):
        values = np.abs(compared.errors[kept, index])
        values = values[np.isfinite(values)]
        numbers[name] = float(values.mean()) if len(values) else None
    return numbers


def _instants(chunk: Chunk) -> IntArray:
    offsets: IntArray = np.rint(np.arange(len(chunk.rows)) * chunk.dt_s * NS_PER_S).astype(np.int64)
    return offsets + chunk.t_obs_ns


def _samples(compared: Compared, values: FloatArray) -> Samples:
    return Samples(compared.at_ns, values).where(np.isfinite(values))


def _errors(planned: FloatArray, recorded: FloatArray) -> FloatArray:
    """(R, 14) and (R, 14) -> (R, 13)"""
    return np.concatenate(
        [
            planned[:, POSITION] - recorded[:, POSITION],
            between(recorded[:, QUATERNION], planned[:, QUATERNION]),
            planned[:, LINEAR_VELOCITY] - recorded[:, LINEAR_VELOCITY],
            planned[:, ANGULAR_VELOCITY] - recorded[:, ANGULAR_VELOCITY],
            planned[:, [GRIPPER]] - recorded[:, [GRIPPER]],
        ],
        axis=1,
    )
