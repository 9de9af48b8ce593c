"""Two policies side by side, and the worst moments first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_builders import at, judged, perfect, sides, with_chunks, with_guard

from vla_ros.replay.judging.comparison import (
    compare_all,
    comparison_json,
    side_from_arrays,
    side_to_arrays,
)
from vla_ros.replay.judging.moments import worst_moments
from vla_ros.replay.judging.samples import samples
from vla_ros.replay.judging.spool import Spool

LONG = perfect(80 * 12)


def test_a_policy_beside_itself_does_not_differ() -> None:
    comparison = compare_all([sides(LONG, LONG)])
    assert comparison.observations > 100 and comparison.apart_p95_m == 0.0
    assert all(one.first == one.second and not one.differs for one in comparison.differences)


def test_a_worse_policy_differs_by_as_much_as_it_is_worse() -> None:
    comparison = compare_all([sides(LONG, with_chunks(LONG, offset=(0.0, 0.03, 0.0)))])
    differences = {one.quantity: one for one in comparison.differences}
    worse = differences["position_error"]
    assert worse.second - worse.first == pytest.approx(0.03) and worse.differs
    assert worse.interval == pytest.approx((0.03, 0.03))
    assert not differences["velocity_error"].differs
    assert comparison.apart_p50_m == pytest.approx(0.03)


def test_the_interval_is_wide_where_the_policy_is_worse_only_now_and_then() -> None:
    rng = np.random.default_rng(3)
    worse = with_chunks(LONG, offset=(0.0, 0.05, 0.0))
    kept = [rng.random() < 0.5 for _ in range(13)]
    mixed = tuple(
        one if kept[index // 80] else other
        for index, (one, other) in enumerate(zip(LONG.policy, worse.policy, strict=True))
    )
    (difference,) = [
        one
        for one in compare_all([sides(LONG, replace(LONG, policy=mixed))]).differences
        if one.quantity == "position_error"
    ]
    low, high = difference.interval
    assert low < difference.second - difference.first < high and high - low > 0.01


def test_too_little_has_no_interval_and_nothing_in_common_no_difference() -> None:
    short = perfect(80)
    assert all(one.interval is None for one in compare_all([sides(short, short)]).differences)
    nothing = compare_all([sides(short, replace(short, policy=()))])
    assert nothing.observations == 0 and nothing.differences == () and nothing.apart_p50_m is None


def test_several_bags_are_compared_together_and_survive_a_file() -> None:
    bags = [sides(LONG, with_chunks(LONG, offset=(0.0, offset, 0.0))) for offset in (0.0, 0.02)]
    kept = [side_from_arrays(side_to_arrays(side)) for side in bags]
    assert comparison_json(compare_all(kept)) == comparison_json(compare_all(bags))
    found = comparison_json(compare_all(bags))["differences"]["position_error"]
    assert found["difference"] == pytest.approx(0.01)


def test_latches_come_first_then_stops_then_the_largest_errors() -> None:
    latch = {"source": "nobody", "mode": "latched", "text": "nobody in command: latched until reset (emergency stop)"}
    stop = {"source": "nobody", "text": "nobody in command: the policy fell silent"}
    replayed = with_guard(
        with_chunks(LONG, offset=(0.0, 0.0, 0.02)), {40: stop, **dict.fromkeys(range(900, 960), latch)}
    )
    moments = worst_moments(judged(replayed), 5)
    assert [moment.kind for moment in moments] == ["latch", "stop", "error", "error", "error"]
    assert moments[0].after_s == pytest.approx(900 * 0.0125) and "emergency stop" in moments[0].text
    assert moments[2].size == pytest.approx(0.02)


def test_errors_of_one_second_are_one_moment() -> None:
    errors = samples([at(tick).ros_ns for tick in range(0, 160, 8)], [0.01 * tick for tick in range(20)])
    measured = Spool()
    measured.add({"chunk_error": errors})
    moments = worst_moments(replace(judged(perfect()), quantities=measured), 10)
    assert [moment.after_s for moment in moments] == pytest.approx([1.9, 0.9])
    assert moments[0].size == pytest.approx(0.19)
