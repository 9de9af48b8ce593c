"""What a replay decided: one record per tick of the policy and of the guard. The log that holds them: `log`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vla_ros.contract import Contract
from vla_ros.control.chunks import validate_chunk
from vla_ros.control.safety import Motion
from vla_ros.errors import PolicyError
from vla_ros.types import Chunk, Json, Now, Target


@dataclass(frozen=True, eq=False)
class ReplyDecision:
    """What the policy answered, as it reached a tick.

    t_obs_ns: stamp of the observation that was asked about, ROS time; None for a policy that died.
    observation_sha256, chunk_sha256: 64 hex digits, as a trace has them; empty where there is none.
    chunk: None where the policy failed; failed: why, else empty. inference_s: what the policy took, by the recording or
    by measurement; 0 for a fixed latency and for a failure.
    """

    request_id: int
    t_obs_ns: int | None
    observation_sha256: str
    chunk: Chunk | None
    chunk_sha256: str
    failed: str
    inference_s: float

    @cached_property
    def plan(self) -> Chunk | None:
        """The chunk, if it is one that a robot can follow; see `validate_chunk`."""
        if self.chunk is None:
            return None
        try:
            validate_chunk(self.chunk)
        except PolicyError:
            return None
        return self.chunk


@dataclass(frozen=True, eq=False)
class PolicyDecision:
    """One tick of the policy.

    replies: what reached it at this tick, mostly nothing. requested_t_obs_ns: stamp of the observation that the policy
    is asked about from this tick on. text: whether it commands, and if not why. target: what it commands, None where
    it is silent; t_obs_ns: of the observation that this was made from. stale: channels without which it must not act.
    missing: channels of which the live tick used a message that is not in the bag.
    """

    now: Now
    dt_s: float
    replies: tuple[ReplyDecision, ...]
    requested_t_obs_ns: int | None
    text: str
    target: Target | None
    t_obs_ns: int | None
    stale: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def reply(self) -> ReplyDecision | None:
        """The newest reply of this tick."""
        return self.replies[-1] if self.replies else None


@dataclass(frozen=True, eq=False)
class GuardDecision:
    """One tick of the guard. mode, source: as in a trace ("armed", "policy"); text: who is in command and why.

    clips: limits that acted; command: what the robot is sent, None where it is sent nothing. missing: as above.
    """

    now: Now
    dt_s: float
    mode: str
    source: str
    text: str
    clips: tuple[str, ...]
    command: Motion | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RecordedCommand:
    """What the robot was sent when the bag was recorded. stamp_ns: ROS time of the guard's tick.

    gripper of the motion: the newest opening sent until then, None before the first.
    """

    stamp_ns: int
    motion: Motion


@dataclass(frozen=True)
class Instructed:
    """An instruction, from the instant at which it was received, ROS time, until the next one."""

    ros_ns: int
    text: str


Decision = PolicyDecision | GuardDecision | RecordedCommand | Instructed


@dataclass(frozen=True)
class Outcome:
    """How a replay ended. damage: what was wrong with the bag, and where; None for a sound one.

    missing: how many ticks used a message that is not in the bag, by channel. notes: what a reader of the results must
    know, one sentence each.
    """

    damage: str | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Decisions by kind, each in its order: of a stretch of a replay, or of all of it."""

    instructions: tuple[Instructed, ...] = ()
    policy: tuple[PolicyDecision, ...] = ()
    guard: tuple[GuardDecision, ...] = ()
    recorded: tuple[RecordedCommand, ...] = ()

    @property
    def ticks_ns(self) -> list[int]:
        """ROS time of each tick: the policy's, then the guard's."""
        return [tick.now.ros_ns for tick in self.policy] + [tick.now.ros_ns for tick in self.guard]


@dataclass(frozen=True, eq=False, kw_only=True)
class Replayed(Batch):
    """A whole replay. identity: bag, contract, policy, versions; what two logs must share to be compared."""

    contract: Contract
    identity: Json
    outcome: Outcome


def in_order(replayed: Batch) -> Sequence[Decision]:
    """Decisions by their instants, ROS time; of one instant the instructions, policy, guard, commands."""
    parts: tuple[Decision, ...] = (*replayed.instructions, *replayed.policy, *replayed.guard, *replayed.recorded)
    return sorted(parts, key=_ros_ns)


def by_kind(decisions: Iterable[Decision]) -> Batch:
    """Decisions in the order in which they were made."""
    kinds: dict[type, list[Any]] = {PolicyDecision: [], GuardDecision: [], RecordedCommand: [], Instructed: []}
    for decision in decisions:
        kinds[type(decision)].append(decision)
    return Batch(
        instructions=tuple(kinds[Instructed]),
        policy=tuple(kinds[PolicyDecision]),
        guard=tuple(kinds[GuardDecision]),
        recorded=tuple(kinds[RecordedCommand]),
    )


def _ros_ns(decision: Decision) -> int:
    if isinstance(decision, RecordedCommand):
        return decision.stamp_ns
    return decision.ros_ns if isinstance(decision, Instructed) else decision.now.ros_ns
