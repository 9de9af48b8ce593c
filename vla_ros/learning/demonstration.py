"""One demonstration: an expert drives the simulated robot, now and then pushed off its way, and is recorded.

What is executed is noisy, what is recorded as the action is the clean one: so the data shows how to recover (Laskey et
al., "DART: noise injection for robust imitation learning", 2017). The noise comes in bursts and is marked, because a
chunk of actions that reaches into a burst would be one that nobody carried out. The expert moves within the contract's
limits, and acts on what it saw two steps ago, as it would in the live loop: so what is learned can be carried out
behind the guard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import Limits
from vla_ros.images import encode
from vla_ros.learning.experts import Decider, Decision
from vla_ros.learning.remembering import expert_of
from vla_ros.learning.targets import VIEW, VISIBLE_PX
from vla_ros.policy.metaworld_action import CONTROL_DT_S, to_gripper, to_velocity
from vla_ros.sim.objects import THINGS
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.scenes import PLAIN, Scene
from vla_ros.sim.simulated import SimState
from vla_ros.sim.variations import Variation
from vla_ros.strict_values import NotNegative, Portion, Range
from vla_ros.types import ACTION_WIDTH, GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, FloatArray

FPS = 20
STEPS_PER_FRAME = round(1.0 / (FPS * CONTROL_DT_S))
MAX_STEPS = 500
MOVED_M = 0.05  # a drawer or window that began half open
_FRAMES_AFTER_SUCCESS = 6
_NO_FORCE = 0.5
LAG_STEPS = 2


@dataclass(frozen=True)
class Noise:
    """Bursts. rate_per_s: how many begin per second; the others bound what is drawn for each. start_m: how far the hand
    is moved away from where the task starts it, at most, along each axis.
    """

    rate_per_s: NotNegative = 0.8
    duration_s: Range = (0.05, 0.3)
    speed_m_s: Range = (0.1, 0.5)
    gripper_share: Portion = 0.15
    start_m: NotNegative = 0.08


NOISE = Noise()


@dataclass(frozen=True)
class Take:
    """What is to be demonstrated. task: what is done; world: the task whose world it is done in, usually the same."""

    task: str
    world: str
    variation: Variation
    seed: int
    scene: Scene = PLAIN
    noise: Noise = NOISE


@dataclass(frozen=True, eq=False)
class Demonstration:
    """images: view -> T PNG files; columns: name -> (T, width); subtasks: what each frame is a part of, in words."""

    take: Take
    success: bool
    images: Mapping[str, list[bytes]]
    columns: Mapping[str, NDArray[Any]]
    subtasks: tuple[str, ...]


@dataclass(eq=False)
class Tape:
    """What has been recorded so far: view -> PNG files, and column -> rows."""

    images: dict[str, list[bytes]] = field(default_factory=dict)
    rows: dict[str, list[NDArray[np.generic]]] = field(default_factory=dict)

    def add(self, **values: NDArray[np.generic]) -> None:
        """One row of each column; "__" stands for the "." of a column's name."""
        for name, value in values.items():
            self.rows.setdefault(name.replace("__", "."), []).append(np.atleast_1d(value))


@dataclass(eq=False)
class Bursts(ABC):
    """When the robot is pushed. Everything is drawn from one generator; subclasses draw how it is pushed."""

    noise: Noise
    rng: np.random.Generator
    until_step: int = -1

    def active(self, step: int) -> bool:
        """Whether there is one at this step; may begin one."""
        if step >= self.until_step and self.rng.random() < self.noise.rate_per_s * CONTROL_DT_S:
            self.until_step = step + round(self.rng.uniform(*self.noise.duration_s) / CONTROL_DT_S)
            self._draw()
        return step < self.until_step

    @abstractmethod
    def _draw(self) -> None:
        """How it is pushed from now on."""


@dataclass(eq=False)
class _HandBursts(Bursts):
    push: FloatArray = field(default_factory=lambda: np.zeros(3))
    gripper: float | None = None

    def _draw(self) -> None:
        direction = self.rng.normal(size=3)
        self.push = direction / np.linalg.norm(direction) * self.rng.uniform(*self.noise.speed_m_s)
        self.gripper = float(self.rng.random()) if self.rng.random() < self.noise.gripper_share else None


class Limiter:
    """Velocities as the guard would let them pass."""

    def __init__(self, limits: Limits) -> None:
        self._speed_m_s = limits.max_linear_velocity_m_s
        self._change_m_s = limits.max_linear_acceleration_m_s2 * CONTROL_DT_S

    def limit(self, wanted: FloatArray, previous: FloatArray) -> FloatArray:
        """wanted, previous: (3,) [m/s]. -> (3,)"""
        change = _shortened(wanted, self._speed_m_s) - previous
        return previous + _shortened(change, self._change_m_s)


