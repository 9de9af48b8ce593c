"""Undisturbed runs, in simulation, and how surprised a policy is in them: what its alarm is calibrated by.

Runs that the policy does not bring to an end do not count: where it drops a thing by itself, an alarm is no false one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.log import OutcomeLog
from vla_ros.learning.evaluation.run import Conditions, Progress, run_trials
from vla_ros.learning.evaluation.subject import Subject
from vla_ros.learning.evaluation.trials import Outcome, Trial
from vla_ros.learning.meddled import suspicions
from vla_ros.model.meddling import Meddling
from vla_ros.model.surprise import PARTS
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.sentences import SentenceTable
from vla_ros.sim.variations import Split, Variation
from vla_ros.types import FloatArray

SUITE = "calm"
LINGER_STEPS = 40  # of 12.5 ms: an arm that has arrived is not watched for long
_FIRST_GUESS_S = 2.5  # of an episode
_S_PER_HOUR = 3600.0
_LEAST_SHARE = 0.1


def calm_trials(tasks: Sequence[str], table: SentenceTable, rounds: int, split: Split, first: int) -> tuple[Trial, ...]:
    """One world of each task in each round, from the variation `first` of the split on."""
    return tuple(
        Trial(SUITE, task, task, Variation(split, index), "training", said[index % len(said)])
        for index in range(first, first + rounds)
        for task in tasks
        for said in [table.training(task)]
    )


def run_for(
    hours: float,
    measured_h: Callable[[Sequence[Outcome]], float],
    subject: Subject,
    trials: Callable[[int], Sequence[Trial]],
    conditions: Conditions,
    workers: int,
    log: OutcomeLog,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[Outcome, ...]:
    """Rounds of trials until those that succeed are so long in all; what the log has of them counts.

    measured_h: `hours_of` or `watched_hours`. trials: of so many rounds, those of fewer among them. -> of all rounds.
    Raises LearningError, also for a policy that hardly ever succeeds, or hardly ever looks twice.
    """
    rounds = 0
    done: tuple[Outcome, ...] = ()
    while (ran_h := measured_h(good(done))) < hours:
        if done and ran_h < _LEAST_SHARE * hours_of(done):
            raise LearningError(
                "the policy hardly ever succeeds, or foretells hardly anything: these are no runs to calibrate by"
            )
        per_round_s = ran_h * _S_PER_HOUR / rounds if rounds else _FIRST_GUESS_S * len(trials(1))
        rounds += math.ceil((hours - ran_h) * _S_PER_HOUR / per_round_s)
        wanted = trials(rounds)
        run_trials(subject, wanted, conditions, workers, log, progress, say)
        done = log.of(wanted)
    return done


def good(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Those in which nothing went wrong."""
    return tuple(outcome for outcome in outcomes if outcome.success)


def hours_of(outcomes: Iterable[Outcome]) -> float:
    """Of simulated time."""
    return sum(outcome.steps for outcome in outcomes) * CONTROL_DT_S / _S_PER_HOUR


def watched_hours(outcomes: Sequence[Outcome]) -> float:
    """Of looks of which something was expected: not the first one of each."""
    looks = sum(len(outcome.errors) for outcome in outcomes)
    return looks * period_of(outcomes) / _S_PER_HOUR if looks else 0.0


def errors_of(outcomes: Iterable[Outcome], meddling: Meddling | None = None) -> list[FloatArray]:
    """Of the looks of each. -> (n, 3), of surprise.PARTS. meddling: what would have told the last of them."""
    found = []
    for outcome in outcomes:
        errors = np.array(outcome.errors).reshape(-1, len(PARTS))
        if meddling is not None and len(errors):
            errors[:, -1] = suspicions(meddling, outcome)
        found.append(errors)
    return found


def period_of(outcomes: Iterable[Outcome]) -> float:
    """Between one look and the next, the median [s]; NaN where nobody looked twice."""
    gaps = [gap for outcome in outcomes for gap in np.diff([at_s for at_s, _ in outcome.surprises])]
    return float(np.median(gaps)) if gaps else math.nan
