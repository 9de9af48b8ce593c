"""What the robot was made to do from an instant on, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.control.arbiter import Source
from vla_ros.control.safety import Motion
from vla_ros.geometry import difference, integrate
from vla_ros.learning.recorded.tracks import Track
from vla_ros.types import NS_PER_S, Pose, Sample, Target, Twist

COMMANDED = "commanded"  # Command, stamped with the guard's tick


@dataclass(frozen=True, eq=False)
class Command:
    """What the robot was sent at one tick of the guard, and by whose wish. motion: None where it was sent nothing."""

    motion: Motion | None
    source: Source


@dataclass(frozen=True, eq=False)
class Conduct:
    """One frame's worth of motion.

    origin: the pose commanded at the instant; gripper: the opening commanded before it; action: where the commanded
    pose was one period later, the mean velocity until then, and the opening then asked for; source: who commanded.
    """

    origin: Pose
    gripper: float
    action: Target
    source: Source


def conduct_at(track: Track, instant_ns: int, period_s: float, contract: Contract) -> Conduct | str:
    """From an instant to one period later; or why there was none. track: of COMMANDED.

    Everybody's commands count, but somebody's they must be, all the time: braking is no demonstration.
    """
    end_ns = instant_ns + round(period_s * NS_PER_S)
    before = track.newest(instant_ns)
    if before is None or before.stamp_ns is None:
        return "no commands"
    ticks = list(track.within(before.stamp_ns, end_ns))
    stamps = [*_stamps(ticks), end_ns]
    if max(np.diff(stamps)) > contract.timeouts.driver_s * NS_PER_S:
        return "no commands"
    if any(tick.value.source is Source.NOBODY or tick.value.motion is None for tick in ticks):
        return "nobody in command"
    motions: list[Motion] = [tick.value.motion for tick in ticks]
    twist = _mean_twist(motions, [max(stamp, instant_ns) for stamp in stamps], period_s, contract)
    action = Target(integrate(motions[0].pose, twist, period_s), twist, _opening_after(ticks, instant_ns, contract))
    return Conduct(motions[0].pose, _opening_before(track, instant_ns, contract), action, ticks[0].value.source)


def _mean_twist(motions: Sequence[Motion], stamps: Sequence[int], period_s: float, contract: Contract) -> Twist:
    """stamps: from when each motion was commanded, and the end.

    Where poses are obeyed, poses tell how it moved: a late tick's twist was not carried out for as long as it stood.
    """
    if contract.command_interface == "pose":
        return difference(motions[0].pose, motions[-1].pose, period_s)
    shares = np.diff(stamps) / (stamps[-1] - stamps[0])
    linear = sum((share * motion.twist.linear for share, motion in zip(shares, motions, strict=True)), np.zeros(3))
    angular = sum((share * motion.twist.angular for share, motion in zip(shares, motions, strict=True)), np.zeros(3))
    return Twist(linear, angular)


def _opening_before(track: Track, instant_ns: int, contract: Contract) -> float:
    """As the robot has it when nobody has commanded any. The tick at the instant itself is what is to be predicted."""
    sample = track.newest(instant_ns - 1)
    return _opening(sample, contract)


def _opening_after(ticks: Sequence[Sample[Any]], instant_ns: int, contract: Contract) -> float:
    asked = [tick for tick in ticks if tick.stamp_ns is not None and tick.stamp_ns >= instant_ns]
    return _opening(asked[0] if asked else ticks[0], contract)


def _opening(sample: Sample[Any] | None, contract: Contract) -> float:
    motion: Motion | None = None if sample is None else sample.value.motion
    return contract.gripper.at_start if motion is None or motion.gripper is None else motion.gripper


def _stamps(ticks: Sequence[Sample[Any]]) -> list[int]:
    return [tick.stamp_ns for tick in ticks if tick.stamp_ns is not None]
