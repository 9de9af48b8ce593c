"""One demonstration of a base: the scripted driver goes to a thing, now and then pushed off its way, and is recorded.

As in `demonstration`, what is executed is noisy and what is recorded is clean. The noise is at the wheels, each pushed
as fast as it comes, so that it turns the base as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import Limits
from vla_ros.images import encode
from vla_ros.learning.demonstration import LAG_STEPS, Bursts, Demonstration, Take, Tape, no_grasp, state_row
from vla_ros.learning.targets import VIEW, VISIBLE_PX
from vla_ros.policy.driving import NO_GRIPPER, THINGS, Drive, Phase, decide, heading_of, quaternion_of, thing_of
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.sim.base import TRACK_M, BaseRobot
from vla_ros.sim.robots import BASE
from vla_ros.sim.simulated import SimState
from vla_ros.types import ACTION_WIDTH, ANGULAR_VELOCITY, GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, FloatArray

FPS = 10
STEPS_PER_FRAME = round(1.0 / (FPS * CONTROL_DT_S))
SUBTASKS = tuple(phase.value for phase in Phase)
_FRAMES_AFTER_SUCCESS = 10
_REDIRECTED_AFTER_S = (0.5, 8.0)
_FROM_WHEELS = np.array([[0.5, 0.5], [-1.0 / TRACK_M, 1.0 / TRACK_M]])  # left and right wheel [m/s] -> forward, turning


@dataclass(eq=False)
class _WheelBursts(Bursts):
    push: FloatArray = field(default_factory=lambda: np.zeros(2))

    def _draw(self) -> None:
        wheels_m_s = self.rng.uniform(*self.noise.speed_m_s, 2) * self.rng.choice([-1.0, 1.0], 2)
        self.push = _FROM_WHEELS @ wheels_m_s


@dataclass(frozen=True, eq=False)
class _Step:
    phase: Phase
    twist: FloatArray  # (6,), clean, in the fixed frame
    is_perturbed: bool


@dataclass(eq=False)
class _Run:
    """motion: (2,), forward [m/s] and turning [rad/s], as commanded last."""

    robot: BaseRobot
    thing: int
    limits: Limits
    bursts: _WheelBursts
    motion: FloatArray = field(default_factory=lambda: np.zeros(2))
    steps: int = 0
    seen: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=LAG_STEPS + 1))

    def redirect(self, task: str, after_s: float) -> None:
        """Drive on for so long, of which nothing is recorded, and be told something else."""
        for _ in range(round(after_s / CONTROL_DT_S)):
            self._step()
        self.robot.send_to(task)
        self.thing = thing_of(task)

    def record_frame(self, tape: Tape) -> None:
        """One frame and the steps up to the next."""
        state = self.robot.state()
        for view, image in self.robot.render().items():
            tape.images.setdefault(view, []).append(encode(image, "png").pixels.tobytes())
        visible = self.robot.visible(VIEW)
        steps = [self._step() for _ in range(STEPS_PER_FRAME)]
        tape.add(
            observation__state=state_row(state, NO_GRIPPER),
            observation__environment_state=state.privileged.astype(np.float32),
            action=_action_row(state, np.mean([step.twist for step in steps], axis=0)),
            subtask=np.array(list(Phase).index(steps[0].phase)),
            is_perturbed=np.array(any(step.is_perturbed for step in steps)),
            label__visible=np.array([visible.get(thing, 0) >= VISIBLE_PX for thing in THINGS]),
            next__success=np.array(self.robot.success),
        )

    def _step(self) -> _Step:
        state = self.robot.state()
        self.seen.append(state.privileged)
        drive = decide(self.seen[0], self.thing)
        clean = self._limited(_motion(drive))
        is_perturbed = self.bursts.active(self.steps)
        executed = self._limited(0.5 * clean + self.bursts.push) if is_perturbed else clean
        heading_rad = heading_of(state.pose.quaternion)
        self.robot.step(_twist(executed, heading_rad), NO_GRIPPER)
        self.motion, self.steps = executed, self.steps + 1
        return _Step(drive.phase, _twist(clean, heading_rad), is_perturbed)

    def _limited(self, wanted: FloatArray) -> FloatArray:
        """As the guard would let it pass. (2,) -> (2,)"""
        limits = self.limits
        most = np.array([limits.max_linear_velocity_m_s, limits.max_angular_velocity_rad_s])
        change = np.array([limits.max_linear_acceleration_m_s2, limits.max_angular_acceleration_rad_s2]) * CONTROL_DT_S
        limited: FloatArray = np.clip(np.clip(wanted, -most, most), self.motion - change, self.motion + change)
        return limited


def demonstrate_driving(robot: BaseRobot, take: Take, limits: Limits) -> Demonstration:
    """Run the driver from a reset until a little after success, or to the end. Raises SimError, PolicyError.

    Where another task is done than the room's own the base sets out for the room's thing, and is told of the other one
    on its way: who imitates it must not take what stands ahead for what is meant.
    """
    rng = np.random.default_rng((take.seed, take.variation.index))
    robot.reset(take.world, take.variation, take.scene)
    tape, frames_left = Tape(), _FRAMES_AFTER_SUCCESS
    run = _Run(robot, thing_of(take.world), limits, _WheelBursts(take.noise, rng))
    if take.task != take.world:
        run.redirect(take.task, rng.uniform(*_REDIRECTED_AFTER_S))
    for _ in range(BASE.horizon // STEPS_PER_FRAME):
        run.record_frame(tape)
        frames_left -= robot.success
        if frames_left == 0:
            break
    columns = {name: np.stack(values) for name, values in tape.rows.items()}
    subtasks = tuple(SUBTASKS[int(phase)] for phase in columns.pop("subtask")[:, 0])
    return Demonstration(take, robot.success, tape.images, columns | no_grasp(len(subtasks)), subtasks)


def _motion(drive: Drive) -> FloatArray:
    return np.array([drive.forward_m_s, drive.turn_rad_s])


def _twist(motion: FloatArray, heading_rad: float) -> FloatArray:
    """In the fixed frame. (2,) -> (6,)"""
    return np.array([motion[0] * np.cos(heading_rad), motion[0] * np.sin(heading_rad), 0.0, 0.0, 0.0, motion[1]])


def _action_row(state: SimState, twist: FloatArray) -> NDArray[np.float32]:
    """Where the commanded pose should be at the next frame, and how it gets there. -> (14,)"""
    row = np.zeros(ACTION_WIDTH, np.float32)
    row[POSITION] = state.commanded.position + twist[:3] / FPS
    row[QUATERNION] = quaternion_of(heading_of(state.commanded.quaternion) + twist[5] / FPS)
    row[LINEAR_VELOCITY], row[ANGULAR_VELOCITY] = twist[:3], twist[3:]
    row[GRIPPER] = NO_GRIPPER
    return row
