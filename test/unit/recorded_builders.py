"""A made-up robot's recording, as samples: every number says when it was taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from builders import UPRIGHT, pose_contract

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.safety import Motion
from vla_ros.learning.recorded.alignment import Aligner, Gap, Moment, Plan
from vla_ros.learning.recorded.commands import COMMANDED, Command
from vla_ros.learning.recorded.spans import Span
from vla_ros.types import NS_PER_S, Frame, JointState, Pose, Sample, Twist

START_NS = 100 * NS_PER_S
TICK_NS = NS_PER_S // 80
FRAME_NS = NS_PER_S // 10
VIEWS = ("front", "wrist", "top")
SPEED_M_S = 0.1
TOLD = (Span("push", START_NS - NS_PER_S),)


def at(seconds: float) -> int:
    """ROS time of a recording that begins at 0 s."""
    return START_NS + round(seconds * NS_PER_S)


def where(stamp_ns: int) -> Pose:
    """Along x at SPEED_M_S."""
    return Pose(np.array([SPEED_M_S * (stamp_ns - START_NS) / NS_PER_S, 0.0, 0.0]), UPRIGHT)


def picture(stamp_ns: int) -> Frame:
    """8 x 8 pixels that tell their instant: ticks since the start, in two digits to base 256."""
    ticks = (stamp_ns - START_NS) // TICK_NS
    return Frame(np.broadcast_to(np.array([ticks % 256, ticks // 256, 7], np.uint8), (8, 8, 3)), "rgb8")


def by_policy(_: int) -> Source:
    """Who is in command at an instant: the policy, always."""
    return Source.POLICY


@dataclass(frozen=True)
class Recording:
    """seconds: how long; source: who is in command when; opening: the gripper's, when; latency_ns: of every message.

    silent: (channel, from, until) [s] in which nothing of it came. view_offset_ns: how late each view is taken.
    tick_ns: from one tick of guard and feedback to the next.
    """

    seconds: float = 2.0
    source: Callable[[int], Source] = by_policy
    opening: Callable[[int], float | None] = lambda _: 0.5
    latency_ns: int = 0
    frame_ns: int = FRAME_NS
    tick_ns: int = TICK_NS
    silent: Sequence[tuple[str, float, float]] = ()
    view_offset_ns: dict[str, int] = field(default_factory=dict)

    def samples(self) -> list[Sample[Any]]:
        """In the order of reception."""
        made = [*self._ticks(), *self._frames()]
        kept = [sample for sample in made if not self._is_silent(sample)]
        return sorted(kept, key=lambda sample: sample.received_ns)

    def _ticks(self) -> Iterable[Sample[Any]]:
        for tick in range(round(self.seconds * NS_PER_S / self.tick_ns) + 1):
            stamp_ns = START_NS + tick * self.tick_ns
            joints = JointState(pose_contract().feedback.joint_states.joints, np.full(9, float(tick)))
            yield self._sample(channels.EE_POSE, where(stamp_ns), stamp_ns)
            yield self._sample(channels.JOINT_STATES, joints, stamp_ns)
            source = self.source(stamp_ns)
            motion = Motion(where(stamp_ns), Twist(np.array([SPEED_M_S, 0.0, 0.0]), np.zeros(3)), None)
            motion = replace(motion, gripper=self.opening(stamp_ns))
            yield self._sample(COMMANDED, Command(None if source is Source.NOBODY else motion, source), stamp_ns)

    def _frames(self) -> Iterable[Sample[Any]]:
        for number in range(round(self.seconds * NS_PER_S / self.frame_ns) + 1):
            for view in VIEWS:
                stamp_ns = START_NS + number * self.frame_ns + self.view_offset_ns.get(view, 0)
                yield self._sample(channels.camera(view), picture(stamp_ns), stamp_ns)

    def _sample(self, channel: str, value: Any, stamp_ns: int) -> Sample[Any]:
        return Sample(channel, value, stamp_ns, stamp_ns + self.latency_ns)

    def _is_silent(self, sample: Sample[Any]) -> bool:
        assert sample.stamp_ns is not None
        return any(
            sample.channel == name and at(start) <= sample.stamp_ns < at(end) for name, start, end in self.silent
        )


def small_contract() -> Contract:
    """The simulated robot's, with pictures of 8 x 8."""
    contract = pose_contract()
    return replace(contract, cameras={v: replace(c, width=8, height=8) for v, c in contract.cameras.items()})


def aligned(
    samples: Iterable[Sample[Any]], spans: Sequence[Span] = TOLD, fps: int = 10, contract: Contract | None = None
) -> list[Moment | Gap]:
    """All moments and gaps."""
    return list(Aligner(Plan(contract or pose_contract(), fps), spans).align(samples))


def moments_in(found: Iterable[Moment | Gap]) -> list[Moment]:
    """Without the gaps."""
    return [item for item in found if isinstance(item, Moment)]


def gaps_in(found: Iterable[Moment | Gap]) -> list[tuple[float, str]]:
    """When [s], to a tick, and why."""
    return [(round((item.t_ns - START_NS) / NS_PER_S, 4), item.cause) for item in found if isinstance(item, Gap)]
