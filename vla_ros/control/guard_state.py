"""What the guard remembers from tick to tick, and what a tick gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vla_ros.contract import Contract
from vla_ros.control.arbiter import Decision, Source
from vla_ros.control.clock import Clock
from vla_ros.control.intents import Reason, Stop
from vla_ros.control.joining import PolicyTarget
from vla_ros.control.safety import Motion
from vla_ros.control.streams import Streams
from vla_ros.types import FloatArray

# How the names of counts begin: of stops, by their reason, and of ticks on which a limit acted.
STOPPED, CLIPPED = "stopped: ", "clipped: "


def stops_in(counts: Mapping[str, int]) -> int:
    """How often the guard took the robot from who commanded it, for a fault or because it had slept itself.

    To be told to stop, disarmed or given another instruction is none; each interruption is one, however long.
    """
    return sum(count for name, count in counts.items() if name.startswith(STOPPED))


class Mode(str, Enum):
    """DISARMED and LATCHED never move; only `arm` leads to ARMED, only `reset` out of LATCHED, to DISARMED."""

    DISARMED = "disarmed"
    ARMED = "armed"
    LATCHED = "latched"


@dataclass(frozen=True)
class GuardConfig:
    """shadow: decide and tell, but publish nothing to the robot."""

    contract: Contract
    shadow: bool = False


@dataclass(frozen=True, eq=False)
class StillFeedback:
    """A feedback's numbers have been exactly these since a stamp, while the command moved so far without a rest."""

    numbers: FloatArray
    since_ns: int
    moved_m: float = 0.0
    moved_rad: float = 0.0


_AT_START = Decision(Source.NOBODY, Stop(Reason.DISARMED))


@dataclass(frozen=True, eq=False)
class GuardState:
    """motion: what is commanded, None until the robot has been seen; latched_by: why, in words.

    still: feedback that repeats itself, by channel; empty while disarmed.
    is_sending: whether the last tick sent the robot a command.
    is_gripper_commanded: whether somebody in command has asked for an opening since arming; none is sent before.
    policy: the newest complete set of the policy, kept while it ages and newer sets stay incomplete.
    woke_ns: steady time of the first tick after a sleep longer than the driver waits; None if there was none.
    reobserve_after_ns: a policy's target made from an observation at or before this ROS time is void.
    """

    streams: Streams = field(default_factory=Streams)
    clock: Clock | None = None
    mode: Mode = Mode.DISARMED
    latched_by: str = ""
    motion: Motion | None = None
    still: Mapping[str, StillFeedback] = field(default_factory=dict)
    is_sending: bool = False
    is_gripper_commanded: bool = False
    policy: PolicyTarget | None = None
    decision: Decision = _AT_START
    woke_ns: int | None = None
    reobserve_after_ns: int = -1
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GuardStatus:
    """The tick in words. values: ages, counts and modes for diagnostics."""

    mode: Mode
    source: Source
    is_fault: bool
    text: str
    values: Mapping[str, str]
