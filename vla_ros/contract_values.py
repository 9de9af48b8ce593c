"""What a single value in a contract may be. Each check answers a complaint, or None for a good value."""

from __future__ import annotations

import re
from collections.abc import Callable

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOPIC = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_FRAME = re.compile(r"[^\s/]+(/[^\s/]+)*")
_MAX_NAME = 200  # ROS refuses full topic names over 247 characters, and a namespace comes in front

NumberCheck = Callable[[float], str | None]


def up_to(largest: float, unit: str) -> NumberCheck:
    """Above 0 and at most `largest`."""

    def check(value: float) -> str | None:
        return None if 0.0 < value <= largest else f"must be above 0 and at most {largest:g} {unit}"

    return check


def within(smallest: float, largest: float, unit: str) -> NumberCheck:
    """From `smallest` to `largest`, both included."""

    def check(value: float) -> str | None:
        return None if smallest <= value <= largest else f"must be from {smallest:g} to {largest:g} {unit}"

    return check


def non_negative(value: float) -> str | None:
    """0 or above."""
    return None if value >= 0.0 else "must not be negative"


def identifier(value: str) -> str | None:
    """A word that may be part of a topic: a letter, then letters, digits and underscores."""
    if _IDENTIFIER.fullmatch(value) and len(value) <= _MAX_NAME:
        return None
    return "must be a name: a letter, then letters, digits and _"


def topic_name(value: str) -> str | None:
    """A relative or absolute ROS name. "~" would be another topic in every node."""
    if _TOPIC.fullmatch(value) and len(value) <= _MAX_NAME:
        return None
    return (
        "must be a ROS name: words of letters, digits and _ that begin with no digit, joined by single /,"
        f" at most {_MAX_NAME} characters"
    )


def frame_id(value: str) -> str | None:
    """A tf2 frame name: no white space, no leading slash."""
    return None if _FRAME.fullmatch(value) else "must be a frame name without white space and without leading /"


def joint_name(value: str) -> str | None:
    """A URDF joint name: anything without white space."""
    return None if value and not re.search(r"\s", value) else "must be a joint name without white space"
