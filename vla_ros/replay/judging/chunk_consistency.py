"""Whether successive chunks agree with each other, and how smooth what they lead to is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from vla_ros.control.chunks import target_at
from vla_ros.control.motion import smoothness
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.action_errors import chunks_of
from vla_ros.replay.judging.commands import Track, instruction_index, replayed_track
from vla_ros.replay.judging.samples import Quantities, gathered
from vla_ros.types import LINEAR_VELOCITY, NS_PER_S, POSITION, Chunk

# Slower than this is no motion, and neither is what is over sooner.
_STILL_M_S = 0.005
_LEAST_S = 0.5


def consistency_quantities(replayed: Replayed) -> Quantities:
    """Disagreement of chunks, leaps of the policy's target, and smoothness of the commanded motions."""
    max_gap_s = replayed.contract.timeouts.driver_s
    commanded = replayed_track(replayed.guard)
    return {
        "chunk_disagreement": gathered(_disagreements(replayed)),
        "target_leap": gathered(_leaps(replayed, max_gap_s)),
        "command_acceleration": gathered(_accelerations(commanded, max_gap_s)),
        "smoothness": gathered(
            (int(motion.at_ns[0]), smoothed)
            for motion in motions(commanded, max_gap_s)
            if (smoothed := _smoothness(motion)) is not None
        ),
    }


def motions(track: Track, max_gap_s: float) -> Iterator[Track]:
    """Spans of at least half a second in which the commanded tool moves without a rest."""
    if not len(track.at_ns):
        return
    speeds = np.linalg.norm(track.rows[:, LINEAR_VELOCITY], axis=1)
    apart = np.diff(track.at_ns) > max_gap_s * NS_PER_S
    moving = speeds >= _STILL_M_S
    breaks = np.flatnonzero(apart | (moving[1:] != moving[:-1])) + 1
    for span in np.split(np.arange(len(track.at_ns)), breaks):
        if moving[span[0]] and track.at_ns[span[-1]] - track.at_ns[span[0]] >= _LEAST_S * NS_PER_S:
            yield Track(track.at_ns[span], track.rows[span])


def _disagreements(replayed: Replayed) -> Iterator[tuple[int, float]]:
    """Mean distance [m] between a chunk and the one before, where both speak, of the same instruction."""
    for before, chunk in pairwise(chunks_of(replayed)):
        instants = np.array([before.t_obs_ns, chunk.t_obs_ns], np.int64)
        told = instruction_index(replayed.instructions, instants)
        if told[0] == told[1] and (distance_m := chunk_distance(before, chunk)) is not None:
            yield chunk.t_obs_ns, distance_m


def chunk_distance(first: Chunk, second: Chunk) -> float | None:
    """Mean distance between the positions of two chunks [m], at the second's rows; None where they do not overlap."""
    found = []
    for index, row in enumerate(second.rows):
        target = target_at(first, second.t_obs_ns + round(index * second.dt_s * NS_PER_S))
        if target is not None:
            found.append(float(np.linalg.norm(row[POSITION] - target.pose.position)))
    return float(np.mean(found)) if found else None


def _leaps(replayed: Replayed, max_gap_s: float) -> Iterator[tuple[int, float]]:
    """How far [m] the policy's target is from where its own velocity would have led it since the last tick."""
    for before, tick in pairwise(replayed.policy):
        dt_s = (tick.now.ros_ns - before.now.ros_ns) / NS_PER_S
        if before.target is None or tick.target is None or not 0.0 < dt_s <= max_gap_s:
            continue
        expected = before.target.pose.position + before.target.twist.linear * dt_s
        yield tick.now.ros_ns, float(np.linalg.norm(tick.target.pose.position - expected))


def _accelerations(track: Track, max_gap_s: float) -> Iterator[tuple[int, float]]:
    dt_s = np.diff(track.at_ns) / NS_PER_S
    changes = np.linalg.norm(np.diff(track.rows[:, LINEAR_VELOCITY], axis=0), axis=1)
    for at_ns, change, span_s in zip(track.at_ns[1:].tolist(), changes.tolist(), dt_s.tolist(), strict=True):
        if 0.0 < span_s <= max_gap_s:
            yield at_ns, change / span_s


def _smoothness(motion: Track) -> float | None:
    dt_s = float(np.median(np.diff(motion.at_ns))) / NS_PER_S
    return smoothness(motion.rows[:, POSITION], dt_s)
