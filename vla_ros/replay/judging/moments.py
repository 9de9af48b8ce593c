"""The moments to look at first: what stopped the robot, and where the plan led furthest from the recorded way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.replay.judging.judgement import Judgement
from vla_ros.replay.judging.samples import Samples
from vla_ros.types import NS_PER_S

_APART_S = 1.0
# Worse kinds come first, whatever their size.
_ORDER = ("latch", "stop", "error", "near miss")


@dataclass(frozen=True)
class Moment:
    """at_ns: ROS time; after_s: since the replay's first tick; size: of an error [m], else 0; text: what happened."""

    at_ns: int
    after_s: float
    kind: str
    size: float
    text: str


def worst_moments(judged: Judgement, count: int) -> tuple[Moment, ...]:
    """At most `count`, worst first: latches, stops, then the largest errors of chunks, then near misses."""
    found = [_moment(judged, one.at_ns, one.kind, one.cause) for one in judged.events]
    for at_ns, error_m in _peaks(judged.quantities.samples("chunk_error"), count):
        text = f"the chunk leads {error_m * 100:.1f} cm away from the recorded way, on average"
        found.append(_moment(judged, at_ns, "error", text, error_m))
    return tuple(sorted(found, key=lambda moment: rank(moment))[:count])


def _moment(judged: Judgement, at_ns: int, kind: str, text: str, size: float = 0.0) -> Moment:
    return Moment(at_ns, (at_ns - judged.begin_ns) / NS_PER_S, kind, size, text)


def rank(moment: Moment) -> tuple[int, float, int]:
    """Sorts the worst first, of one bag or of many."""
    return _ORDER.index(moment.kind), -moment.size, moment.at_ns


def _peaks(errors: Samples, count: int) -> list[tuple[int, float]]:
    """(instant, value), largest first, at least a second apart."""
    peaks: list[tuple[int, float]] = []
    for index in np.argsort(-errors.values, kind="stable").tolist():
        at_ns = int(errors.at_ns[index])
        if len(peaks) == count:
            break
        if all(abs(at_ns - other_ns) >= _APART_S * NS_PER_S for other_ns, _ in peaks):
            peaks.append((at_ns, float(errors.values[index])))
    return peaks
