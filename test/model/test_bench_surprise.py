"""What the benchmark of surprise counts as caught, and what as a false alarm."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from bench.surprise import count_alarms, count_caught, peak
from vla_ros.learning.evaluation.statistics import most_expected
from vla_ros.learning.evaluation.trials import Outcome


def outcome(
    *surprises: float, disturbed_s: float | None = None, stopped_s: tuple[float, ...] = (), steps: int = 160
) -> Outcome:
    """Looks ten times a second."""
    told = tuple((round(0.1 * number, 1), surprise) for number, surprise in enumerate(surprises, 1))
    return Outcome(
        *("moved", "push-v3", "push-v3", "test:0", "training", "push it"),
        success=True,
        steps=steps,
        stops=len(stopped_s),
        latches=0,
        clips={},
        surprises=told,
        disturbed_s=disturbed_s,
        stopped_s=stopped_s,
    )


def test_caught_is_what_is_told_within_a_second_of_the_disturbance() -> None:
    before, within, late = [9.0, 9.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0] * 6 + [9.0] * 4
    assert peak(outcome(*before, *within, disturbed_s=0.4)) == 3.0
    assert peak(outcome(*before, *within, *late, disturbed_s=0.4)) == 3.0
    assert peak(outcome(*before)) == 0.0
    found = count_caught(
        [
            outcome(*before, *within, disturbed_s=0.4),
            outcome(*before, 1.0, 1.0, disturbed_s=0.4, stopped_s=(0.1, 0.7)),
            outcome(*before, 1.0, 1.0, disturbed_s=0.4, stopped_s=(0.1,)),  # for something else, before it
            outcome(*before),  # nothing happened while the robot was at work
        ],
        threshold=2.0,
    )
    assert (found["caught"], found["disturbances"], found["by the guard alone"]) == (1, 3, 1)


def test_alarms_in_a_row_are_one_and_hours_are_of_simulated_time() -> None:
    found = count_alarms([outcome(1.0, 3.0, 3.0, 1.0, 3.0, steps=36_000), outcome(1.0, 1.0, steps=36_000)], 2.0)
    assert (found["alarms"], found["looks"]) == (2, 7)
    assert found["hours"] == pytest.approx(0.25) and found["per_hour"] == pytest.approx(8.0)
    assert found["per_hour_at_most_95"] == pytest.approx(6.296 / 0.25, rel=1e-3)


@pytest.mark.parametrize(("count", "bound"), [(0, 2.996), (1, 4.744), (5, 10.513), (100, 118.1)])
def test_the_upper_bound_is_poissons(count: int, bound: float) -> None:
    assert most_expected(count) == pytest.approx(bound, rel=1e-3)
