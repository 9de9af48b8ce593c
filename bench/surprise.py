"""Does surprise tell when something happens that nobody told the robot, and is it quiet when nothing does?

A checkpoint that has been calibrated runs in worlds that its calibration did not have. In some a thing is moved by
hand, what is held slips out of the fingers, or a camera is covered; how many of these are caught within a second is
counted, and how many the guard stops for by itself. In the others nothing happens, and every alarm is a false one;
where the policy does not bring one to an end, something has gone wrong all the same, which is counted apart. Every
episode is written down as it ends: a run that was cut short goes on where it was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.options import Options
from bench.report import Bar, conclude
from vla_ros.data.files import replacing
from vla_ros.errors import VlaRosError
from vla_ros.learning.evaluation.calm import LINGER_STEPS, calm_trials, good, hours_of, run_for
from vla_ros.learning.evaluation.disturbed import TASKS, WATCHED_STEPS, disturbed_trials
from vla_ros.learning.evaluation.log import OutcomeLog, locked
from vla_ros.learning.evaluation.names import LATENCY_S
from vla_ros.learning.evaluation.run import Conditions, run_trials
from vla_ros.learning.evaluation.statistics import Rate, most_expected
from vla_ros.learning.evaluation.subject import Subject, checkpoint_subject
from vla_ros.learning.evaluation.suites import MT10
from vla_ros.learning.evaluation.trials import Outcome, Trial
from vla_ros.model.checkpoint import load_checkpoint
from vla_ros.policy.sentences import load_sentences

_EPISODES = 60  # of each kind of disturbance
_WITHIN_S = 1.0
_CALM_FIRST, _DISTURBED_FIRST = 20_000, 10_000  # of the test split's worlds
_LEAST_CAUGHT, _MOST_ALARMS_PER_HOUR = 0.8, 2.0


def run(options: Options) -> bool:
    """Run what is missing, count, draw, and say whether the bars are met. Raises VlaRosError without a calibration."""
    threshold = load_checkpoint(options.foresight).model.reasoning.calibration.threshold
    if not np.isfinite(threshold):
        raise VlaRosError(f"{options.foresight} has not been calibrated: vla_ros calibrate {options.foresight}")
    subject = checkpoint_subject(options.foresight, {"surprise": "tell"})
    folder = options.output / "surprise"
    with locked(folder):
        calm = _calm(subject, folder, options)
        disturbed = _disturbed(subject, folder, options)
    failed = [outcome for outcome in calm if not outcome.success]
    numbers: dict[str, Any] = {"threshold": threshold, "calm": count_alarms(good(calm), threshold)}
    numbers["failed by themselves"] = count_alarms(failed, threshold)
    for kind, outcomes in disturbed.items():
        numbers[kind] = count_caught(outcomes, threshold)
    _print(numbers)
    _draw(options.output / "surprise.png", calm, disturbed, threshold)
    caught = [Bar(f"{kind}: caught within 1 s", numbers[kind]["share"], _LEAST_CAUGHT, "", True) for kind in TASKS]
    alarms = Bar("false alarms", numbers["calm"]["per_hour"], _MOST_ALARMS_PER_HOUR, "per hour")
    return conclude(options.output, "surprise", numbers, [*caught, alarms])


def count_caught(outcomes: Iterable[Outcome], threshold: float) -> dict[str, Any]:
    """Of the disturbances that came while the robot was at work: how many surprise caught, and how many the guard."""
    at_work = [outcome for outcome in outcomes if outcome.disturbed_s is not None]
    caught = Rate(sum(peak(outcome) > threshold for outcome in at_work), len(at_work))
    by_guard = Rate(sum(is_stopped(outcome) for outcome in at_work), len(at_work))
    return {
        "caught": caught.successes,
        "disturbances": caught.episodes,
        "share": caught.share,
        "95": caught.interval,
        "by the guard alone": by_guard.successes,
        "by the guard alone, 95": by_guard.interval,
    }


def count_alarms(outcomes: Sequence[Outcome], threshold: float) -> dict[str, Any]:
    """False ones: looks above the threshold that follow one that is not."""
    hours, alarms = hours_of(outcomes), sum(_alarms(outcome, threshold) for outcome in outcomes)
    per_hour, at_most = (count / hours if hours else math.nan for count in (alarms, most_expected(alarms)))
    return {
        "hours": hours,
        "episodes": len(outcomes),
        "looks": sum(len(outcome.surprises) for outcome in outcomes),
        "alarms": alarms,
        "per_hour": per_hour,
        "per_hour_at_most_95": at_most,
        "stops": sum(outcome.stops for outcome in outcomes),
    }


def peak(outcome: Outcome) -> float:
    """The largest surprise that was told within a second of the disturbance; 0 without one."""
    began_s = outcome.disturbed_s
    if began_s is None:
        return 0.0
    told = [surprise for at_s, surprise in outcome.surprises if began_s < at_s <= began_s + _WITHIN_S - LATENCY_S]
    return max(told, default=0.0)


def is_stopped(outcome: Outcome) -> bool:
    """Whether the guard did, after the disturbance: by itself, since the policy only tells."""
    return outcome.disturbed_s is not None and any(at_s > outcome.disturbed_s for at_s in outcome.stopped_s)


def _alarms(outcome: Outcome, threshold: float) -> int:
    above = [surprise > threshold for _, surprise in outcome.surprises]
    return sum(now and not before for before, now in zip([False, *above], above, strict=False))


def _calm(subject: Subject, folder: Path, options: Options) -> tuple[Outcome, ...]:
    conditions = Conditions(subject.kind.horizon, LATENCY_S, LINGER_STEPS)
    log = OutcomeLog(folder, {**subject.identity(), **conditions.identity()}, options.fresh)

    def trials(rounds: int) -> tuple[Trial, ...]:
        return calm_trials(MT10, load_sentences(), rounds, "test", _CALM_FIRST)

    return run_for(options.hours, hours_of, subject, trials, conditions, _workers(), log, _progress, _say)


def _disturbed(subject: Subject, folder: Path, options: Options) -> Mapping[str, Sequence[Outcome]]:
    """By kind."""
    conditions = Conditions(subject.kind.horizon, LATENCY_S, WATCHED_STEPS)
    log = OutcomeLog(folder, {**subject.identity(), **conditions.identity()}, options.fresh)
    count, table = options.episodes or _EPISODES, load_sentences()
    trials = {kind: disturbed_trials(kind, count, table, "test", _DISTURBED_FIRST) for kind in TASKS}
    every = [trial for of_kind in trials.values() for trial in of_kind]
    run_trials(subject, every, conditions, _workers(), log, _progress, _say)
    return {kind: log.of(of_kind) for kind, of_kind in trials.items()}


def _progress(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    yield from tqdm(outcomes, total=total, unit="episode")


def _workers() -> int:
    return len(os.sched_getaffinity(0))


def _print(numbers: Mapping[str, Any]) -> None:
    for kind in TASKS:
        found = numbers[kind]
        low, high = found["95"]
        _say(
            f"{kind:8} {found['caught']}/{found['disturbances']} caught within 1 s ({low:.0%} to {high:.0%}), "
            f"{found['by the guard alone']} by the guard alone"
        )
    calm = numbers["calm"]
    _say(
        f"nothing  {calm['alarms']} alarms in {calm['hours']:.2f} h: {calm['per_hour']:.2f} an hour, at most "
        f"{calm['per_hour_at_most_95']:.2f} with a confidence of 95 %"
    )
    failed = numbers["failed by themselves"]
    _say(f"failed   {failed['alarms']} alarms in {failed['episodes']} runs that the policy did not bring to an end")


def _draw(path: Path, calm: Sequence[Outcome], disturbed: Mapping[str, Sequence[Outcome]], threshold: float) -> None:
    """What other thresholds would catch, and how often they would cry wolf."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    most = 2.0 * threshold
    for kind, outcomes in disturbed.items():
        peaks = np.sort([peak(outcome) for outcome in outcomes if outcome.disturbed_s is not None])
        left.step(
            [0.0, *peaks, most],
            [*(1.0 - np.arange(len(peaks) + 1) / max(len(peaks), 1)), 0.0],
            where="post",
            label=kind,
        )
    thresholds = np.linspace(0.0, most, 200)
    right.plot(thresholds, [count_alarms(good(calm), one)["per_hour"] for one in thresholds])
    right.set_yscale("symlog", linthresh=1.0)
    left.set_ylabel("share caught within 1 s")
    right.set_ylabel("false alarms an hour")
    left.legend()
    for axes in (left, right):
        axes.set_xlim(0.0, most)
        axes.axvline(threshold, color="grey", linestyle="--")
        axes.set_xlabel("threshold of surprise")
    with replacing(path) as draft:
        figure.savefig(draft, format="png", dpi=120)


def _say(line: str) -> None:
    print(f"  {line}", flush=True)
