"""The ticks in a bag's traces, checked: what a replay follows must be what a node writes, whatever befell the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_state import Mode
from vla_ros.errors import MessageError
from vla_ros.interface.reading import MAX_TEXT
from vla_ros.types import ACTION_WIDTH, QUATERNION, Json

_LONGEST_NS = 2**63
_MOST = 1e9  # of any number, in its unit
_UNIT_TOLERANCE = 1e-2
_MODES, _SOURCES = {mode.value for mode in Mode}, {source.value for source in Source}

_Check = Callable[[Any], bool]


def check_policy_trace(trace: Json) -> Json:
    """The same. Raises MessageError for what no policy node writes."""
    return _checked(trace, _POLICY)


def check_guard_trace(trace: Json) -> Json:
    """The same. Raises MessageError for what no guard writes."""
    return _checked(trace, _GUARD)


def _checked(trace: Json, fields: Iterable[tuple[str, _Check]]) -> Json:
    for name, is_well in fields:
        if not is_well(trace.get(name, _ABSENT)):
            found = "missing" if name not in trace else f"{trace[name]!r:.60}"
            raise MessageError("bad_trace", f"a trace whose {name!r} is {found}")
    return trace


_ABSENT = object()


def _is_instant(value: Any) -> bool:
    return type(value) is int and -_LONGEST_NS <= value < _LONGEST_NS


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_instruction(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_MOST < value < _MOST


def _is_nothing(value: Any) -> bool:
    return value is None


def _optional(is_well: _Check) -> _Check:
    return lambda value: value is None or is_well(value)


def _all(is_well: _Check, count: int | None = None) -> _Check:
    """A list of what is well, of so many if a count is given."""

    def are_well(value: Any) -> bool:
        if type(value) is not list or (count is not None and len(value) != count):
            return False
        return all(map(is_well, value))

    return are_well


def _object(*fields: tuple[str, _Check]) -> _Check:
    """A JSON object that has all these fields."""
    return lambda value: type(value) is dict and all(is_well(value.get(name, _ABSENT)) for name, is_well in fields)


# What has no stamp is quoted by value.
_QUOTED: dict[str, _Check] = {
    channels.COMMAND: _is_instruction,
    channels.TELEOP_DEADMAN: _is_bool,
    channels.EMERGENCY_STOP: _is_bool,
    channels.ARM: _is_bool,
    channels.RESET: _is_nothing,
    channels.SIM_RESET: _is_nothing,
}


def _is_input(value: Any) -> bool:
    if type(value) is not dict or not _is_number(value.get("receive_age_s")):
        return False
    channel, stamp_ns = value.get("channel"), value.get("stamp_ns")
    if type(stamp_ns) is int:
        return type(channel) is str and channel not in _QUOTED and -_LONGEST_NS <= stamp_ns < _LONGEST_NS
    is_well = _QUOTED.get(channel) if type(channel) is str else None
    return is_well is not None and is_well(value.get("value", _ABSENT))


def _is_reply(value: Any) -> bool:
    if type(value) is not dict:
        return False
    if "died" in value:
        return _is_text(value["died"])
    if "failed" in value:
        return _is_answered(value) and _is_text(value["failed"])
    return _is_answered(value) and _is_plan(value)


_is_answered = _object(
    ("id", _is_count), ("observation_sha256", _is_text), ("started_ns", _is_instant), ("ended_ns", _is_instant)
)
_is_plan = _object(("inference_s", _is_number), ("chunk_sha256", _is_text))
_is_vector = _all(_is_number, 3)
_is_four = _all(_is_number, 4)


def _is_quaternion(value: Any) -> bool:
    return _is_four(value) and abs(math.hypot(*value) - 1.0) < _UNIT_TOLERANCE


def _is_row(value: Any) -> bool:
    return _is_fourteen(value) and _is_quaternion(value[QUATERNION])


_is_fourteen = _all(_is_number, ACTION_WIDTH)

_POLICY: tuple[tuple[str, _Check], ...] = (
    ("tick", _is_count),
    ("ros_ns", _is_instant),
    ("steady_ns", _is_instant),
    ("inputs", _all(_is_input)),
    ("replies", _all(_is_reply)),
    ("request", _optional(_object(("id", _is_count), ("t_obs_ns", _is_instant)))),
    ("in_flight", _optional(_is_count)),
    ("instruction", _optional(_is_instruction)),
    ("views", _all(_is_text)),
    ("privileged", _is_bool),
    ("text", _is_text),
    ("output", _optional(_is_row)),
)
_GUARD: tuple[tuple[str, _Check], ...] = (
    ("tick", _is_count),
    ("ros_ns", _is_instant),
    ("steady_ns", _is_instant),
    ("inputs", _all(_is_input)),
    ("shadow", _is_bool),
    ("instruction", _optional(_is_instruction)),
    ("mode", lambda value: _is_text(value) and value in _MODES),
    ("source", lambda value: _is_text(value) and value in _SOURCES),
    ("text", _is_text),
    ("clips", _all(_is_text)),
    ("reobserve_after_ns", _is_instant),
    (
        "command",
        _optional(
            _object(
                ("position", _is_vector),
                ("quaternion", _is_quaternion),
                ("linear", _is_vector),
                ("angular", _is_vector),
                ("gripper", _optional(_is_number)),
            )
        ),
    ),
)
