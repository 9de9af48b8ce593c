"""Undisturbed runs, in simulation, and how surprised a policy is in them: what its alarm is calibrated by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from vla_ros.learning.evaluation.log import OutcomeLog
from vla_ros.learning.evaluation.run import Conditions, Progress, run_trials
from vla_ros.learning.evaluation.subject import Subject
from vla_ros.learning.evaluation.trials import Outcome, Trial
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.sentences import SentenceTable
from vla_ros.sim.variations import Split, Variation
from vla_ros.types import FloatArray

SUITE = "calm"
LINGER_STEPS = 40  # of 12.5 ms: an arm that has arrived is not watched for long
_FIRST_GUESS_S = 2.5  # of an episode
_S_PER_HOUR = 3600.0


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
    subject: Subject,
    trials: Callable[[int], Sequence[Trial]],
    conditions: Conditions,
    workers: int,
    log: OutcomeLog,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[Outcome, ...]:
    """Rounds of trials until the robot was at work for so long in all; what the log has of them counts.

    trials: of so many rounds, those of fewer among them. -> of all rounds. Raises LearningError.
    """
    rounds = 0
    done: tuple[Outcome, ...] = ()
    while (ran_h := hours_of(done)) < hours:
        per_round_s = ran_h * _S_PER_HOUR / rounds if rounds else _FIRST_GUESS_S * len(trials(1))
        rounds += math.ceil((hours - ran_h) * _S_PER_HOUR / per_round_s)
        wanted = trials(rounds)
        run_trials(subject, wanted, conditions, workers, log, progress, say)
        found = {outcome.key: outcome for outcome in log.outcomes}
        done = tuple(found[trial.key] for trial in wanted)
    return done


def hours_of(outcomes: Iterable[Outcome]) -> float:
    """Of simulated time."""
    return sum(outcome.steps for outcome in outcomes) * CONTROL_DT_S / _S_PER_HOUR


def surprises_of(outcomes: Iterable[Outcome]) -> FloatArray:
    """All of them. -> (N,)"""
    return np.array([surprise for outcome in outcomes for _, surprise in outcome.surprises])


def period_of(outcomes: Iterable[Outcome]) -> float:
    """Between one look and the next, the median [s]; NaN where nobody looked twice."""
    gaps = [gap for outcome in outcomes for gap in np.diff([at_s for at_s, _ in outcome.surprises])]
    return float(np.median(gaps)) if gaps else math.nan
