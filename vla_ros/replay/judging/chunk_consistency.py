"""Whether successive chunks agree with each other, and how smooth what they lead to is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import Contract
from vla_ros.control.motion import smoothness
from vla_ros.replay.decisions import Batch, PolicyDecision
from vla_ros.replay.judging.action_errors import chunks_of, row_instants
from vla_ros.replay.judging.commands import MEMORY_NS, NOTHING_TOLD, InOrder, Told, Track, as_replayed, replayed_track
from vla_ros.replay.judging.samples import Measured, Samples, gathered
from vla_ros.types import LINEAR_VELOCITY, NS_PER_S, POSITION, Chunk

# Slower than this is no motion, and neither is what is over sooner.
_STILL_M_S = 0.005
_LEAST_S = 0.5
_SILENT = np.full(3, np.nan)
# One that goes on for longer counts as several.
_LONGEST_NS = MEMORY_NS


class ChunkConsistency:
    """Disagreement of chunks, leaps of the policy's target, and smoothness of the commanded motions."""

    def __init__(self, contract: Contract) -> None:
        self._max_gap_s = contract.timeouts.driver_s
        self._told = NOTHING_TOLD
        self._chunk: tuple[Chunk, ...] = ()
        self._tick: tuple[PolicyDecision, ...] = ()
        self._commands = InOrder()
        self._span = replayed_track(())

    def hear(self, batch: Batch) -> Measured:
        """Of all that is over."""
        self._told = self._told.and_then(batch.instructions)
        chunks, ticks = (*self._chunk, *chunks_of(batch.policy)), (*self._tick, *batch.policy)
        self._chunk, self._tick = chunks[-1:], ticks[-1:]
        measured = {
            "chunk_disagreement": gathered(_disagreements(chunks, self._told)),
            "target_leap": _leaps(ticks, self._max_gap_s),
            **self._moved(self._commands.hear(as_replayed(batch.guard))),
        }
        if ticks:
            self._told = self._told.since(ticks[-1].now.ros_ns - MEMORY_NS)
        return measured

    def clock_set_back(self) -> Measured:
        """Of the motion that this ends."""
        measured = self.end()
        self._told, self._chunk, self._tick = self._told.anew(), (), ()
        return measured

    def end(self) -> Measured:
        """Of the last motion."""
        measured = self._moved(self._commands.end())
        left, self._span = self._span, replayed_track(())
        return {**measured, "smoothness": _joined(measured["smoothness"], _smooth([left]))}

    def _moved(self, track: Track) -> dict[str, Samples]:
        """Of motions that are over. Of one that is not, all is remembered; of a rest only its end."""
        before = self._span
        whole = Track(np.append(before.at_ns, track.at_ns), np.concatenate([before.rows, track.rows]))
        *over, self._span = [whole.part(indices) for indices in _spans(whole, self._max_gap_s)]
        if _is_rest(self._span):
            self._span = self._span.part(slice(-1, None))
        since_last = whole.part(slice(max(len(before.at_ns) - 1, 0), None))
        return {
            "command_acceleration": _accelerations(since_last, self._max_gap_s),
            "smoothness": _smooth(over),
        }


def _spans(track: Track, max_gap_s: float) -> Iterator[NDArray[np.intp]]:
    """Indices of each stretch of motion, none longer than a minute, or of rest; one without any of nothing."""
    speeds = np.linalg.norm(track.rows[:, LINEAR_VELOCITY], axis=1)
    moving = speeds >= _STILL_M_S
    apart = np.diff(track.at_ns) > max_gap_s * NS_PER_S
    for span in np.split(np.arange(len(track.at_ns)), np.flatnonzero(apart | (moving[1:] != moving[:-1])) + 1):
        while len(span) and track.at_ns[span[-1]] - track.at_ns[span[0]] >= _LONGEST_NS:
            end = int(np.searchsorted(track.at_ns[span], track.at_ns[span[0]] + _LONGEST_NS))
            yield span[:end]
            span = span[end:]
        yield span


def _joined(first: Samples, second: Samples) -> Samples:
    return Samples(np.append(first.at_ns, second.at_ns), np.append(first.values, second.values))


def _smooth(spans: Sequence[Track]) -> Samples:
    """Of the motions among them, those that last long enough."""
    return gathered((int(span.at_ns[0]), smoothed) for span in spans if (smoothed := _smoothness(span)) is not None)


def _disagreements(chunks: Sequence[Chunk], told: Told) -> Iterator[tuple[int, float]]:
    """Mean distance [m] between a chunk and the one before, where both speak, of the same instruction."""
    for before, chunk in pairwise(chunks):
        first, second = told.number(np.array([before.t_obs_ns, chunk.t_obs_ns], np.int64))
        if first == second and (distance_m := chunk_distance(before, chunk)) is not None:
            yield chunk.t_obs_ns, distance_m


def chunk_distance(first: Chunk, second: Chunk) -> float | None:
    """Mean distance between the positions of two chunks [m], at the second's rows; None where they do not overlap."""
    at_ns = row_instants(second)
    both = (at_ns >= first.t_obs_ns) & (at_ns <= first.end_ns)
    if not both.any():
        return None
    places = (at_ns[both] - first.t_obs_ns) / (first.dt_s * NS_PER_S)  # in rows of the first
    rows, positions = np.arange(len(first.rows)), first.rows[:, POSITION]
    there = np.stack([np.interp(places, rows, positions[:, axis]) for axis in range(3)], axis=1)
    return float(np.linalg.norm(second.rows[both, POSITION] - there, axis=1).mean())


def _leaps(ticks: Sequence[PolicyDecision], max_gap_s: float) -> Samples:
    """How far [m] the policy's target is from where its own velocity would have led it since the last tick."""
    at_ns = np.array([tick.now.ros_ns for tick in ticks], np.int64)
    targets = [tick.target for tick in ticks]
    positions = np.array([_SILENT if one is None else one.pose.position for one in targets]).reshape(-1, 3)
    velocities = np.array([_SILENT if one is None else one.twist.linear for one in targets]).reshape(-1, 3)
    dt_s = np.diff(at_ns) / NS_PER_S
    leaps_m = np.linalg.norm(positions[1:] - (positions[:-1] + velocities[:-1] * dt_s[:, None]), axis=1)
    kept = np.isfinite(leaps_m) & (dt_s > 0.0) & (dt_s <= max_gap_s)
    return Samples(at_ns[1:][kept], leaps_m[kept])


def _accelerations(track: Track, max_gap_s: float) -> Samples:
    dt_s = np.diff(track.at_ns) / NS_PER_S
    changes = np.linalg.norm(np.diff(track.rows[:, LINEAR_VELOCITY], axis=0), axis=1)
    kept = (dt_s > 0.0) & (dt_s <= max_gap_s)
    return Samples(track.at_ns[1:][kept], changes[kept] / dt_s[kept])


def _smoothness(span: Track) -> float | None:
    """None of a rest, and of what is over too soon."""
    if _is_rest(span) or span.at_ns[-1] - span.at_ns[0] < _LEAST_S * NS_PER_S:
        return None
    return smoothness(span.rows[:, POSITION], float(np.median(np.diff(span.at_ns))) / NS_PER_S)


def _is_rest(span: Track) -> bool:
    """Of a stretch that is one or the other from beginning to end."""
    return not len(span.at_ns) or float(np.linalg.norm(span.rows[0, LINEAR_VELOCITY])) < _STILL_M_S
