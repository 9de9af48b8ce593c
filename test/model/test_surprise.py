"""The threshold of surprise keeps its promise, and an alarm leads to a new plan first and to a stop later."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_ros.errors import ModelError
from vla_ros.model.surprise import Calibration, Escalation, calibrate, escalate, hours_needed
from vla_ros.types import NS_PER_S

PERIOD_S = 0.1
PER_HOUR = 60.0


def drawn(count: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """Errors of undisturbed runs: three kinds, of other sizes and tails. -> (count, 3)"""
    tails = rng.gamma(2.0, size=count), 0.02 * rng.exponential(size=count) ** 2, 2.0 + 0.1 * rng.random(count)
    return np.stack(tails, axis=1)


def runs_of(errors: np.ndarray, looks: int = 20) -> list[np.ndarray]:  # type: ignore[type-arg]
    """The same, in episodes of so many looks."""
    return np.split(errors, range(looks, len(errors), looks))


def test_on_errors_of_any_kind_the_promise_is_kept_as_often_as_was_said() -> None:
    rng = np.random.default_rng(0)
    fresh = drawn(1_000_000, rng)
    rates = []
    for _ in range(100):
        calibration = calibrate(runs_of(drawn(20_000, rng)), PERIOD_S, PER_HOUR, confidence=0.9)
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


def test_each_kind_is_counted_in_the_largest_of_some() -> None:
    errors = drawn(20_000, np.random.default_rng(1))
    calibration = calibrate(runs_of(errors), PERIOD_S, PER_HOUR)
    measured = np.concatenate(runs_of(errors)[::5])
    assert calibration.scales == pytest.approx(measured.max(axis=0))
    tenfold = calibrate(runs_of(errors * np.array([1.0, 10.0, 1.0])), PERIOD_S, PER_HOUR)
    assert tenfold.threshold == pytest.approx(calibration.threshold)


def test_the_units_and_the_threshold_are_of_different_runs() -> None:
    """Otherwise what is counted would have decided in which units, and the statistic would not be one of order."""
    runs = runs_of(drawn(20_000, np.random.default_rng(4)))
    before = calibrate(runs, PERIOD_S, PER_HOUR)
    measured = [10.0 * run if number % 5 == 0 else run for number, run in enumerate(runs)]
    counted = [run if number % 5 == 0 else 10.0 * run for number, run in enumerate(runs)]
    wide, far = calibrate(measured, PERIOD_S, PER_HOUR), calibrate(counted, PERIOD_S, PER_HOUR)
    assert wide.scales == pytest.approx([10.0 * scale for scale in before.scales])
    assert wide.threshold == pytest.approx(before.threshold / 10.0)
    assert far.scales == before.scales and far.threshold == pytest.approx(10.0 * before.threshold)


@pytest.mark.parametrize("looks", [1, 13, 40, 10_000])
@pytest.mark.parametrize(("period_s", "rate"), [(0.1, 60.0), (0.25, 3.0), (1.0, 600.0), (0.1, 15_000.0)])
def test_so_many_hours_as_are_needed_are_enough_however_long_each_run_is(
    looks: int, period_s: float, rate: float
) -> None:
    count = math.ceil(hours_needed(rate) * 3600.0 / period_s)
    errors = drawn(count, np.random.default_rng(5))
    assert math.isfinite(calibrate(runs_of(errors, looks), period_s, rate).threshold)
    with pytest.raises(ModelError, match="cannot promise"):
        calibrate(runs_of(errors[: int(0.7 * count)], looks), period_s, rate)


def test_a_network_that_knows_no_places_never_sees_anything_move() -> None:
    errors = drawn(20_000, np.random.default_rng(1)) * np.array([1.0, 0.0, 1.0])
    calibration = calibrate(runs_of(errors), PERIOD_S, PER_HOUR)
    assert calibration.surprise((0.0, 0.0, 0.0)) == 0.0 and 0.5 < calibration.threshold < 10.0


def test_fewer_alarms_or_more_confidence_need_a_higher_threshold() -> None:
    errors = runs_of(drawn(20_000, np.random.default_rng(2)))
    thresholds = [calibrate(errors, PERIOD_S, rate).threshold for rate in (600.0, 60.0, 12.0)]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]
    assert calibrate(errors, PERIOD_S, 60.0, 0.5).threshold < calibrate(errors, PERIOD_S, 60.0, 0.999).threshold


def test_runs_that_are_too_short_say_what_they_suffice_for() -> None:
    runs = runs_of(drawn(3_600, np.random.default_rng(3)))
    with pytest.raises(ModelError, match=r"0\.1 h of .* promise 1 .*: 3\.7 h are needed; .* for 37\.4 an hour"):
        calibrate(runs, PERIOD_S, 1.0)
    at_the_limit = calibrate(runs, PERIOD_S, 37.5)
    counted = [run for number, run in enumerate(runs) if number % 5]
    assert at_the_limit.threshold == pytest.approx(max(map(at_the_limit.surprise, np.concatenate(counted).tolist())))


@pytest.mark.parametrize(
    "errors",
    [np.zeros((0, 3)), np.full((9, 3), math.nan), np.full((9, 3), -1.0), np.zeros((9, 3)), np.ones(9), np.ones((9, 2))],
    ids=str,
)
def test_what_is_no_table_of_distances_is_refused(errors: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ModelError, match="must be rows of 3 finite numbers"):
        calibrate([errors], PERIOD_S, PER_HOUR)


@pytest.mark.parametrize(("rate", "confidence"), [(0.0, 0.9), (-1.0, 0.9), (36_000.0, 0.9), (60.0, 1.0)])
def test_a_rate_that_is_none_is_refused(rate: float, confidence: float) -> None:
    with pytest.raises(ModelError, match="the rate must lie between 0 and 36000"):
        calibrate([np.ones((100, 3))], PERIOD_S, rate, confidence)


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
