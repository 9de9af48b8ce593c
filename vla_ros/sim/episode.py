"""One task from start to success in one process: the simulated robot, a policy, and between them the decision path.

`run_direct` lets the policy drive the bare robot, without limits: what the policy can do at best. `run_episode` puts
the same policy behind `policy_tick` and `guard_step`, as the nodes do, in simulated time. The difference is what the
loop costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_state import GuardConfig, GuardState, stops_in
from vla_ros.control.joining import PARTS, taken_apart
from vla_ros.control.policy_state import PolicyConfig, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.control.safety import Motion
from vla_ros.errors import VlaRosError
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.protocol import Policy
from vla_ros.sim.disturbances import Intruder, Nobody
from vla_ros.sim.simulated import SimState, SimulatedRobot
from vla_ros.types import (
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    POSITION,
    QUATERNION,
    ChunkReply,
    FailureReply,
    FloatArray,
    Frame,
    ImageArray,
    Now,
    Observation,
    Pose,
    Request,
    Sample,
    Twist,
)

Samples = tuple[Sample[Any], ...]


@dataclass(frozen=True)
class EpisodeResult:
    """steps: of 12.5 ms, to success or to the end; stops: motions that the guard interrupted (`stops_in`); latches: 0
    or 1; stopped_at: the steps of these.

    clips: how often each limit acted; clipped_steps: steps on which any did.
    max_following_error_m: largest distance between the commanded and the measured hand.
    commanded_positions: (steps, 3) [m] in the base frame, what the robot was told at each step; (0, 3) of `run_direct`.
    """

    success: bool
    steps: int
    stops: int = 0
    latches: int = 0
    stopped_at: tuple[int, ...] = ()
    clips: Mapping[str, int] = field(default_factory=dict)
    clipped_steps: int = 0
    max_following_error_m: float = 0.0
    commanded_positions: FloatArray = field(default_factory=lambda: np.zeros((0, 3)), compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class _Setup:
    policy: Policy
    contract: Contract
    inference_ticks: int
    transport_ticks: int


@dataclass(frozen=True, eq=False)
class _Loop:
    """What passes from one tick to the next. mail: what is under way, with the tick at which it arrives."""

    policy: PolicyState
    guard: GuardState
    result: EpisodeResult
    mail: tuple[tuple[int, Sample[Any]], ...] = ()


def run_direct(robot: SimulatedRobot, policy: Policy, instruction: str, max_steps: int) -> EpisodeResult:
    """Drive the bare robot by the second row of a new plan at every step: no delay, no limits, no guard."""
    gripper = 0.5
    for step in range(1, max_steps + 1):
        state = robot.state()
        images = robot.render() if policy.needs.views else {}
        observation = Observation(
            t_obs_ns=state.time_ns,
            instruction=instruction,
            images={view: images[view] for view in policy.needs.views},
            ee_pose=state.pose,
            commanded_pose=state.commanded,
            joint_positions=state.joints.positions,
            gripper=gripper,
            privileged=state.privileged,
        )
        row = policy.predict(observation).rows[1]
        gripper = float(row[GRIPPER])
        robot.step(robot.command_of(_motion(row)), gripper)
        if robot.success:
            return EpisodeResult(True, step)
    return EpisodeResult(False, max_steps)


def is_solved(robot: SimulatedRobot) -> bool:
    """Whether the robot's task is solved, as its simulation says."""
    return robot.success


def run_episode(
    robot: SimulatedRobot,
    policy: Policy,
    contract: Contract,
    instruction: str,
    max_steps: int,
    inference_ticks: int = 1,
    transport_ticks: int = 1,
    is_done: Callable[[SimulatedRobot], bool] = is_solved,
    intruder: Intruder | None = None,
) -> EpisodeResult:
    """Arm, give the instruction, and let the decision path drive the robot until it is done, or to the end.

    inference_ticks: from a request to its reply, at least 1; transport_ticks: from the policy's tick to the guard's.
    Time is the robot's own, counted from here, so that nothing depends on what the robot did before; both nodes tick
    once per step, so the contract's rates must be 80 Hz. What the policy raises on purpose is a failed reply, as over
    ROS; anything else passes. intruder: who disturbs it, nobody unless given.
    """
    intruder = intruder or Nobody()
    setup = _Setup(policy, contract, inference_ticks, transport_ticks)
    loop = _Loop(PolicyState(), GuardState(), EpisodeResult(False, 0))
    began_ns = robot.state().time_ns
    told_positions: list[FloatArray] = []
    for step in range(max_steps):
        state = robot.state()
        state = replace(state, time_ns=state.time_ns - began_ns)
        told = _at_start(instruction, state.time_ns) if step == 0 else ()
        frames = _frames(robot, policy, contract, state, step, intruder)
        loop, motion = _tick(loop, (*_feedback(state), *frames, *told), step, setup)
        told_positions.append(_obey(robot, motion, state))
        intruder.act(robot, step)
        if is_done(robot):
            return _ended(loop.result, True, told_positions)
    return _ended(loop.result, False, told_positions)


def _ended(result: EpisodeResult, success: bool, told_positions: list[FloatArray]) -> EpisodeResult:
    positions = np.array(told_positions).reshape(-1, 3)
    return replace(result, success=success, steps=len(positions), commanded_positions=positions)


