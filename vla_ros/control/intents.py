"""What can be asked of the robot at one tick, and how each is carried out within the limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vla_ros.contract import Contract
from vla_ros.control.safety import Limited, Motion, brake, limit_motion, too_fast, tracking_twist
from vla_ros.types import Pose, Twist


class Reason(str, Enum):
    """Why nothing moves, in words. `is_fault` tells a failure from a wait."""

    DISARMED = "disarmed"
    NO_INSTRUCTION = "no instruction yet"
    TOLD_TO_STOP = "told to stop"
    POLICY_AWAITED = "waiting for the policy"
    REOBSERVATION_AWAITED = "waiting for the policy to observe again"
    LATCHED = "latched until reset"
    POLICY_SILENT = "the policy fell silent"
    FEEDBACK_STALE = "the measured pose is missing or stale"
    CLOCK_STOPPED = "ROS time stands still"
    TELEOP_SILENT = "teleop fell silent while its deadman was held"
    TELEOP_JUMP = "the teleop pose is too far from the robot"
    JOINT_LIMIT = "a joint is near its limit, or not heard"

    @property
    def is_fault(self) -> bool:
        """True where something failed, rather than has not begun or was asked for."""
        return self in _FAULTS


_FAULTS = frozenset(
    {
        Reason.LATCHED,
        Reason.POLICY_SILENT,
        Reason.FEEDBACK_STALE,
        Reason.CLOCK_STOPPED,
        Reason.TELEOP_SILENT,
        Reason.TELEOP_JUMP,
        Reason.JOINT_LIMIT,
    }
)


class Intent(Protocol):
    """One tick's wish."""

    @property
    def gripper(self) -> float | None:
        """The opening asked for, 0 closed to 1 open; None to leave it."""
        ...

    def execute(self, motion: Motion, dt_s: float, contract: Contract) -> Limited:
        """The motion one tick later, within the contract's limits."""
        ...


@dataclass(frozen=True, eq=False)
class Track:
    """Follow a moving pose. twist: how the pose itself moves; gripper: 0..1, None to leave it."""

    pose: Pose
    twist: Twist
    gripper: float | None

    def execute(self, motion: Motion, dt_s: float, contract: Contract) -> Limited:
        """Close in on the pose while it moves."""
        desired = tracking_twist(motion.pose, self.pose, self.twist, contract.limits)
        limited = limit_motion(motion, desired, self.gripper, dt_s, contract)
        # A pose faster than the limit was slowed down already, or its lead would decide what is told.
        clips = dict.fromkeys((*too_fast(self.twist, contract.limits), *limited.clips))
        return Limited(limited.motion, tuple(clips))


@dataclass(frozen=True, eq=False)
class Move:
    """Move at a twist, from wherever the robot is commanded to be."""

    twist: Twist
    gripper: float | None

    def execute(self, motion: Motion, dt_s: float, contract: Contract) -> Limited:
        """Take up the twist."""
        return limit_motion(motion, self.twist, self.gripper, dt_s, contract)


@dataclass(frozen=True)
class Stop:
    """Come to rest, and say why."""

    reason: Reason
    detail: str = ""

    @property
    def gripper(self) -> None:
        """A stop asks nothing of the gripper."""

    def execute(self, motion: Motion, dt_s: float, contract: Contract) -> Limited:
        """Brake at the limit; the gripper holds."""
        return brake(motion, dt_s, contract.limits)
