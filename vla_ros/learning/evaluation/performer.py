"""One policy and one robot that run trials, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType

import numpy as np

from vla_ros.contract import Box, Contract, Vector3
from vla_ros.contract_file import load_contract
from vla_ros.control.motion import path_length, smoothness
from vla_ros.learning.demonstration import moved_as_told
from vla_ros.learning.evaluation.subject import Subject
from vla_ros.learning.evaluation.trials import Order, Outcome, Trial
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.protocol import Policy, Surprised
from vla_ros.policy.registry import create_policy
from vla_ros.sim.disturbances import Intruder, intruder_of
from vla_ros.sim.episode import EpisodeResult, is_solved, run_episode
from vla_ros.sim.robots import kind_of
from vla_ros.sim.simulated import SimulatedRobot
from vla_ros.sim.views import image_size
from vla_ros.types import NS_PER_S, Chunk, FloatArray, Observation

_DIGITS = 5  # of a glimpse [m]


class Performer:
    """Use it in a `with`. The outcome of a trial does not depend on the trials before."""

    def __init__(self, subject: Subject) -> None:
        """Load the policy. Raises VlaRosError, in one sentence."""
        self._contract = load_contract(subject.contract)
        self._kind = kind_of(self._contract)
        self._policy = _Watched(create_policy(subject.policy, self._contract, subject.worker_options))
        self._robot: SimulatedRobot | None = None

    def perform(self, order: Order) -> Outcome:
        """Run one trial. Raises SimError."""
        trial = order.trial
        robot = self._in_world(trial)
        before_m = robot.opening_m if trial.scene.opening is not None else None
        self._policy.begin()
        intruder = intruder_of(trial.disturbance)
        ending = _Ending(_criterion(trial, before_m), intruder, order.linger_steps)
        result = run_episode(
            robot,
            self._policy,
            within_reach(self._contract, robot),
            trial.sentence,
            order.horizon,
            order.inference_ticks,
            is_done=ending,
            intruder=intruder,
        )
        moved_m = None if before_m is None else _as_told(trial.task, robot.opening_m - before_m)
        return _outcome(trial, replace(result, success=ending.is_solved), moved_m, self._policy, ending.disturbed_s)

    def close(self) -> None:
        """Free what drawing holds."""
        if self._robot is not None:
            self._robot.close()

    def __enter__(self) -> Performer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _in_world(self, trial: Trial) -> SimulatedRobot:
        if self._robot is None:
            views = self._policy.needs.views
            size = image_size(self._contract.cameras, views)
            self._robot = self._kind.make(trial.world, trial.variation, views, size)
        self._robot.reset(trial.world, trial.variation, trial.scene)
        return self._robot


def within_reach(contract: Contract, robot: SimulatedRobot) -> Contract:
    """The contract of this world's robot: what it allows, less where the robot would not follow.

    Meta-World holds the commanded hand in a box of each task's. A command beyond it would wind up, and what was learned
    from a hand that does follow would not know of it.
    """
    reach, allowed = robot.reach, contract.limits.workspace_m
    least, most = np.maximum(reach.min, allowed.min), np.minimum(reach.max, allowed.max)
    box = Box(_vector(least), _vector(most))
    return replace(contract, limits=replace(contract.limits, workspace_m=box))


def _vector(values: FloatArray) -> Vector3:
    x, y, z = values.tolist()
    return x, y, z


class _Ending:
    """An episode ends so long after it was solved, or disturbed, whichever came first."""

    def __init__(self, criterion: Callable[[SimulatedRobot], bool], intruder: Intruder, linger_steps: int) -> None:
        self._criterion, self._intruder, self._linger_steps = criterion, intruder, linger_steps
        self._step = -1
        self._since: int | None = None
        self.is_solved = False
        self.disturbed_s: float | None = None

    def __call__(self, robot: SimulatedRobot) -> bool:
        """After each step."""
        self._step += 1
        self.is_solved = self.is_solved or self._criterion(robot)
        began_step = self._intruder.began_step
        if self._since is None and began_step is not None:
            self._since, self.disturbed_s = began_step, began_step * CONTROL_DT_S
        elif self._since is None and self.is_solved:
            self._since = self._step
        return self._since is not None and self._step - self._since >= self._linger_steps


class _Watched:
    """A policy, how long each of its answers took, and how surprised it was."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.needs = policy.needs
        self.begin()

    def begin(self) -> None:
        """Forget what an episode before was like."""
        self.times_ms: list[float] = []
        self.surprises: list[tuple[float, float]] = []
        self.errors: list[tuple[float, ...]] = []
        self.glimpses: list[tuple[float, ...]] = []

    def predict(self, observation: Observation) -> Chunk:
        began_ns = time.perf_counter_ns()
        chunk = self._policy.predict(observation)
        self.times_ms.append(round((time.perf_counter_ns() - began_ns) / 1e6, 2))
        if chunk.surprise is not None:
            self.surprises.append((observation.t_obs_ns / NS_PER_S, chunk.surprise))
            if isinstance(self._policy, Surprised) and self._policy.errors is not None:
                self.errors.append(self._policy.errors)
                self.glimpses.append(tuple(round(number, _DIGITS) for number in self._policy.glimpse or ()))
        return chunk


def _criterion(trial: Trial, before_m: float | None) -> Callable[[SimulatedRobot], bool]:
    """When a trial is done: as Meta-World says, or, from half open, when the thing has been moved as told."""
    return is_solved if before_m is None else partial(_is_moved, trial.task, before_m)


def _is_moved(task: str, before_m: float, robot: SimulatedRobot) -> bool:
    return moved_as_told(task, before_m, robot.opening_m)


def _as_told(task: str, opened_m: float) -> float:
    return opened_m if "-open" in task else -opened_m


def _outcome(
    trial: Trial, result: EpisodeResult, moved_m: float | None, policy: _Watched, disturbed_s: float | None
) -> Outcome:
    return Outcome.of(
        trial,
        success=result.success,
        steps=result.steps,
        stops=result.stops,
        latches=result.latches,
        clips=dict(result.clips),
        clipped_steps=result.clipped_steps,
        max_following_error_m=result.max_following_error_m,
        moved_m=moved_m,
        path_m=path_length(result.commanded_positions),
        smoothness=smoothness(result.commanded_positions, CONTROL_DT_S),
        inference_ms=tuple(policy.times_ms),
        surprises=tuple(policy.surprises),
        errors=tuple(policy.errors),
        glimpses=tuple(policy.glimpses),
        disturbed_s=disturbed_s,
        stopped_s=tuple(step * CONTROL_DT_S for step in result.stopped_at),
    )
