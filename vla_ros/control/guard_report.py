"""What the guard's tick gives: the command, and, once that is sent, words for people and all of it for a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vla_ros.control import channels
from vla_ros.control.guard_state import GuardConfig, GuardState, GuardStatus
from vla_ros.control.intents import Stop
from vla_ros.control.safety import Motion
from vla_ros.control.streams import age_text, trace_of
from vla_ros.types import Json, Now, Pose, Sample

_HEARD = (channels.EE_POSE, channels.POLICY_PROVENANCE, channels.TELEOP_DEADMAN, channels.EMERGENCY_STOP)


@dataclass(frozen=True, eq=False)
class GuardResult:
    """command: what the robot is to obey, None where it is sent nothing. commanded_pose: None until it is seen, and
    while ROS time stands, as there is one of each instant.

    The other fields are what status and trace tell of. Both are made when they are asked for, and then kept.
    """

    state: GuardState
    command: Motion | None
    commanded_pose: Pose | None
    inputs: Sequence[Sample[Any]]
    now: Now
    dt_s: float
    clips: Sequence[str]
    config: GuardConfig

    @cached_property
    def text(self) -> str:
        """Who is in command and, if nothing moves, why: the status without its numbers."""
        intent, shadow = self.state.decision.intent, "in shadow, " if self.config.shadow else ""
        text = f"{shadow}{self.state.decision.source.value} in command"
        if isinstance(intent, Stop):
            text += f": {intent.reason.value}" + (f" ({intent.detail})" if intent.detail else "")
        return text

    @cached_property
    def status(self) -> GuardStatus:
        """Who is in command and why, with ages and counts."""
        return _status(self.state, self.text, self.now, self.config)

    @cached_property
    def trace(self) -> Json:
        """All that decided the tick: instants, inputs, decision, command. JSON types only."""
        state, now = self.state, self.now
        told = state.streams.newest(channels.COMMAND)
        return {
            "tick": 0 if state.clock is None else state.clock.ticks,
            "ros_ns": now.ros_ns,
            "steady_ns": now.steady_ns,
            "dt_s": self.dt_s,
            "inputs": [trace_of(sample, now) for sample in self.inputs],
            "shadow": self.config.shadow,
            "instruction": None if told is None else told.value,
            "mode": state.mode.value,
            "source": state.decision.source.value,
            "text": self.text,
            "clips": list(self.clips),
            "reobserve_after_ns": state.reobserve_after_ns,
            "command": _trace_of_motion(self.command) if self.command else None,
        }


def _status(state: GuardState, text: str, now: Now, config: GuardConfig) -> GuardStatus:
    intent = state.decision.intent
    is_fault = isinstance(intent, Stop) and intent.reason.is_fault
    values = {
        "mode": state.mode.value,
        "source": state.decision.source.value,
        "shadow": str(config.shadow).lower(),
        **{f"age of {channel}": age_text(state.streams.newest(channel), now) for channel in _HEARD},
        **{name: str(count) for name, count in sorted(state.counts.items())},
        **{f"refused {name}": str(count) for name, count in sorted(state.streams.refused.items())},
    }
    return GuardStatus(state.mode, state.decision.source, is_fault, text, values)


def _trace_of_motion(motion: Motion) -> Json:
    return {
        "position": motion.pose.position.tolist(),
        "quaternion": motion.pose.quaternion.tolist(),
        "linear": motion.twist.linear.tolist(),
        "angular": motion.twist.angular.tolist(),
        "gripper": motion.gripper,
    }
