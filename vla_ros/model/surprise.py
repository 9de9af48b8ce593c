"""When is what is seen not what was expected? A threshold with a promise, and what follows from it. Numpy only.

There are three kinds of error. What is seen was not foretold. What is seen is unlike everything that was learned from,
however well it follows from what was seen before: a camera is covered. And the things move as they do when somebody
meddles with them: one is moved, or it slips.

Each kind is counted in a unit of its own, since its honest errors have tails of their own: the largest one on some
undisturbed runs. Surprise is the largest of the three. Its threshold is an order statistic of surprise on
the same runs, chosen so that the promise holds with a stated confidence whatever the distribution is: Wilks,
"Determination of sample sizes for setting tolerance limits", 1941. The units are measured on other runs than that
statistic, a fifth of all: in units of its own a sample would look more usual than it is. Assumed is that those instants
are independent and alike to those of later runs. Surprises near in time are not independent, so that runs should be
many and short rather than one and long; several alarms in a row count as several, which errs on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.errors import ModelError
from vla_ros.types import NS_PER_S, FloatArray

PARTS = ("unforeseen", "unfamiliar", "meddled")
_ONE_IN = 5  # runs, of which the scales are measured
_CONFIDENCE = 0.95
# Of a scale. Below even odds a suspicion is a share of next to nothing, and no measure of anything.
_LEAST = (1e-9, 1e-9, math.log(2.0))
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Calibration:
    """scales: of each of the PARTS, in which surprise is counted. threshold: of surprise, above which it is an alarm.

    Before anything was calibrated the scales are the largest errors on demonstrations that nothing was learned from,
    but for meddling.
    """

    scales: tuple[float, ...] = (1.0, 1.0, 1.0)
    threshold: float = math.inf

    def surprise(self, errors: Sequence[float]) -> float:
        """The largest of three errors, one of each of the PARTS, in units of its scale."""
        return max(error / scale for error, scale in zip(errors, self.scales, strict=True))


def calibrate(
    runs: Sequence[FloatArray], period_s: float, alarms_per_hour: float, confidence: float = _CONFIDENCE
) -> Calibration:
    """The lowest threshold that promises at most so many false alarms an hour.

    runs: errors of each, (n, 3), one row every period_s. The promise is wrong with a probability of 1 - confidence.
    Raises ModelError for errors that are no distances, for a rate that is none, and for runs that are too short for it,
    naming what they would suffice for.
    """
    _check(runs)
    share = alarms_per_hour * period_s / _SECONDS_PER_HOUR
    if not (0.0 < share < 1.0 and 0.0 < confidence < 1.0):
        raise ModelError(
            f"{alarms_per_hour:g} false alarms an hour, instants {period_s:g} s apart, a confidence of {confidence:g}: "
            f"the rate must lie between 0 and {_SECONDS_PER_HOUR / period_s:g}, the confidence between 0 and 1"
        )
    measured, counted = _apart(runs)
    above = _allowed_above(len(counted), share, 1.0 - confidence)
    if above < 0:
        raise ModelError(_too_short(len(measured), len(counted), period_s, alarms_per_hour, confidence))
    scales = np.maximum(measured.max(axis=0), _LEAST)  # (3,)
    surprises = np.sort((counted / scales).max(axis=1))
    return Calibration(tuple(scales.tolist()), float(surprises[len(counted) - 1 - above]))


def hours_needed(alarms_per_hour: float, confidence: float = _CONFIDENCE) -> float:
    """Of looks of which something was expected: with so many `calibrate` can promise it, however far apart they are."""
    return -math.log(1.0 - confidence) / alarms_per_hour * _ONE_IN / (_ONE_IN - 1)


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


def _check(runs: Sequence[FloatArray]) -> None:
    are_tables = all(run.ndim == 2 and run.shape[1] == len(PARTS) for run in runs)
    are_distances = are_tables and all(np.isfinite(run).all() and (run >= 0.0).all() for run in runs)
    if not are_distances or not any(run.any() for run in runs):
        raise ModelError(
            f"errors to calibrate with must be rows of {len(PARTS)} finite numbers of at least 0, not all 0"
        )


def _apart(runs: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """What the scales are measured by, every fifth run but at most a fifth of all looks, and what is counted."""
    some = np.concatenate(runs[::_ONE_IN])
    most = max(1, sum(map(len, runs)) // _ONE_IN)
    others = [run for number, run in enumerate(runs) if number % _ONE_IN]
    return some[:most], np.concatenate([some[most:], *others])


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


def _too_short(measured: int, counted: int, period_s: float, alarms_per_hour: float, confidence: float) -> str:
    per_hour = _SECONDS_PER_HOUR / period_s
    needed_h = hours_needed(alarms_per_hour, confidence)
    possible = per_hour * -math.expm1(math.log(1.0 - confidence) / counted) if counted else per_hour
    return (
        f"{(measured + counted) / per_hour:.2g} h of undisturbed runs cannot promise {alarms_per_hour:g} false alarms "
        f"an hour: {needed_h:.2g} h are needed; these suffice for {possible:.3g} an hour"
    )
