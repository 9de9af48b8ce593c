"""When is what is seen not what was expected? A threshold with a promise, and what follows from it. Numpy only.

There are three kinds of error. What is seen was not foretold. The task's first thing is not where it was foretold to
be, which adds up over a few looks: it was moved, or it slipped. And what is seen is unlike everything that was learned
from, however well it follows from what was seen before: a camera is covered.

Each kind is counted in a unit of its own, since its honest errors have tails of their own: what one look in a thousand
exceeds on undisturbed runs. Surprise is the largest of the three. Its threshold is an order statistic of surprise on
the same runs, chosen so that the promise holds with a stated confidence whatever the distribution is: Wilks,
"Determination of sample sizes for setting tolerance limits", 1941. Assumed is that those instants are independent and
alike to those of later runs. Surprises near in time are not independent, so that runs should be many and short rather
than one and long; several alarms in a row count as several, which errs on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.errors import ModelError
from vla_ros.types import NS_PER_S, FloatArray

PARTS = ("unforeseen", "moved_m", "unfamiliar")
ADDED_UP = 3
"""Looks over which a thing's motion is added up: it takes a hand two of them to move one."""
MOVED_SCALE_M = 0.1
_USUAL = 0.999  # share of looks
_LEAST = 1e-9  # of a scale: a network without places never sees anything move
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Calibration:
    """scales: of each of the PARTS, in which surprise is counted. threshold: of surprise, above which it is an alarm.

    Before anything was calibrated the scales are the largest errors on demonstrations that nothing was learned from,
    but for what moved.
    """

    scales: tuple[float, ...] = (1.0, MOVED_SCALE_M, 1.0)
    threshold: float = math.inf

    def surprise(self, errors: Sequence[float]) -> float:
        """The largest of three errors, one of each of the PARTS, in units of its scale."""
        return max(error / scale for error, scale in zip(errors, self.scales, strict=True))


def calibrate(errors: FloatArray, period_s: float, alarms_per_hour: float, confidence: float = 0.95) -> Calibration:
    """The lowest threshold that promises at most so many false alarms an hour. errors: (N, 3), one row every period_s.

    The promise is wrong with a probability of 1 - confidence. Raises ModelError for errors that are no distances, for
    a rate that is none, and for runs that are too short for it, naming what they would suffice for.
    """
    is_table = errors.ndim == 2 and errors.shape[1:] == (len(PARTS),) and len(errors) > 0
    if not is_table or not np.isfinite(errors).all() or (errors < 0.0).any() or not errors.any():
        raise ModelError(
            f"errors to calibrate with must be rows of {len(PARTS)} finite numbers of at least 0, not all 0"
        )
    share = alarms_per_hour * period_s / _SECONDS_PER_HOUR
    if not (0.0 < share < 1.0 and 0.0 < confidence < 1.0):
        raise ModelError(
            f"{alarms_per_hour:g} false alarms an hour, instants {period_s:g} s apart, a confidence of {confidence:g}: "
            f"the rate must lie between 0 and {_SECONDS_PER_HOUR / period_s:g}, the confidence between 0 and 1"
        )
    above = _allowed_above(len(errors), share, 1.0 - confidence)
    if above < 0:
        raise ModelError(_too_short(len(errors), period_s, alarms_per_hour, confidence))
    scales = np.maximum(np.quantile(errors, _USUAL, axis=0), _LEAST)  # (3,)
    surprises = np.sort((errors / scales).max(axis=1))
    return Calibration(tuple(scales.tolist()), float(surprises[len(errors) - 1 - above]))


class Escalation(Enum):
    """What is to be done about a surprise."""

    NONE = "go on"
    REPLAN = "plan anew"
    STOP = "stop"


def escalate(
    surprise: float | None, since_ns: int | None, now_ns: int, threshold: float, patience_s: float
) -> tuple[Escalation, int | None]:
    """Above the threshold plan anew; still above it after patience_s, stop.

    surprise: None where nothing had been foretold, which ends an alarm. since_ns: of the alarm that is under way, as
    the last call returned it, None for none. -> what to do, and since when there is an alarm
    """
    if surprise is None or surprise <= threshold:
        return Escalation.NONE, None
    began_ns = now_ns if since_ns is None else since_ns
    is_over = now_ns - began_ns >= patience_s * NS_PER_S
    return (Escalation.STOP if is_over else Escalation.REPLAN), began_ns


def _allowed_above(count: int, share: float, doubt: float) -> int:
    """How many of the largest errors may lie above the threshold; -1 if not even it may be the largest one.

    With j above, more than `share` of all errors are above it with the probability P(Binomial(count, share) <= j).
    """
    log_term = count * math.log1p(-share)
    total, above = math.exp(log_term), -1
    while total <= doubt:
        above += 1
        log_term += math.log((count - above) / (above + 1)) + math.log(share) - math.log1p(-share)
        total += math.exp(log_term)
    return above


def _too_short(count: int, period_s: float, alarms_per_hour: float, confidence: float) -> str:
    per_hour = _SECONDS_PER_HOUR / period_s
    needed = math.ceil(math.log(1.0 - confidence) / math.log1p(-alarms_per_hour / per_hour))
    possible = per_hour * -math.expm1(math.log(1.0 - confidence) / count)
    return (
        f"{count / per_hour:.2g} h of undisturbed runs cannot promise {alarms_per_hour:g} false alarms an hour: "
        f"{needed / per_hour:.2g} h are needed; these suffice for {possible:.3g} an hour"
    )
