"""Running trials: what is missing is measured, what there is already is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.learning.evaluation.latency import given_latency, measured_latency, ticks
from vla_ros.learning.evaluation.log import OutcomeLog
from vla_ros.learning.evaluation.names import HORIZON
from vla_ros.learning.evaluation.pool import Pool
from vla_ros.learning.evaluation.subject import Subject, checkpoint_subject, policy_subject
from vla_ros.learning.evaluation.suites import validation_trials
from vla_ros.learning.evaluation.trials import Order, Outcome, Trial
from vla_ros.policy.sentences import load_sentences

Progress = Callable[[Iterable[Outcome], int], Iterable[Outcome]]
"""Shows how far a run has come: wraps its outcomes, of which so many are expected."""


@dataclass(frozen=True)
class Conditions:
    """How trials are run. horizon: steps of 12.5 ms; latency_s: of inference, None to measure it here; linger_steps: as
    of an Order.
    """

    horizon: int = HORIZON
    latency_s: float | None = None
    linger_steps: int = 0

    def identity(self) -> Mapping[str, Any]:
        """JSON of what an outcome depends on."""
        latency = "measured" if self.latency_s is None else self.latency_s
        lingering = {"linger_steps": self.linger_steps} if self.linger_steps else {}
        return {"horizon": self.horizon, "latency_s": latency, **lingering}


def run_trials(
    subject: Subject,
    trials: Sequence[Trial],
    conditions: Conditions,
    workers: int,
    log: OutcomeLog,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Perform what the log lacks and write it down. A log that is gone on with keeps its latency.

    say: is told what takes long. Raises LearningError.
    """
    missing = [trial for trial in trials if trial.key not in log]
    if not missing:
        return
    workers = min(workers, len(missing))
    say(f"loading the policy in {workers} worker{'s' if workers > 1 else ''}")
    with Pool(subject, workers) as pool:
        latency = log.latency
        if not latency and conditions.latency_s is not None:
            latency = given_latency(conditions.latency_s)
        if not latency:
            say("measuring how long inference takes")
            latency = measured_latency(pool, missing[0], workers)
        log.begin(latency)
        how = conditions.horizon, latency["inference_ticks"], conditions.linger_steps
        orders = [Order(trial, *how) for trial in missing]
        for outcome in progress(pool.perform(orders), len(orders)):
            log.add(outcome)


def evaluate_quickly(
    policy: Path | str,
    tasks: Sequence[str],
    episodes_per_task: int,
    workers: int,
    latency_s: float,
    options: Mapping[str, str] | None = None,
) -> Mapping[str, tuple[int, int]]:
    """Task -> successes and episodes, on worlds that may be looked at while a network learns. Nothing is written.

    policy: a checkpoint's folder, or a policy's name; latency_s: of inference; options: of the policy. Raises
    LearningError.
    """
    subject = checkpoint_subject(policy, options) if isinstance(policy, Path) else policy_subject(policy, options)
    trials = validation_trials(tasks, load_sentences(), episodes_per_task)
    orders = [Order(trial, subject.kind.horizon, ticks(latency_s)) for trial in trials]
    with Pool(subject, min(workers, len(orders))) as pool:
        outcomes = list(pool.perform(orders))
    return {
        task: (sum(outcome.success for outcome in outcomes if outcome.task == task), episodes_per_task)
        for task in tasks
    }
