"""What is tried, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vla_ros.sim.disturbances import Disturbance
from vla_ros.sim.scenes import PLAIN, Scene
from vla_ros.sim.variations import Variation

Phrasing = Literal["training", "held out", "blank"]
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Trial:
    """One episode to be run. task: what is told and must come true; world: whose world it is done in, usually the same.

    phrasing: where the sentence is from; "blank" tells nothing. disturbance: what happens meanwhile; its kind is the
    suite's name.
    """

    suite: str
    task: str
    world: str
    variation: Variation
    phrasing: Phrasing
    sentence: str
    scene: Scene = PLAIN
    disturbance: Disturbance | None = None

    @property
    def key(self) -> Key:
        """What names it in a log."""
        return self.suite, self.task, self.world, str(self.variation), self.sentence


@dataclass(frozen=True)
class Order:
    """A trial and how it is run. horizon: steps of 12.5 ms; inference_ticks: from a request to its reply.

    linger_steps: how long it goes on after it is solved, or after it is disturbed.
    """

    trial: Trial
    horizon: int
    inference_ticks: int
    linger_steps: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a trial. The first six fields are the trial's, the next ones `EpisodeResult`'s.

    moved_m: how far a drawer or window was moved as told, less than 0 the other way; None of other worlds.
    path_m: length of the commanded hand's way; smoothness: its spectral arc length, None of a hand that stood still.
    inference_ms: of each chunk, on this machine and under this load. Over ROS what is None is not measured, but
    wall_time_s is: by the wall clock, from the sentence to the end. surprises: (instant of the look, surprise), as the
    policy tells it, in seconds from the start; errors: what each is made of, and glimpses: what it told of the things,
    where the policy knows. disturbed_s: when the robot, still at work, began to be disturbed; stopped_s: when the guard
    stopped or latched.
    """

    suite: str
    task: str
    world: str
    variation: str
    phrasing: Phrasing
    sentence: str
    success: bool
    steps: int
    stops: int
    latches: int
    clips: Mapping[str, int]
    clipped_steps: int | None = None
    max_following_error_m: float | None = None
    moved_m: float | None = None
    path_m: float | None = None
    smoothness: float | None = None
    inference_ms: tuple[float, ...] = ()
    wall_time_s: float | None = None
    surprises: tuple[tuple[float, float], ...] = ()
    errors: tuple[tuple[float, ...], ...] = ()
    glimpses: tuple[tuple[float, ...], ...] = ()
    disturbed_s: float | None = None
    stopped_s: tuple[float, ...] = ()

    @classmethod
    def of(cls, trial: Trial, **measured: Any) -> Outcome:
        """What was measured of a trial, by field."""
        variation = str(trial.variation)
        return cls(trial.suite, trial.task, trial.world, variation, trial.phrasing, trial.sentence, **measured)

    @property
    def key(self) -> Key:
        """The trial's."""
        return self.suite, self.task, self.world, self.variation, self.sentence
