"""What a page draws over time: recorded and replayed commands, plans, errors and latencies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.control.chunks import make_row
from vla_ros.geometry import IDENTITY
from vla_ros.replay.decisions import PolicyDecision
from vla_ros.replay.judging.action_errors import chunks_of
from vla_ros.replay.judging.commands import Track, recorded_track, replayed_track
from vla_ros.replay.judging.samples import IntArray
from vla_ros.replay.report.content import Content
from vla_ros.replay.report.svg import Curve
from vla_ros.rotations import between
from vla_ros.types import ACTION_WIDTH, GRIPPER, LINEAR_VELOCITY, NS_PER_S, POSITION, QUATERNION, Chunk, FloatArray

RECORDED, COMMAND, TARGET, PLAN, ERROR, RIVAL = "recorded", "command", "target", "plan", "error", "rival"
"""What a curve is of: its name for the reader, and its class in the page's style."""
_MAX_PLAN_POINTS = 2000


@dataclass(frozen=True, eq=False)
class Panel:
    """One chart. unit: beside its title; least: a range of values below which there is nothing to see."""

    title: str
    unit: str
    least: float
    curves: Sequence[Curve]

    @property
    def is_flat(self) -> bool:
        """Whether nothing moves in it."""
        known = [curve.values[np.isfinite(curve.values)] for curve in self.curves]
        values = np.concatenate(known or [np.zeros(0)])
        return not len(values) or float(values.max() - values.min()) < self.least


# Columns of what is drawn of a motion.
_DRAWN = (
    ("x", "m", 0.005),
    ("y", "m", 0.005),
    ("z", "m", 0.005),
    ("turn about x", "rad", 0.01),
    ("turn about y", "rad", 0.01),
    ("turn about z", "rad", 0.01),
    ("gripper", "0 closed, 1 open", 0.02),
    ("speed", "m/s", 0.005),
)


def panels(content: Content) -> Iterator[Panel]:
    """From top to bottom. Turns are from the first recorded command's orientation, in the base frame."""
    found = list(_motions(content))
    origin = _first_orientation([rows for _, _, rows in found])
    drawn = [(name, seconds, _drawn(rows, origin)) for name, seconds, rows in found]
    for column, (title, unit, least) in enumerate(_DRAWN):
        yield Panel(title, unit, least, [Curve(name, seconds, rows[:, column]) for name, seconds, rows in drawn])
    yield Panel("chunk error", "m, mean of a chunk", 0.001, list(_measured(content, "chunk_error")))
    yield Panel("latency", "s, of an answer", 0.001, list(_measured(content, "latency")))


def _motions(content: Content) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """(what, (N,) seconds, (N, 14) rows), NaN where nothing was sent; what lies on top comes last."""
    replayed = content.replayed
    yield (PLAN, *_plans(content, tuple(chunks_of(replayed.policy))))
    yield (RECORDED, *_with_gaps(content, recorded_track(replayed.recorded)))
    if content.rival is not None:
        yield (RIVAL, *_targets(content, content.rival.replayed.policy))
    yield (TARGET, *_targets(content, replayed.policy))
    yield (COMMAND, *_with_gaps(content, replayed_track(replayed.guard)))


def _measured(content: Content, quantity: str) -> Iterator[Curve]:
    judged = [(ERROR, content.judgement)]
    if content.rival is not None:
        judged.insert(0, (RIVAL, content.rival.judgement))
    for name, judgement in judged:
        found = judgement.quantities.samples(quantity)
        yield Curve(name, _seconds(content, found.at_ns), found.values)


def _drawn(rows: FloatArray, origin: FloatArray) -> FloatArray:
    """(N, 14) -> (N, 8), see _DRAWN"""
    turns = between(np.broadcast_to(origin, (len(rows), 4)), rows[:, QUATERNION])
    speeds = np.linalg.norm(rows[:, LINEAR_VELOCITY], axis=1)
    return np.concatenate([rows[:, POSITION], turns, rows[:, [GRIPPER]], speeds[:, None]], axis=1)


def _first_orientation(motions: Sequence[FloatArray]) -> FloatArray:
    """Of the recorded command, else of whatever there is."""
    _, recorded, *others = motions
    known = (rows[np.isfinite(rows[:, 0])] for rows in (recorded, *others))
    return next((rows[0, QUATERNION] for rows in known if len(rows)), IDENTITY)


def _targets(content: Content, ticks: Sequence[PolicyDecision]) -> tuple[FloatArray, FloatArray]:
    at_ns = np.array([tick.now.ros_ns for tick in ticks], np.int64)
    silent = np.full(ACTION_WIDTH, math.nan)
    rows = [silent if tick.target is None else make_row(tick.target) for tick in ticks]
    return _seconds(content, at_ns), np.array(rows).reshape(-1, ACTION_WIDTH)


def _plans(content: Content, chunks: Sequence[Chunk]) -> tuple[FloatArray, FloatArray]:
    """As many chunks as can be told apart, each with a break behind it."""
    most = max(1, _MAX_PLAN_POINTS // max((len(chunk.rows) + 1 for chunk in chunks), default=1))
    shown = chunks[:: -(-len(chunks) // most) or 1]
    seconds = [content.seconds(chunk.t_obs_ns) + chunk.dt_s * np.arange(len(chunk.rows) + 1) for chunk in shown]
    rows = [np.concatenate([chunk.rows, np.full((1, ACTION_WIDTH), math.nan)]) for chunk in shown]
    return np.concatenate(seconds or [np.zeros(0)]), np.concatenate(rows or [np.zeros((0, ACTION_WIDTH))])


def _with_gaps(content: Content, track: Track) -> tuple[FloatArray, FloatArray]:
    """A track with breaks where nothing was sent, at its end too."""
    gap_s = content.replayed.contract.timeouts.driver_s
    seconds = _seconds(content, track.at_ns)
    if not len(seconds):
        return seconds, track.rows
    behind = np.flatnonzero(np.diff(seconds, append=math.inf) > gap_s) + 1
    return (
        np.insert(seconds, behind, seconds[behind - 1] + gap_s),
        np.insert(track.rows, behind, math.nan, axis=0),
    )


def _seconds(content: Content, at_ns: IntArray) -> FloatArray:
    return np.asarray((at_ns - content.start_ns) / NS_PER_S, np.float64)
