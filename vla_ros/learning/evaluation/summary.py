"""The numbers of an evaluation, as JSON: what is written down, and what the table and the plots are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vla_ros.learning.demonstration import MOVED_M
from vla_ros.learning.evaluation.latency import quantiles_ms
from vla_ros.learning.evaluation.names import ALL_MEANINGS
from vla_ros.learning.evaluation.statistics import Rate, paired
from vla_ros.learning.evaluation.suites import SUITES
from vla_ros.learning.evaluation.trials import Outcome
from vla_ros.policy.metaworld_action import CONTROL_DT_S

FORMAT = 1


def summarise(outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """Every suite that was run, each with its tasks, and how suites over the same worlds compare in pairs."""
    suites = {suite: [outcome for outcome in outcomes if outcome.suite == suite] for suite in SUITES}
    run = {suite: found for suite, found in suites.items() if found}
    return {
        "format": FORMAT,
        "suites": {suite: {"meaning": ALL_MEANINGS[suite], **_summary(found)} for suite, found in run.items()},
        "comparisons": [
            _comparison(suite, beside, run[suite], run[beside])
            for suite in run
            if (beside := SUITES[suite].beside) in run
        ],
    }


def _summary(outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    tasks = dict.fromkeys(outcome.task for outcome in outcomes)
    times_ms = [time_ms for outcome in outcomes for time_ms in outcome.inference_ms]
    return {
        "all": _rate(outcomes),
        "tasks": {task: _rate([outcome for outcome in outcomes if outcome.task == task]) for task in tasks},
        "guard": _guard(outcomes),
        "motion": _motion(outcomes),
        "inference": quantiles_ms(times_ms) if times_ms else None,
        "realtime_factor": _realtime_factor(outcomes),
    }


def _rate(outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """moved_the_other_way: how often a drawer or window went 5 cm against what was told."""
    rate = Rate(sum(outcome.success for outcome in outcomes), len(outcomes))
    low, high = rate.interval
    numbers = {
        "successes": rate.successes,
        "episodes": rate.episodes,
        "low_95": round(low, 4),
        "high_95": round(high, 4),
    }
    moved = [outcome.moved_m for outcome in outcomes if outcome.moved_m is not None]
    if not moved:
        return numbers
    return {**numbers, "moved_the_other_way": sum(moved_m <= -MOVED_M for moved_m in moved)}


def _guard(outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """What the guard did. clipped: share of the steps on which each limit acted."""
    steps = sum(outcome.steps for outcome in outcomes)
    clips: Counter[str] = Counter()
    for outcome in outcomes:
        clips.update(outcome.clips)
    return {
        "stops": sum(outcome.stops for outcome in outcomes),
        "latches": sum(outcome.latches for outcome in outcomes),
        "clipped": {name: round(count / steps, 4) for name, count in clips.most_common()},
    }


def _motion(outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """Medians over episodes. time_s: of those that succeeded."""
    return {
        "time_s": _median([outcome.steps * CONTROL_DT_S for outcome in outcomes if outcome.success]),
        "path_m": _median([outcome.path_m for outcome in outcomes if outcome.path_m is not None]),
        "smoothness": _median([outcome.smoothness for outcome in outcomes if outcome.smoothness is not None]),
    }


def _median(numbers: Sequence[float]) -> float | None:
    return round(float(np.median(numbers)), 4) if numbers else None


def _realtime_factor(outcomes: Sequence[Outcome]) -> float | None:
    """Simulated seconds per second; None of what was not run in real time."""
    timed = [(outcome.steps * CONTROL_DT_S, outcome.wall_time_s) for outcome in outcomes if outcome.wall_time_s]
    return round(sum(sim_s for sim_s, _ in timed) / sum(wall_s for _, wall_s in timed), 3) if timed else None


def _comparison(suite: str, beside: str, ones: Sequence[Outcome], others: Sequence[Outcome]) -> Mapping[str, Any]:
    result = paired(_by_world(ones), _by_world(others))
    return {
        "suite": suite,
        "beside": beside,
        "pairs": result.pairs,
        "only_suite": result.only_first,
        "only_beside": result.only_second,
        "p": round(result.p, 4),
    }


def _by_world(outcomes: Iterable[Outcome]) -> Mapping[Hashable, bool]:
    return {(outcome.task, outcome.world, outcome.variation): outcome.success for outcome in outcomes}
