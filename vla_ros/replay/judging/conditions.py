"""Conditions under which a replay fails: `position_error_p95>0.02`."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vla_ros.errors import ReplayError
from vla_ros.replay.judging.catalogue import METRICS

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """metric: a name of the catalogue; comparison: one of OPERATORS; bound: in the metric's unit."""

    metric: str
    comparison: str
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value fails."""
        return OPERATORS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.bound:g}"


def parse_condition(text: str) -> Condition:
    """`NAME OP NUMBER`, spaces or none. Raises ReplayError, which names the metrics there are."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ReplayError(
            f"{text!r} is not a condition such as 'position_error_p95>0.02': NAME, then > >= < <= == or "
            "!=, then a number"
        )
    name, comparison, number = match.groups()
    if name not in METRICS:
        raise ReplayError(f"there is no metric {name!r}; {_suggestion(name)}")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise ReplayError(f"{number!r} in the condition {text!r} is not a number")
    return Condition(name, comparison, bound)


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, METRICS, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}choose from {', '.join(METRICS)}"
