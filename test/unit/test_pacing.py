"""The simulation's pace."""

from __future__ import annotations

import pytest

from vla_ros.sim.pacing import WINDOW_S, Pace

STEP_S = 0.0125
MS = 1_000_000


def run(pace: Pace, from_ms: int, to_ms: int, every_ms: int = 10) -> int:
    """Ask every few milliseconds; returns how many steps were due."""
    return sum(pace.steps_due(ms * MS) for ms in range(from_ms, to_ms, every_ms))


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("every_ms", [1, 7, 11])
def test_steps_keep_the_asked_ratio_to_time(factor: float, every_ms: int) -> None:
    pace = Pace(STEP_S, factor)
    steps = run(pace, 1000, 11_000, every_ms)
    assert steps * STEP_S == pytest.approx(10.0 * factor, abs=3 * STEP_S * max(1.0, factor))
    assert pace.factor(11_000 * MS) == pytest.approx(factor, rel=0.02)


def test_the_first_step_is_due_at_once_and_the_next_a_period_later() -> None:
    pace = Pace(STEP_S, 1.0)
    assert [pace.steps_due(ms * MS) for ms in (500, 501, 512, 513, 525)] == [1, 0, 1, 0, 1]


def test_a_short_hold_up_is_made_up_for_and_a_long_one_is_not() -> None:
    pace = Pace(STEP_S, 1.0)
    pace.steps_due(0)
    assert pace.steps_due(25 * MS) == 2
    assert pace.steps_due(2025 * MS) == 1
    assert pace.steps_due(2037 * MS) == 1


def test_a_hold_up_shows_in_the_factor_and_is_forgotten_after_the_window() -> None:
    pace = Pace(STEP_S, 1.0)
    run(pace, 0, 10_000)
    run(pace, 12_000, 12_100)
    assert pace.factor(12_100 * MS) == pytest.approx(1.0 - 2.0 / WINDOW_S, abs=0.03)
    window_ms = round(WINDOW_S * 1000)
    run(pace, 12_100, 12_100 + window_ms)
    assert pace.factor((12_100 + window_ms) * MS) == pytest.approx(1.0, abs=0.01)


def test_a_simulation_that_stands_still_has_factor_zero() -> None:
    pace = Pace(STEP_S, 1.0)
    run(pace, 0, 1000)
    assert pace.factor(20_000 * MS) == 0.0


def test_before_anything_could_be_measured_the_factor_is_what_was_asked() -> None:
    assert Pace(STEP_S, 0.5).factor(0) == 0.5


def test_restarted_owes_nothing() -> None:
    pace = Pace(STEP_S, 1.0)
    run(pace, 0, 1000)
    assert run(pace.restarted(), 9000, 9010) == 1
