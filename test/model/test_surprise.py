"""The threshold of surprise keeps its promise, and an alarm leads to a new plan first and to a stop later."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_ros.errors import ModelError
from vla_ros.model.surprise import Calibration, Escalation, calibrate, escalate
from vla_ros.types import NS_PER_S

PERIOD_S = 0.1
PER_HOUR = 60.0


def drawn(count: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """Errors of undisturbed runs: three kinds, of other sizes and tails. -> (count, 3)"""
    tails = rng.gamma(2.0, size=count), 0.02 * rng.exponential(size=count) ** 2, 0.5 + 0.1 * rng.random(count)
    return np.stack(tails, axis=1)


def test_on_errors_of_any_kind_the_promise_is_kept_as_often_as_was_said() -> None:
    rng = np.random.default_rng(0)
    fresh = drawn(1_000_000, rng)
    rates = []
    for _ in range(100):
        calibration = calibrate(drawn(20_000, rng), PERIOD_S, PER_HOUR, confidence=0.9)
        above = ((fresh / np.array(calibration.scales)).max(axis=1) > calibration.threshold).mean()
        rates.append(above * 3600.0 / PERIOD_S)
    kept = np.mean(np.array(rates) <= PER_HOUR)
    print(f"kept in {kept:.0%}; {np.mean(rates):.0f} alarms an hour on average, {PER_HOUR:g} allowed")
    assert 0.82 <= kept <= 0.98
    assert np.mean(rates) > 0.5 * PER_HOUR, "an alarm that never sounds keeps any promise"


def test_surprise_is_the_largest_of_three_errors_each_in_its_own_unit() -> None:
    calibration = Calibration(scales=(2.0, 0.5, 10.0), threshold=1.5)
    assert calibration.surprise((4.0, 0.5, 5.0)) == 2.0
    assert calibration.surprise((4.0, 2.0, 5.0)) == 4.0
    assert calibration.surprise((4.0, 0.5, 50.0)) == 5.0


def test_each_kind_is_counted_in_what_one_look_in_a_thousand_exceeds() -> None:
    errors = drawn(20_000, np.random.default_rng(1))
    calibration = calibrate(errors, PERIOD_S, PER_HOUR)
    assert ((errors > np.array(calibration.scales)).sum(axis=0) == 20).all()
    tenfold = calibrate(errors * np.array([1.0, 10.0, 1.0]), PERIOD_S, PER_HOUR)
    assert tenfold.threshold == pytest.approx(calibration.threshold)


def test_a_network_that_knows_no_places_never_sees_anything_move() -> None:
    errors = drawn(20_000, np.random.default_rng(1)) * np.array([1.0, 0.0, 1.0])
    calibration = calibrate(errors, PERIOD_S, PER_HOUR)
    assert calibration.surprise((0.0, 0.0, 0.0)) == 0.0 and 0.5 < calibration.threshold < 10.0


def test_fewer_alarms_or_more_confidence_need_a_higher_threshold() -> None:
    errors = drawn(20_000, np.random.default_rng(2))
    thresholds = [calibrate(errors, PERIOD_S, rate).threshold for rate in (600.0, 60.0, 12.0)]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]
    assert calibrate(errors, PERIOD_S, 60.0, 0.5).threshold < calibrate(errors, PERIOD_S, 60.0, 0.999).threshold


def test_runs_that_are_too_short_say_what_they_suffice_for() -> None:
    errors = drawn(3_600, np.random.default_rng(3))
    with pytest.raises(ModelError, match=r"0\.1 h of .* promise 1 .*: 3 h are needed; .* for 29\.9 an hour"):
        calibrate(errors, PERIOD_S, 1.0)
    at_the_limit = calibrate(errors, PERIOD_S, 30.0)
    assert at_the_limit.threshold == pytest.approx(max(map(at_the_limit.surprise, errors.tolist())))


@pytest.mark.parametrize(
    "errors",
    [np.zeros((0, 3)), np.full((9, 3), math.nan), np.full((9, 3), -1.0), np.zeros((9, 3)), np.ones(9), np.ones((9, 2))],
    ids=str,
)
def test_what_is_no_table_of_distances_is_refused(errors: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ModelError, match="must be rows of 3 finite numbers"):
        calibrate(errors, PERIOD_S, PER_HOUR)


@pytest.mark.parametrize(("rate", "confidence"), [(0.0, 0.9), (-1.0, 0.9), (36_000.0, 0.9), (60.0, 1.0)])
def test_a_rate_that_is_none_is_refused(rate: float, confidence: float) -> None:
    with pytest.raises(ModelError, match="the rate must lie between 0 and 36000"):
        calibrate(np.ones((100, 3)), PERIOD_S, rate, confidence)


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
