"""What the policy sends as four messages with one stamp: taken apart, and put together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vla_ros.control import channels
from vla_ros.control.policy_state import PolicyOutput
from vla_ros.control.streams import Streams
from vla_ros.types import Provenance, Sample, Target

PARTS = (channels.POLICY_POSE, channels.POLICY_TWIST, channels.POLICY_GRIPPER, channels.POLICY_PROVENANCE)


@dataclass(frozen=True, eq=False)
class PolicyTarget:
    """One tick of the policy: what it wants, and what it was made for. received_ns: steady, of its oldest part."""

    stamp_ns: int
    received_ns: int
    target: Target
    provenance: Provenance


def newest_complete(streams: Streams) -> PolicyTarget | None:
    """The newest set of four with one stamp. A newer but incomplete set is ignored while this one ages."""
    for candidate in reversed(streams.history(PARTS[0])):
        stamp_ns = candidate.stamp_ns
        parts = [sample for part in PARTS for sample in streams.history(part) if sample.stamp_ns == stamp_ns]
        if stamp_ns is not None and len(parts) == len(PARTS):
            pose, twist, gripper, provenance = parts
            received_ns = min(part.received_ns for part in parts)
            return PolicyTarget(stamp_ns, received_ns, Target(pose.value, twist.value, gripper.value), provenance.value)
    return None


def taken_apart(output: PolicyOutput, received_ns: int) -> tuple[Sample[Any], ...]:
    """The four messages of one tick, as who hears them at a steady instant has them."""
    target = output.target
    values = (target.pose, target.twist, target.gripper, output.provenance)
    return tuple(Sample(part, value, output.stamp_ns, received_ns) for part, value in zip(PARTS, values, strict=True))
