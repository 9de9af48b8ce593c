"""The threshold of surprise keeps its promise, and an alarm leads to a new plan first and to a stop later."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_ros.errors import ModelError
from vla_ros.model.surprise import Calibration, Escalation, escalate, threshold_for
from vla_ros.types import NS_PER_S

PERIOD_S = 0.1
PER_HOUR = 60.0


def test_on_surprises_of_any_kind_the_promise_is_kept_as_often_as_was_said() -> None:
    rng = np.random.default_rng(0)
    fresh = np.sort(rng.gamma(2.0, size=2_000_000))
    rates = []
    for _ in range(200):
        threshold = threshold_for(rng.gamma(2.0, size=20_000), PERIOD_S, PER_HOUR, confidence=0.9)
        above = 1.0 - np.searchsorted(fresh, threshold, "right") / len(fresh)
        rates.append(above * 3600.0 / PERIOD_S)
    kept = np.mean(np.array(rates) <= PER_HOUR)
    print(f"kept in {kept:.0%}; {np.mean(rates):.0f} alarms an hour on average, {PER_HOUR:g} allowed")
    assert 0.84 <= kept <= 0.97
    assert np.mean(rates) > 0.5 * PER_HOUR, "an alarm that never sounds keeps any promise"


def test_surprise_is_the_largest_of_three_errors_each_in_its_own_unit() -> None:
    calibration = Calibration(scales=(2.0, 0.5, 10.0), threshold=1.5)
    assert calibration.surprise((4.0, 0.5, 5.0)) == 2.0
    assert calibration.surprise((4.0, 2.0, 5.0)) == 4.0
    assert calibration.surprise((4.0, 0.5, 50.0)) == 5.0


def test_fewer_alarms_or_more_confidence_need_a_higher_threshold() -> None:
    surprises = np.random.default_rng(2).gamma(2.0, size=20_000)
    thresholds = [threshold_for(surprises, PERIOD_S, rate) for rate in (600.0, 60.0, 12.0)]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]
    assert threshold_for(surprises, PERIOD_S, 60.0, 0.5) < threshold_for(surprises, PERIOD_S, 60.0, 0.999)


def test_runs_that_are_too_short_say_what_they_suffice_for() -> None:
    surprises = np.random.default_rng(3).gamma(2.0, size=3_600)
    with pytest.raises(ModelError, match=r"0\.1 h of .* promise 1 .*: 3 h are needed; .* for 29\.9 an hour"):
        threshold_for(surprises, PERIOD_S, 1.0)
    assert threshold_for(surprises, PERIOD_S, 30.0) == surprises.max()


@pytest.mark.parametrize(
    "surprises", [np.array([]), np.array([1.0, math.nan]), np.array([1.0, -1.0]), np.zeros(9), np.ones((3, 3))], ids=str
)
def test_what_is_no_row_of_surprises_is_refused(surprises: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ModelError, match="must be a row of finite numbers"):
        threshold_for(surprises, PERIOD_S, PER_HOUR)


@pytest.mark.parametrize(("rate", "confidence"), [(0.0, 0.9), (-1.0, 0.9), (36_000.0, 0.9), (60.0, 1.0)])
def test_a_rate_that_is_none_is_refused(rate: float, confidence: float) -> None:
    with pytest.raises(ModelError, match="the rate must lie between 0 and 36000"):
        threshold_for(np.ones(100), PERIOD_S, rate, confidence)


def test_uncalibrated_nothing_is_an_alarm() -> None:
    assert escalate(1e9, None, 0, Calibration().threshold, 0.0) == (Escalation.NONE, None)


def decisions(surprises: list[float | None], patience_s: float = 0.3) -> list[Escalation]:
    """One every tenth of a second; 4 is the threshold."""
    since_ns, made = None, []
    for index, surprise in enumerate(surprises):
        step, since_ns = escalate(surprise, since_ns, index * NS_PER_S // 10, 4.0, patience_s)
        made.append(step)
    return made


def test_an_alarm_asks_for_a_new_plan_and_for_a_stop_only_when_it_lasts() -> None:
    go, replan, stop = Escalation.NONE, Escalation.REPLAN, Escalation.STOP
    assert decisions([1.0, 4.0, 4.1, 9.0, 5.0, 4.1, 8.0]) == [go, go, replan, replan, replan, stop, stop]
    assert decisions([5.0, 5.0, 1.0, 5.0, 5.0, 5.0]) == [replan, replan, go, replan, replan, replan]
    assert decisions([5.0, 5.0, 5.0, 5.0, 1.0]) == [replan, replan, replan, stop, go]
    assert decisions([5.0, 5.0, 5.0, None, 5.0]) == [replan, replan, replan, go, replan]
    assert decisions([5.0, 5.0], patience_s=0.0) == [stop, stop]
