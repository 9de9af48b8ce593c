"""Open-loop error of chunks: every row beside what the robot was sent at the instant that the row is for.

The policy sees what the recorded robot saw, whatever it plans itself. So an error says how far its plan leads away
from the recorded way, not what would have become of the robot. Rows are left out where nothing was sent, where a human
was in command, and from the next instruction on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import Contract
from vla_ros.replay.decisions import Batch, PolicyDecision
from vla_ros.replay.judging.commands import MEMORY_NS, Surroundings, no_surroundings, rows_at
from vla_ros.replay.judging.samples import IntArray, Measured, Samples
from vla_ros.replay.judging.spool import Spool
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


# A recorder delivers late, and clocks of several machines differ: what a chunk is compared with is complete so long
# after its last row.
_LATE_NS = 5 * NS_PER_S
LEAD = "lead"
"""Of rows alone: no quantity to make metrics from."""


@dataclass(frozen=True, eq=False)
class Compared:
    """R rows of chunks, each beside the recorded command.

    at_ns: (R,) what the row is for; t_obs_ns: (R,) of the chunk's observation.
    errors: (R, 13) planned less recorded, see DIMENSIONS; gripper NaN where none was recorded.
    planned, recorded: (R, 14).
    """

    at_ns: IntArray
    t_obs_ns: IntArray
    errors: FloatArray
    planned: FloatArray
    recorded: FloatArray


class ActionErrors:
    """Compares each chunk once its last row is past.

    Quantities by row are NaN where there is nothing to compare, so that they stay row by row; LEAD [s] is how far a row
    is ahead of its chunk's observation.
    """

    def __init__(self, contract: Contract) -> None:
        self._max_gap_s = contract.timeouts.driver_s
        self._around = no_surroundings()
        self._waiting: tuple[Chunk, ...] = ()
        self._newest_ns = 0

    def hear(self, batch: Batch) -> Measured:
        """Of chunks that are past."""
        self._newest_ns = max((self._newest_ns, *batch.ticks_ns))
        self._around = self._around.and_then(batch)
        self._waiting = (*self._waiting, *chunks_of(batch.policy))
        count = len(list(takewhile(lambda one: one.end_ns + _LATE_NS <= self._newest_ns, self._waiting)))
        past, self._waiting = self._waiting[:count], self._waiting[count:]
        found = self._compare(past)
        oldest_ns = min((one.t_obs_ns for one in self._waiting), default=self._newest_ns)
        self._around = self._around.between(min(oldest_ns, self._newest_ns - MEMORY_NS), self._newest_ns + MEMORY_NS)
        return found

    def clock_set_back(self) -> Measured:
        """Of the other chunks: what was before has no place in the new time."""
        found = self.end()
        self._around, self._newest_ns = no_surroundings(self._around.told.anew()), 0
        return found

    def end(self) -> Measured:
        """Of the other chunks."""
        left, self._waiting = self._waiting, ()
        return self._compare(left)

    def _compare(self, chunks: Sequence[Chunk]) -> Measured:
        compared = compare(chunks, self._around, self._max_gap_s)
        rows = {name: Samples(compared.at_ns, values) for name, values in row_errors(compared).items()}
        return {**rows, "chunk_error": error_by_chunk(compared)}


def chunks_of(policy: Iterable[PolicyDecision]) -> Iterator[Chunk]:
    """All chunks that reached a tick and can be followed, in that order.

    Without those of observations yet to come: they were made before the clock was set back.
    """
    for tick in policy:
        plans = (reply.plan for reply in tick.replies)
        yield from (plan for plan in plans if plan is not None and plan.t_obs_ns <= tick.now.ros_ns + _LATE_NS)


def compare(chunks: Sequence[Chunk], around: Surroundings, max_gap_s: float) -> Compared:
    """Every row of these chunks that has something to be compared with. max_gap_s: see `rows_at`."""
    planned = np.concatenate([chunk.rows for chunk in chunks] or [np.zeros((0, ACTION_WIDTH))])
    at_ns = np.concatenate([row_instants(chunk) for chunk in chunks] or [np.zeros(0, np.int64)])
    lengths = [len(chunk.rows) for chunk in chunks]
    t_obs_ns = np.repeat(np.array([chunk.t_obs_ns for chunk in chunks], np.int64), lengths)
    recorded = rows_at(around.track, at_ns, max_gap_s)
    same = around.told.number(at_ns) == around.told.number(t_obs_ns)
    kept = np.isfinite(recorded[:, 0]) & same & ~around.is_human(at_ns)
    planned, recorded, at_ns, t_obs_ns = planned[kept], recorded[kept], at_ns[kept], t_obs_ns[kept]
    return Compared(at_ns, t_obs_ns, _errors(planned, recorded), planned, recorded)


def row_errors(compared: Compared) -> Mapping[str, FloatArray]:
    """Sizes of the errors by dimension, and the lengths of the errors of whole vectors, NaN where there is nothing to
    compare; see the metrics' meanings. -> name: (R,)
    """
    errors = compared.errors
    agreement = direction_agreement(compared.planned, compared.recorded)
    return {
        LEAD: (compared.at_ns - compared.t_obs_ns) / NS_PER_S,
        "position_error": np.linalg.norm(errors[:, 0:3], axis=1),
        "rotation_error": np.linalg.norm(errors[:, 3:6], axis=1),
        "velocity_error": np.linalg.norm(errors[:, 6:9], axis=1),
        "angular_velocity_error": np.linalg.norm(errors[:, 9:12], axis=1),
        **{f"{name}_error": np.abs(errors[:, index]) for index, name in enumerate(DIMENSIONS)},
        "direction_agreement": agreement,
        "direction_opposed": np.where(np.isfinite(agreement), agreement < 0.0, np.nan),
    }


def direction_agreement(planned: FloatArray, recorded: FloatArray) -> FloatArray:
    """Cosine of the angle between the linear velocities of rows, NaN where either moves slower than 2 cm/s. -> (R,)"""
    first, second = planned[:, LINEAR_VELOCITY], recorded[:, LINEAR_VELOCITY]
    speeds = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    moving = (speeds[0] >= MOVING_M_S) & (speeds[1] >= MOVING_M_S)
    cosines = np.full(len(planned), np.nan)
    cosines[moving] = (first * second).sum(axis=1)[moving] / (speeds[0] * speeds[1])[moving]
    return cosines


def observed_ns(rows: Spool) -> IntArray:
    """Of what was observed when a row was planned, ROS time, for each row. rows: of `ActionErrors`. -> (R,)"""
    return np.asarray(rows.row_instants(LEAD) - np.rint(rows.rows(LEAD) * NS_PER_S).astype(np.int64), np.int64)


def over_horizon(rows: Spool, bins: int = 8) -> Sequence[Mapping[str, float | None]]:
    """Mean absolute error of each dimension, by how far ahead a row is: equal parts of the longest lead.

    rows: of `ActionErrors`. Each part: from_s, to_s, rows, and a number per dimension, None where nothing was compared.
    """
    longest_s = max((float(lead_s.max()) for (lead_s,) in rows.blocks(LEAD)), default=None)
    if longest_s is None:
        return ()
    edges = np.linspace(0.0, longest_s, bins + 1)
    counts, sums, known = np.zeros(bins, int), np.zeros((len(DIMENSIONS), bins)), np.zeros((len(DIMENSIONS), bins), int)
    for lead_s, *errors in rows.blocks(LEAD, *(f"{name}_error" for name in DIMENSIONS)):
        part = np.clip(np.searchsorted(edges, lead_s, side="right") - 1, 0, bins - 1)
        counts += np.bincount(part, minlength=bins)
        for index, values in enumerate(errors):
            finite = np.isfinite(values)
            sums[index] += np.bincount(part[finite], values[finite], minlength=bins)
            known[index] += np.bincount(part[finite], minlength=bins)
    return tuple(
        {
            "from_s": float(edges[index]),
            "to_s": float(edges[index + 1]),
            "rows": int(counts[index]),
            **{
                name: float(total[index] / count[index]) if count[index] else None
                for name, total, count in zip(DIMENSIONS, sums, known, strict=True)
            },
        }
        for index in range(bins)
    )


def error_by_chunk(compared: Compared) -> Samples:
    """Mean position error [m] of each chunk, at the instant of its observation: where it is worst to look first."""
    instants, inverse = np.unique(compared.t_obs_ns, return_inverse=True)
    lengths = np.linalg.norm(compared.errors[:, 0:3], axis=1)
    sums = np.bincount(inverse, lengths, minlength=len(instants))
    return Samples(instants, sums / np.maximum(np.bincount(inverse, minlength=len(instants)), 1))


def row_instants(chunk: Chunk) -> IntArray:
    """What its rows are for, ROS time [ns]. -> (H,)"""
    offsets: IntArray = np.rint(np.arange(len(chunk.rows)) * chunk.dt_s * NS_PER_S).astype(np.int64)
    return offsets + chunk.t_obs_ns


def _means(part: NDArray[np.intp], values: FloatArray, bins: int) -> Sequence[float | None]:
    """Of the finite values of each part."""
    chosen = [values[(part == index) & np.isfinite(values)] for index in range(bins)]
    return [float(one.mean()) if len(one) else None for one in chosen]


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