def demonstrate(robot: SimRobot, take: Take, limits: Limits) -> Demonstration:
    """Run the expert from a reset until a little after success, or to the end. Raises SimError, LearningError."""
    rng = np.random.default_rng((take.seed, take.variation.index))
    robot.reset(take.world, take.variation, take.scene)
    _move_away(robot, rng, take.noise.start_m)
    tape, success_frame = Tape(), None
    expert = expert_of(take.task)
    run = _Run(robot, expert, Limiter(limits), _HandBursts(take.noise, rng), take)
    for frame in range(MAX_STEPS // STEPS_PER_FRAME):
        if run.is_done() and success_frame is None:
            success_frame = frame
        run.record_frame(tape)
        if success_frame is not None and frame >= success_frame + _FRAMES_AFTER_SUCCESS:
            break
    columns = {name: np.stack(values) for name, values in tape.rows.items()}
    subtasks = tuple(expert.subtasks[int(phase)] for phase in columns.pop("subtask")[:, 0])
    return Demonstration(take, success_frame is not None, tape.images, columns | _grasp(columns), subtasks)


@dataclass(eq=False)
class _Run:
    robot: SimRobot
    expert: Decider
    limiter: Limiter
    bursts: _HandBursts
    take: Take
    velocity: FloatArray = field(default_factory=lambda: np.zeros(3))
    gripper: float = _NO_FORCE
    steps: int = 0
    seen: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=LAG_STEPS + 1))
    started_m: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_m = self.robot.opening_m if self.take.scene.opening is not None else 0.0

    def is_done(self) -> bool:
        """The task's own success; or, where its world was opened by us, that the thing was moved all the way."""
        if self.take.scene.opening is None:
            return self.robot.success
        return moved_as_told(self.take.task, self.started_m, self.robot.opening_m)

    def record_frame(self, tape: Tape) -> None:
        """One frame and the steps up to the next."""
        state = self.robot.state()
        for view, image in self.robot.render().items():
            tape.images.setdefault(view, []).append(encode(image, "png").pixels.tobytes())
        seen, is_holding = self.robot.visible(VIEW), bool(self.robot.held())
        gripper_before = self.gripper
        steps = [self._step() for _ in range(STEPS_PER_FRAME)]
        velocity = np.mean([step.velocity for step in steps], axis=0)
        tape.add(
            observation__state=state_row(state, gripper_before),
            observation__environment_state=state.privileged[:39].astype(np.float32),
            action=_action_row(state, velocity, steps[0].gripper),
            subtask=np.array(steps[0].decision.phase),
            is_perturbed=np.array(any(step.is_perturbed for step in steps)),
            label__visible=np.array([seen.get(thing, 0) >= VISIBLE_PX for thing in THINGS]),
            next__success=np.array(self.is_done()),
            held=np.array(is_holding),
        )

    def _step(self) -> _Step:
        state = self.robot.state()
        self.seen.append(self.robot.observed_as(self.take.task))
        decision = self.expert.decide(self.seen[0])
        clean = self.limiter.limit(to_velocity(decision.action), self.velocity)
        clean_gripper = to_gripper(decision.action)
        is_perturbed = self.bursts.active(self.steps)
        executed, gripper = clean, clean_gripper
        if is_perturbed:
            executed = self.limiter.limit(0.5 * clean + self.bursts.push, self.velocity)
            gripper = clean_gripper if self.bursts.gripper is None else self.bursts.gripper
        self.robot.step(state.commanded.position + executed * CONTROL_DT_S, gripper)
        self.velocity, self.gripper = executed, gripper
        self.steps += 1
        return _Step(decision, clean, clean_gripper, is_perturbed)


@dataclass(frozen=True, eq=False)
class _Step:
    decision: Decision
    velocity: FloatArray
    gripper: float
    is_perturbed: bool


def moved_as_told(task: str, before_m: float, now_m: float) -> bool:
    """Whether a drawer or window has been moved at least 5 cm in the direction that the task's name says."""
    moved_m = now_m - before_m
    return (moved_m if "-open" in task else -moved_m) >= MOVED_M


def state_row(state: SimState, gripper: float) -> NDArray[np.float32]:
    """What a robot knows of itself: measured pose 7, commanded pose 7, gripper 1, joint positions. -> (15 + n,)"""
    measured, commanded = state.pose, state.commanded
    parts = (measured.position, measured.quaternion, commanded.position, commanded.quaternion, [gripper])
    return np.concatenate([*parts, state.joints.positions]).astype(np.float32)


def _action_row(state: SimState, velocity: FloatArray, gripper: float) -> NDArray[np.float32]:
    """Where the commanded pose should be at the next frame, and how it gets there. -> (14,)"""
    row = np.zeros(ACTION_WIDTH, np.float32)
    row[POSITION] = state.commanded.position + velocity / FPS
    row[QUATERNION] = state.commanded.quaternion
    row[LINEAR_VELOCITY] = velocity
    row[GRIPPER] = gripper
    return row


def _grasp(columns: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """In hindsight: where the hand was when both fingers first had hold of a thing, on all rows up to then."""
    held = columns.pop("held")[:, 0]
    labels = no_grasp(len(held))
    if held.any():
        first = int(held.argmax())
        labels["label.grasp_pose"][: first + 1] = columns["observation.state"][first, :7]
        labels["label.has_grasp"][: first + 1] = True
    return labels


def no_grasp(rows: int) -> dict[str, NDArray[Any]]:
    """The labels of an episode in which nothing is taken hold of."""
    poses = np.zeros((rows, 7), np.float32)
    poses[:, 6] = 1.0
    return {"label.grasp_pose": poses, "label.has_grasp": np.zeros((rows, 1), bool)}


def _move_away(robot: SimRobot, rng: np.random.Generator, most_m: float) -> None:
    """Another start for the hand; the gripper is left without force."""
    goal = robot.state().commanded.position + rng.uniform(-most_m, most_m, 3) * [1.0, 1.0, 0.6]
    for _ in range(round(most_m * 200)):
        robot.step(goal, _NO_FORCE)


def _shortened(vector: FloatArray, bound: float) -> FloatArray:
    size = float(np.linalg.norm(vector))
    return vector * (bound / size) if size > bound else vector
