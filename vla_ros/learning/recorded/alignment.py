"""Recorded samples -> moments at a fixed rate, by the contract's rules: nothing stale, nothing made up.

A moment lies where every view has just been seen, one period after the last moment as far as the cameras allow; so a
camera that runs a little fast or slow is followed, not resampled. Where the views are not new, because the cameras are
slower than the rate asked for or one of them dropped a frame, a moment has the last pictures that belong together, and
says so. What a moment tells of the robot is the newest that was stamped until then; where anything required is stale,
there is no moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.errors import LearningError
from vla_ros.images import DEPTH
from vla_ros.learning.recorded.commands import COMMANDED, conduct_at
from vla_ros.learning.recorded.spans import Span, span_at
from vla_ros.learning.recorded.tracks import Track
from vla_ros.types import NS_PER_S, FloatArray, Frame, Pose, Sample, Target

Pictures = Mapping[str, Sample[Frame]]
_RATE_TOLERANCE = 0.02  # 29.97 Hz are 30


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame of a demonstration. t_ns: ROS time; pictures: by view; joints: (n,), none where they are optional.

    is_between: the pictures are from before the moment, not of it. measured, commanded: poses at t_ns. gripper: the
    opening commanded before it. action: until one period later. source: who was in command.
    """

    t_ns: int
    span: Span
    pictures: Pictures
    is_between: bool
    measured: Pose
    joints: FloatArray
    commanded: Pose
    gripper: float
    action: Target
    source: Source


@dataclass(frozen=True)
class Gap:
    """From this instant on [ROS ns] there are no moments, until one comes. cause: in words."""

    t_ns: int
    cause: str


@dataclass(frozen=True)
class Plan:
    """fps: moments per second, the cameras' rate or so many times more or less. Raises LearningError for another."""

    contract: Contract
    fps: int

    def __post_init__(self) -> None:
        if not self.views:
            raise LearningError(f"{self.contract.name} has no colour camera that is required: there is nothing to see")
        for view in self.views:
            rate_hz = self.contract.cameras[view].rate_hz
            times = max(self.fps, rate_hz) / min(self.fps, rate_hz)
            if abs(times - round(times)) > _RATE_TOLERANCE:
                choices = sorted({round(rate_hz * factor) for factor in (0.5, 1.0, 2.0)})
                raise LearningError(
                    f"{self.fps} frames/s and camera {view}'s {rate_hz:g} Hz do not meet; choose a multiple or a "
                    f"fraction, such as {', '.join(map(str, choices))}"
                )

    @classmethod
    def at_camera_rate(cls, contract: Contract) -> Plan:
        """As often as the slowest of the required cameras looks."""
        rates = [one.rate_hz for one in contract.cameras.values() if one.required and one.encoding not in DEPTH]
        return cls(contract, max(1, round(min(rates, default=1.0))))

    @property
    def period_s(self) -> float:
        """From one moment to the next."""
        return 1.0 / self.fps

    @cached_property
    def views(self) -> tuple[str, ...]:
        """The colour cameras that the robot cannot do without: of those there is always a picture."""
        cameras = self.contract.cameras
        return tuple(view for view, camera in cameras.items() if camera.required and camera.encoding not in DEPTH)

    @cached_property
    def max_ages_s(self) -> Mapping[str, float]:
        """Channel -> how old it may be [s], of all that is needed."""
        feedback, cameras = self.contract.feedback, self.contract.cameras
        optional = {channels.JOINT_STATES: feedback.joint_states, channels.EE_TWIST: feedback.ee_twist}
        return {
            **{channels.camera(view): cameras[view].max_age_s for view in self.views},
            channels.EE_POSE: feedback.ee_pose.max_age_s,
            **{name: one.max_age_s for name, one in optional.items() if one is not None and one.required},
            COMMANDED: self.contract.timeouts.driver_s,
        }

    @property
    def joints(self) -> tuple[str, ...]:
        """Those of which every moment tells."""
        joint_states = self.contract.feedback.joint_states
        return joint_states.joints if joint_states.required else ()

    @property
    def slack_s(self) -> float:
        """How far from its due instant a moment may lie: half a period of the faster of cameras and moments."""
        return 0.5 / max(self.fps, *(self.contract.cameras[view].rate_hz for view in self.views))


