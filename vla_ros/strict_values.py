"""What a single value in a configuration, a recipe or a plan may be, for `strict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any


def at_least(least: float) -> Callable[[Any], str | None]:
    """A check: the value may be that, or more."""
    return lambda value: None if value >= least else f"must be at least {least}"


def _above_zero(value: Any) -> str | None:
    return None if value > 0 else "must be above 0"


def _share(value: Any) -> str | None:
    return None if 0.0 <= value < 1.0 else "must be at least 0 and less than 1"


def _portion(value: Any) -> str | None:
    return None if 0.0 <= value <= 1.0 else "must be from 0 to 1"


def _rising(value: Any) -> str | None:
    return None if value[0] <= value[1] else "must not fall: the smallest first, then the largest"


Positive = Annotated[float, _above_zero]
NotNegative = Annotated[float, at_least(0)]
Share = Annotated[float, _share]
Portion = Annotated[float, _portion]
Count = Annotated[int, at_least(1)]
Natural = Annotated[int, at_least(0)]
Range = Annotated[tuple[NotNegative, NotNegative], _rising]
