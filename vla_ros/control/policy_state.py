"""What the policy side remembers from tick to tick, and what a tick gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vla_ros.contract import Contract
from vla_ros.control.clock import Clock
from vla_ros.control.streams import Streams
from vla_ros.types import Chunk, FloatArray, Needs, Provenance, Request, Target


class PolicyReason(str, Enum):
    """Why the policy commands nothing, in words. Empty: it commands."""

    NONE = ""
    NO_INSTRUCTION = "no instruction yet"
    TOLD_TO_STOP = "told to stop"
    INPUT_STALE = "an input is missing or stale"
    VIEWS_APART = "the views have no common instant"
    CAMERA_FROZEN = "a camera is frozen"
    WORKER_DIED = "the worker died"
    WORKER_SILENT = "the worker does not answer"
    POLICY_FAILED = "the policy failed"
    CHUNK_REFUSED = "the policy's chunk was refused"
    CHUNK_AWAITED = "waiting for the first chunk"
    CHUNK_AHEAD = "waiting for the chunk to begin"
    CHUNK_ENDED = "the chunk has ended"
    SURPRISED = "surprised"

    @property
    def is_fault(self) -> bool:
        """True where something failed, rather than has not begun or was asked for."""
        return self not in _NO_FAULTS


_NO_FAULTS = (
    PolicyReason.NONE,
    PolicyReason.NO_INSTRUCTION,
    PolicyReason.TOLD_TO_STOP,
    PolicyReason.CHUNK_AWAITED,
    PolicyReason.CHUNK_AHEAD,
)


@dataclass(frozen=True)
class PolicyConfig:
    """A robot and a policy."""

    contract: Contract
    needs: Needs


@dataclass(frozen=True, eq=False)
class StillView:
    """A view whose pixels do not change. ee_position: the tool when they appeared [m]; since_ns: steady, reception of
    the last such frame with the tool still there; has_moved: a later one, with the tool elsewhere, was the same.
    """

    since_ns: int
    ee_position: FloatArray
    has_moved: bool = False


@dataclass(frozen=True, eq=False)
class Pending:
    """The request in flight. sent_ns: steady; instruction_hash: what it was asked for."""

    request: Request
    instruction_hash: str
    sent_ns: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The chunk being followed, and for which instruction it was made."""

    chunk: Chunk
    instruction_hash: str


@dataclass(frozen=True, eq=False)
class PolicyState:
    """gripper: last opening asked for, 0..1; trouble: the last failure of the worker or its chunk, until a good one."""

    streams: Streams = field(default_factory=Streams)
    clock: Clock | None = None
    still_views: Mapping[str, StillView] = field(default_factory=dict)
    pending: Pending | None = None
    plan: Plan | None = None
    trouble: tuple[PolicyReason, str] = (PolicyReason.NONE, "")
    last_asked_ns: int = -1
    next_id: int = 1
    gripper: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PolicyOutput:
    """One tick's set of four, all stamped stamp_ns."""

    stamp_ns: int
    target: Target
    provenance: Provenance


@dataclass(frozen=True)
class PolicyStatus:
    """The tick in words. values: ages, latencies and counts for diagnostics."""

    reason: PolicyReason
    text: str
    values: Mapping[str, str]