@dataclass(eq=False)
class Aligner:
    """Takes samples as they were received, and gives moments and gaps as soon as nothing can change them any more.

    spans: of the whole recording, see `spans_of`. refused: how many samples were turned away, by "channel: why".
    Holds a second or two of samples.
    """

    plan: Plan
    spans: Sequence[Span]
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        ages = self.plan.max_ages_s
        # What is stamped now has arrived by then, or is refused when it does.
        self._lateness_ns = round(max(ages.values()) * NS_PER_S)
        self._period_ns = round(self.plan.period_s * NS_PER_S)
        self._slack_ns = round(self.plan.slack_s * NS_PER_S)
        self._skew_ns = round(self.plan.contract.max_camera_skew_s * NS_PER_S)
        # A live node would hold what arrives so late to be stale. Commands were obeyed, however late they were written
        # down; and where ROS time stood still between two ticks of the guard, the later one's is the one that lasted.
        self._tracks = {name: Track(max_age_s, max_age_s) for name, max_age_s in ages.items()}
        self._tracks[COMMANDED] = Track(ages[COMMANDED], max(ages.values()), replaces=True)
        self._views = {view: self._tracks[channels.camera(view)] for view in self.plan.views}
        self._due_ns: int | None = None  # of the next moment; None while there is a gap
        self._looked_ns = -1  # in a gap: up to where there is none
        self._pictures: Pictures = {}
        self._pictured_ns = -1
        self._cause: str | None = None  # of the gap
        self._received_ns = 0

    def align(self, samples: Iterable[Sample[Any]]) -> Iterator[Moment | Gap]:
        """All of a recording. Instants of reception are ROS time, and none is before the last one's."""
        for sample in samples:
            yield from self.receive(sample)
        yield from self._decided(self._received_ns)

    def receive(self, sample: Sample[Any]) -> Iterator[Moment | Gap]:
        """One more sample, and what it decides."""
        self._received_ns = max(self._received_ns, sample.received_ns)
        track = self._tracks.get(sample.channel)
        if track is None:
            return
        why = track.add(sample)
        if why is not None:
            self.refused[f"{sample.channel}: {why}"] += 1
        yield from self._decided(self._received_ns - self._lateness_ns)

    def _decided(self, known_ns: int) -> Iterator[Moment | Gap]:
        """known_ns: all that is stamped until then has been received."""
        while (instant_ns := self._next(known_ns - self._period_ns)) is not None:
            moment = self._moment(instant_ns)
            if isinstance(moment, Moment):
                self._due_ns, self._cause = instant_ns + self._period_ns, None
                yield moment
                continue
            self._due_ns = None
            if moment != self._cause:
                self._cause = moment
                yield Gap(instant_ns, moment)

    def _next(self, until_ns: int) -> int | None:
        """The next instant to look at, if it is no later than this; `_pictures` are then those to look at."""
        if self._due_ns is None:
            return self._first_seen(until_ns)
        if self._due_ns + self._slack_ns > until_ns:
            return None
        instant_ns = self._best_seen(self._due_ns)
        self._look_until(self._due_ns if instant_ns is None else instant_ns)
        return self._looked_ns

    def _first_seen(self, until_ns: int) -> int | None:
        """The first instant in a gap at which all views have just been seen."""
        for stamp_ns in self._camera_stamps(self._looked_ns + 1, until_ns):
            if self._seen(stamp_ns) is not None:
                self._look_until(stamp_ns)
                return stamp_ns
        self._look_until(max(until_ns, self._looked_ns))
        return None

    def _best_seen(self, due_ns: int) -> int | None:
        """About when a moment is due: where the views lie closest together, and of such the one nearest to that."""
        scores = {}
        for stamp_ns in self._camera_stamps(due_ns - self._slack_ns + 1, due_ns + self._slack_ns):
            pictures = self._seen(stamp_ns)
            if pictures is not None:
                scores[stamp_ns] = (stamp_ns - min(map(_stamp, pictures.values())), abs(stamp_ns - due_ns))
        return min(scores, key=scores.__getitem__) if scores else None

    def _look_until(self, instant_ns: int) -> None:
        """Take the newest pictures that belong together, and forget what is older than anything needed then."""
        for stamp_ns in reversed(self._camera_stamps(self._looked_ns + 1, instant_ns)):
            pictures = self._seen(stamp_ns)
            if pictures is not None:
                self._pictures, self._pictured_ns = pictures, stamp_ns
                break
        self._looked_ns = instant_ns
        for track in self._tracks.values():
            track.forget(instant_ns - self._lateness_ns - self._slack_ns)

    def _camera_stamps(self, from_ns: int, until_ns: int) -> list[int]:
        found = (sample.stamp_ns for track in self._views.values() for sample in track.within(from_ns, until_ns))
        return sorted({stamp_ns for stamp_ns in found if stamp_ns is not None})

    def _seen(self, instant_ns: int) -> Pictures | None:
        """The newest picture of each view, if none is further back than the views may be apart."""
        pictures = {view: track.newest(instant_ns) for view, track in self._views.items()}
        kept = {view: sample for view, sample in pictures.items() if sample is not None}
        if len(kept) < len(pictures) or any(instant_ns - _stamp(one) > self._skew_ns for one in kept.values()):
            return None
        return kept

    def _moment(self, instant_ns: int) -> Moment | str:
        """What there was at an instant, or why that is not enough."""
        span = span_at(self.spans, instant_ns)
        if span is None or not span.instruction:
            return "no instruction"
        if span.is_hold:
            return "told to stop"
        newest = {name: track.fresh(instant_ns) for name, track in self._tracks.items() if name != COMMANDED}
        stale = [name for name, sample in newest.items() if sample is None]
        if stale:
            return f"{stale[0]} is missing or stale"
        if any(
            instant_ns - _stamp(one) > self._views[view].max_age_s * NS_PER_S for view, one in self._pictures.items()
        ):
            return "the views have no common instant"
        conduct = conduct_at(self._tracks[COMMANDED], instant_ns, self.plan.period_s, self.plan.contract)
        if isinstance(conduct, str):
            return conduct
        joints, measured = newest.get(channels.JOINT_STATES), newest[channels.EE_POSE]
        assert measured is not None
        return Moment(
            t_ns=instant_ns,
            span=span,
            pictures=self._pictures,
            is_between=self._pictured_ns != instant_ns,
            measured=measured.value,
            joints=np.zeros(0) if joints is None else joints.value.positions,
            commanded=conduct.origin,
            gripper=conduct.gripper,
            action=conduct.action,
            source=conduct.source,
        )


def _stamp(sample: Sample[Any]) -> int:
    assert sample.stamp_ns is not None
    return sample.stamp_ns
