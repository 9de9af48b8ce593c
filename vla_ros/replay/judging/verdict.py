"""Conditions applied to what was measured: what passes, what fails, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vla_ros.replay.judging.catalogue import METRICS
from vla_ros.replay.judging.conditions import Condition
from vla_ros.types import Json


@dataclass(frozen=True)
class Check:
    """One thing that had to be so. value: of the metric, None where it was not measured or is no number.

    text: what was found, in one sentence.
    """

    name: str
    passed: bool
    text: str
    value: float | None = None


@dataclass(frozen=True)
class Verdict:
    """All checks of one replay, or of many together. Without any check there is nothing to fail.

    remarks: what a reader must know besides, one sentence each.
    """

    subject: str
    checks: tuple[Check, ...]
    remarks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)


def check_all(metrics: Mapping[str, float | None], conditions: Iterable[Condition]) -> tuple[Check, ...]:
    """One check for each condition. What was not measured fails: silence is no success."""
    return tuple(_check(condition, metrics.get(condition.metric)) for condition in conditions)


def words(verdict: Verdict) -> str:
    """The verdict for a terminal: one line, and one for each check."""
    if not verdict.checks:
        return f"{verdict.subject}: measured; nothing was asked of it (--fail-on, --golden)"
    lines = [f"  {'passed' if check.passed else 'FAILED'}  {check.name}: {check.text}" for check in verdict.checks]
    count = f"{len(verdict.checks) - len(verdict.failures)} of {len(verdict.checks)} checks passed"
    return "\n".join([f"{verdict.subject}: {'PASSED' if verdict.passed else 'FAILED'}, {count}", *lines])


def to_json(verdict: Verdict) -> Json:
    """For replay.json."""
    checks = [{"name": c.name, "passed": c.passed, "value": c.value, "text": c.text} for c in verdict.checks]
    return {"subject": verdict.subject, "passed": verdict.passed, "checks": checks}


def together(subject: str, verdicts: Sequence[Verdict]) -> Verdict:
    """The checks of several verdicts as one, each named after its subject too."""
    checks = [
        Check(f"{verdict.subject}: {check.name}", check.passed, check.text, check.value)
        for verdict in verdicts
        for check in verdict.checks
    ]
    return Verdict(subject, tuple(checks))


def _check(condition: Condition, value: float | None) -> Check:
    metric = METRICS[condition.metric]
    name = f"not {condition}"
    if value is None:
        return Check(name, False, f"{metric.name} could not be measured: {metric.meaning}")
    fails = condition.holds(value)
    unit = f" {metric.unit}" if metric.unit else ""
    relation = "which is" if fails else "which is not"
    text = f"{metric.name} is {value:.6g}{unit}, {relation} {condition.comparison} {condition.bound:g}"
    return Check(name, not fails, text, value)
