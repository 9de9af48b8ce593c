"""The guard's tick in words for people, and in full for a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vla_ros.control import channels
from vla_ros.control.guard_state import GuardConfig, GuardState, GuardStatus
from vla_ros.control.intents import Stop
from vla_ros.control.safety import Limited, Motion
from vla_ros.control.streams import age_text, trace_of
from vla_ros.types import Json, Now, Sample

_HEARD = (channels.EE_POSE, channels.POLICY_PROVENANCE, channels.TELEOP_DEADMAN, channels.EMERGENCY_STOP)


def status_of(state: GuardState, now: Now, config: GuardConfig) -> GuardStatus:
    """Who is in command and why, with ages and counts."""
    intent = state.decision.intent
    text, is_fault = f"{state.decision.source.value} in command", False
    if isinstance(intent, Stop):
        text += f": {intent.reason.value}" + (f" ({intent.detail})" if intent.detail else "")
        is_fault = intent.reason.is_fault
    values = {
        "mode": state.mode.value,
        "source": state.decision.source.value,
        "shadow": str(config.shadow).lower(),
        **{f"age of {channel}": age_text(state.streams.newest(channel), now) for channel in _HEARD},
        **{name: str(count) for name, count in sorted(state.counts.items())},
        **{f"refused {name}": str(count) for name, count in sorted(state.streams.refused.items())},
    }
    shadow = "in shadow, " if config.shadow else ""
    return GuardStatus(state.mode, state.decision.source, is_fault, shadow + text, values)


def trace_of_tick(
    state: GuardState,
    inputs: Sequence[Sample[Any]],
    now: Now,
    dt_s: float,
    limited: Limited | None,
    command: Motion | None,
    status: GuardStatus,
) -> Json:
    """All that decided the tick: instants, inputs, decision, command. JSON types only."""
    return {
        "ros_ns": now.ros_ns,
        "steady_ns": now.steady_ns,
        "dt_s": dt_s,
        "inputs": [trace_of(sample, now) for sample in inputs],
        "mode": state.mode.value,
        "source": state.decision.source.value,
        "text": status.text,
        "clips": list(limited.clips) if limited else [],
        "reobserve_after_ns": state.reobserve_after_ns,
        "command": _trace_of_motion(command) if command else None,
    }


def _trace_of_motion(motion: Motion) -> Json:
    return {
        "position": motion.pose.position.tolist(),
        "quaternion": motion.pose.quaternion.tolist(),
        "linear": motion.twist.linear.tolist(),
        "angular": motion.twist.angular.tolist(),
        "gripper": motion.gripper,
    }
