"""What a page tells of, all at hand before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.comparison import Comparison
from vla_ros.replay.judging.judgement import Judgement
from vla_ros.replay.judging.moments import Moment
from vla_ros.replay.judging.verdict import Verdict
from vla_ros.replay.report.frames import Strips
from vla_ros.types import NS_PER_S


@dataclass(frozen=True, eq=False)
class Glance:
    """What of one view a network looked at. picture: JPEG; heat: PNG of the same scene, one pixel a patch.

    share: of the words' attention that this view gets.
    """

    picture: bytes
    heat: bytes
    share: float


@dataclass(frozen=True, eq=False)
class Look:
    """Where a network looked. policy: its name; at_ns: of the observation, ROS time; glances: by view.

    words: each of the instruction, with the share of the pictures' attention that it gets.
    """

    policy: str
    at_ns: int
    glances: Mapping[str, Glance]
    words: Sequence[tuple[str, float]]


@dataclass(frozen=True, eq=False)
class Rival:
    """Another policy on the same bag, and how it compares. name: for people."""

    name: str
    replayed: Replayed
    judgement: Judgement
    comparison: Comparison


@dataclass(frozen=True, eq=False)
class Content:
    """name: of the policy, for people. moments: the worst first; looks: none of a policy that cannot tell."""

    name: str
    replayed: Replayed
    judgement: Judgement
    verdict: Verdict
    moments: Sequence[Moment] = ()
    strips: Strips | None = None
    looks: Sequence[Look] = ()
    rival: Rival | None = None

    @property
    def start_ns(self) -> int:
        """ROS time of the replay's first tick: the page's zero."""
        return self.judgement.begin_ns

    @property
    def end_ns(self) -> int:
        """ROS time of the replay's last tick; 0 without any."""
        lasts = [tick.now.ros_ns for tick in self.replayed.policy[-1:]]
        lasts += [tick.now.ros_ns for tick in self.replayed.guard[-1:]]
        return max(lasts, default=0)

    @property
    def end_s(self) -> float:
        """Seconds from the first to the last tick."""
        return (self.end_ns - self.start_ns) / NS_PER_S

    def seconds(self, ros_ns: int) -> float:
        """An instant on the page's axis."""
        return (ros_ns - self.start_ns) / NS_PER_S
