"""Who is in command: priorities, timeouts and locks with the semantics of twist_mux.

The highest claim wins; a claim counts only while its holder speaks; a lock silences every claim below it, and a
lock that has gone silent itself is locked. Twist, pose and gripper of one source are won or lost together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from vla_ros.control.intents import Intent, Stop


class Source(str, Enum):
    """Who the robot obeys."""

    NOBODY = "nobody"
    POLICY = "policy"
    TELEOP = "teleop"


@dataclass(frozen=True)
class Claim:
    """A source's wish to command. A claim of intent Stop is still a claim: it keeps lower ones out."""

    source: Source
    priority: int
    intent: Intent


@dataclass(frozen=True)
class Lock:
    """While locked, claims of lower priority do not count."""

    priority: int
    locked: bool
    stop: Stop


POLICY_PRIORITY = 10
TELEOP_PRIORITY = 100
SAFETY_PRIORITY = 255


@dataclass(frozen=True)
class Decision:
    """The outcome of a tick. source is NOBODY exactly when intent is Stop."""

    source: Source
    intent: Intent


def arbitrate(claims: Sequence[Claim], locks: Sequence[Lock], idle: Stop) -> Decision:
    """The highest claim that no lock silences; else the highest lock's stop; else `idle`."""
    active = sorted((lock for lock in locks if lock.locked), key=lambda lock: -lock.priority)
    floor = active[0].priority if active else -1
    standing = [claim for claim in claims if claim.priority >= floor]
    if not standing:
        return Decision(Source.NOBODY, active[0].stop if active else idle)
    winner = max(standing, key=lambda claim: claim.priority)
    source = Source.NOBODY if isinstance(winner.intent, Stop) else winner.source
    return Decision(source, winner.intent)
