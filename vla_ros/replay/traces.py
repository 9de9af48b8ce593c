"""The ticks in a bag's traces, checked: what a replay follows must be what a node writes, whatever befell the file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_state import Mode
from vla_ros.errors import MessageError
from vla_ros.interface.reading import MAX_TEXT
from vla_ros.types import ACTION_WIDTH, QUATERNION

_UNIT_TOLERANCE = 1e-2

Instant = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[float, Meta(gt=-1e9, lt=1e9)]
Instruction = Annotated[str, Meta(max_length=MAX_TEXT)]
Vector = Annotated[list[Number], Meta(min_length=3, max_length=3)]
Quaternion = Annotated[list[Number], Meta(min_length=4, max_length=4)]
Row = Annotated[list[Number], Meta(min_length=ACTION_WIDTH, max_length=ACTION_WIDTH)]


class _HeardTrace(TypedDict):
    channel: str
    receive_age_s: Number


class InputTrace(_HeardTrace, total=False):
    """An input of a tick: its stamp, or the value of what has none."""

    stamp_ns: Instant
    value: Any


class ReplyTrace(TypedDict, total=False):
    """What the worker said: `died`, or all of the first four and `failed`, or those and the last two."""

    died: str
    id: Count
    observation_sha256: str
    started_ns: Instant
    ended_ns: Instant
    failed: str
    inference_s: Number
    chunk_sha256: str


class RequestTrace(TypedDict):
    """What the worker was asked at a tick."""

    id: Count
    t_obs_ns: Instant


class PolicyTrace(TypedDict):
    """A tick of the policy node."""

    tick: Count
    ros_ns: Instant
    steady_ns: Instant
    inputs: list[InputTrace]
    replies: list[ReplyTrace]
    request: RequestTrace | None
    in_flight: Count | None
    instruction: Instruction | None
    views: list[str]
    privileged: bool
    text: str
    output: Row | None


class CommandTrace(TypedDict):
    """What the robot was sent."""

    position: Vector
    quaternion: Quaternion
    linear: Vector
    angular: Vector
    gripper: Number | None


class GuardTrace(TypedDict):
    """A tick of the guard node."""

    tick: Count
    ros_ns: Instant
    steady_ns: Instant
    inputs: list[InputTrace]
    shadow: bool
    instruction: Instruction | None
    mode: Mode
    source: Source
    text: str
    clips: list[str]
    reobserve_after_ns: Instant
    command: CommandTrace | None


Trace = TypeVar("Trace", PolicyTrace, GuardTrace)


def read_policy_trace(text: str) -> PolicyTrace:
    """One line of JSON -> a tick. Raises MessageError for what no policy node writes."""
    trace = _read(text, _POLICY)
    if trace["output"] is not None:
        _require_unit(trace["output"][QUATERNION])
    for reply in trace["replies"]:
        kind = next((name for name in ("died", "failed") if name in reply), None)
        lacks = [name for name in _REPLIES[kind] if name not in reply]
        if lacks:
            raise _bad(f"a reply lacks {lacks[0]!r}")
    return trace


def read_guard_trace(text: str) -> GuardTrace:
    """One line of JSON -> a tick. Raises MessageError for what no guard writes."""
    trace = _read(text, _GUARD)
    if trace["command"] is not None:
        _require_unit(trace["command"]["quaternion"])
    return trace


def _read(text: str, decoder: msgspec.json.Decoder[Trace]) -> Trace:
    try:
        trace = decoder.decode(text)
    except msgspec.ValidationError as error:
        raise _bad(str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise MessageError("bad_json", f"a trace that is not JSON: {error}") from None
    for entry in trace["inputs"]:
        is_quoted = _QUOTED.get(entry["channel"])
        if ("stamp_ns" in entry) != (is_quoted is None) or (is_quoted and not is_quoted(entry.get("value", _ABSENT))):
            raise _bad(f"an input of {entry['channel']!r:.60} that cannot be")
    return trace


def _require_unit(quaternion: list[float]) -> None:
    if abs(math.hypot(*quaternion) - 1.0) >= _UNIT_TOLERANCE:
        raise _bad(f"the quaternion {quaternion} is not unit")


def _bad(why: str) -> MessageError:
    return MessageError("bad_trace", f"a trace that no node writes: {why}")


_ABSENT = object()


def _is_instruction(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_nothing(value: Any) -> bool:
    return value is None


# What has no stamp is quoted by value.
_QUOTED: dict[str, Callable[[Any], bool]] = {
    channels.COMMAND: _is_instruction,
    channels.TELEOP_DEADMAN: _is_bool,
    channels.EMERGENCY_STOP: _is_bool,
    channels.ARM: _is_bool,
    channels.RESET: _is_nothing,
    channels.SIM_RESET: _is_nothing,
}
_ANSWERED = ("id", "observation_sha256", "started_ns", "ended_ns")
_REPLIES = {"died": (), "failed": _ANSWERED, None: (*_ANSWERED, "inference_s", "chunk_sha256")}
_POLICY, _GUARD = msgspec.json.Decoder(PolicyTrace), msgspec.json.Decoder(GuardTrace)