def _tick(loop: _Loop, seen: Samples, step: int, setup: _Setup) -> tuple[_Loop, Motion | None]:
    """The policy node's tick, then the guard's, at one instant."""
    now = Now(seen[0].received_ns, seen[0].received_ns)
    arrived, mail = _delivered(loop.mail, (channels.WORKER, channels.COMMANDED_POSE), step, now)
    decided = policy_tick(loop.policy, (*seen, *arrived), now, PolicyConfig(setup.contract, setup.policy.needs))
    if decided.request is not None:
        reply = Sample(channels.WORKER, _answer(setup.policy, decided.request), None, now.steady_ns)
        mail = (*mail, (step + setup.inference_ticks, reply))
    if decided.output is not None:
        parts = taken_apart(decided.output, now.steady_ns)
        mail = (*mail, *((step + setup.transport_ticks, part) for part in parts))

    arrived, mail = _delivered(mail, PARTS, step, now)
    guarded = guard_step(loop.guard, (*seen, *arrived), now, GuardConfig(setup.contract))
    if guarded.commanded_pose is not None:
        sample = Sample(channels.COMMANDED_POSE, guarded.commanded_pose, now.ros_ns, now.steady_ns)
        mail = (*mail, (step + 1, sample))
    result = _count(loop.result, guarded, seen[0].value, step)
    return _Loop(decided.state, guarded.state, result, mail), guarded.command


def _delivered(
    mail: tuple[tuple[int, Sample[Any]], ...], addressed: tuple[str, ...], step: int, now: Now
) -> tuple[Samples, tuple[tuple[int, Sample[Any]], ...]]:
    """Split off what arrives now on some channels."""
    due = [(at, sample) for at, sample in mail if at <= step and sample.channel in addressed]
    arrived = tuple(replace(sample, received_ns=now.steady_ns) for _, sample in due)
    return arrived, tuple((at, sample) for at, sample in mail if at > step or sample.channel not in addressed)


def _at_start(instruction: str, now_ns: int) -> Samples:
    return (
        Sample(channels.COMMAND, instruction, None, now_ns),
        Sample(channels.ARM, True, None, now_ns),
    )


def _feedback(state: SimState) -> Samples:
    values = {
        channels.EE_POSE: state.pose,
        channels.EE_TWIST: state.twist,
        channels.JOINT_STATES: state.joints,
        channels.PRIVILEGED: state.privileged,
    }
    return tuple(Sample(name, value, state.time_ns, state.time_ns) for name, value in values.items())


def _frames(
    robot: SimulatedRobot, policy: Policy, contract: Contract, state: SimState, step: int, intruder: Intruder
) -> Samples:
    """The views that the policy needs, at the contract's rate; nothing on the steps between."""
    samples = []
    images: Mapping[str, ImageArray] | None = None
    for view in policy.needs.views:
        if step % max(1, round(1.0 / (contract.cameras[view].rate_hz * CONTROL_DT_S))) == 0:
            images = images if images is not None else intruder.show(robot.render(), step)
            frame = Frame(images[view], "rgb8")
            samples.append(Sample(channels.camera(view), frame, state.time_ns, state.time_ns))
    return tuple(samples)


def _answer(policy: Policy, request: Request) -> ChunkReply | FailureReply:
    """What the policy's worker would reply."""
    asked_ns = request.observation.t_obs_ns
    try:
        chunk = policy.predict(request.observation)
    except VlaRosError as error:
        return FailureReply(request.id, b"", asked_ns, asked_ns, str(error))
    return ChunkReply(request.id, b"", asked_ns, asked_ns, chunk, 0.0)


def _obey(robot: SimulatedRobot, motion: Motion | None, state: SimState) -> FloatArray:
    """What the robot's driver does: the command, or to stay. -> the commanded position, (3,)"""
    gripper = None if motion is None else motion.gripper
    command = robot.holding() if motion is None else robot.command_of(motion)
    robot.step(command, 0.5 if gripper is None else gripper)
    return state.commanded.position if motion is None else motion.pose.position


def _motion(row: FloatArray) -> Motion:
    """A row of a plan as a command. (14,)"""
    twist = Twist(row[LINEAR_VELOCITY], row[ANGULAR_VELOCITY])
    return Motion(Pose(row[POSITION], row[QUATERNION]), twist, float(row[GRIPPER]))


def _count(result: EpisodeResult, guarded: GuardResult, measured: Pose, step: int) -> EpisodeResult:
    after = guarded.state
    stops, latches = stops_in(after.counts), after.counts.get("latches", 0)
    is_stopped = stops + latches > result.stops + result.latches
    counts = dict(result.clips)
    for clip in guarded.clips:
        counts[clip] = counts.get(clip, 0) + 1
    return replace(
        result,
        stops=stops,
        latches=latches,
        stopped_at=(*result.stopped_at, step) if is_stopped else result.stopped_at,
        clips=counts,
        clipped_steps=result.clipped_steps + bool(guarded.clips),
        max_following_error_m=max(result.max_following_error_m, _following_error(after.motion, measured)),
    )


def _following_error(motion: Motion | None, measured: Pose) -> float:
    return 0.0 if motion is None else float(np.linalg.norm(motion.pose.position - measured.position))
