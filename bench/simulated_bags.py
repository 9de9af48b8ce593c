"""Bags of a network at work on the simulated robot, as a recorder leaves them, made in one process in simulated time.

Policy and guard decide tick by tick as their nodes do, hear each other one tick later, and leave their traces; what
they heard is recorded beside. So there are bags on a machine that is too busy for a graph in real time, and of scenes
that the sim node does not make, such as drawers that start half open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from vla_ros.bag_types import define
from vla_ros.bags import BagWriter, Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_state import GuardConfig, GuardState
from vla_ros.control.joining import taken_apart
from vla_ros.control.policy_state import PolicyConfig, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.errors import PolicyError
from vla_ros.learning.demonstration import moved_as_told
from vla_ros.learning.evaluation.trials import Trial
from vla_ros.policy import messages
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.protocol import Policy
from vla_ros.policy.worker import answer
from vla_ros.replay.bag_messages import POSE, Builder
from vla_ros.sim.robot import SimRobot
from vla_ros.types import NS_PER_S, ChunkReply, Frame, JointState, Json, Now, Request, Sample

_STEP_NS = round(CONTROL_DT_S * NS_PER_S)
_ROS_NS, _STEADY_NS = 1_700_000_000 * NS_PER_S, 5 * NS_PER_S
_FRAME_STEPS = 8
_AFTER_SUCCESS_STEPS = 40
_IMAGE, _STRING, _JOINTS = "sensor_msgs/msg/Image", "std_msgs/msg/String", "sensor_msgs/msg/JointState"


@dataclass(frozen=True, eq=False)
class Driver:
    """Who drives the robot: a policy, by the name that its node knows it by. latency_steps: of its answers."""

    name: str
    policy: Policy
    latency_steps: int = 1


def record(output: Path, driver: Driver, contract: Contract, trial: Trial, steps: int) -> bool:
    """One episode as a bag; returns whether it succeeded. Ends half a second after success, or after so many steps."""
    solved_at = steps
    with SimRobot(trial.world, trial.variation) as robot:
        robot.reset(trial.world, trial.variation, trial.scene)
        before_m = None if trial.scene.opening is None else robot.opening_m
        run = _Run(driver, contract, robot, _Writer(output, contract))
        for step in range(steps):
            run.step(step, trial.sentence if step == 0 else None)
            solved_at = min(solved_at, step if _is_done(trial, robot, before_m) else steps)
            if step >= solved_at + _AFTER_SUCCESS_STEPS:
                break
        run.writer.close()
    return solved_at < steps


def _is_done(trial: Trial, robot: SimRobot, before_m: float | None) -> bool:
    """As Meta-World says, or, from half open, when the thing has been moved as told."""
    return robot.success if before_m is None else moved_as_told(trial.task, before_m, robot.opening_m)


@dataclass(eq=False)
class _Run:
    """Policy, guard and robot. mail: what is under way to one of them, with the step at which it is heard."""

    driver: Driver
    contract: Contract
    robot: SimRobot
    writer: _Writer
    policy: PolicyState = field(default_factory=PolicyState)
    guard: GuardState = field(default_factory=GuardState)
    mail: list[tuple[int, bool, Sample[Any]]] = field(default_factory=list)

    def step(self, step: int, sentence: str | None) -> None:
        """One tick of both, and one step of the robot. sentence: what is said now; the guard is armed with it."""
        now = Now(_ROS_NS + step * _STEP_NS, _STEADY_NS + step * _STEP_NS)
        seen = list(self._seen(step, now))
        said = [] if sentence is None else [Sample[Any](channels.COMMAND, sentence, None, now.steady_ns)]
        self.writer.write([*seen, *said], now)
        self._tick_policy(step, [*seen, *said], now)
        armed = [Sample[Any](channels.ARM, True, None, now.steady_ns) for _ in said]
        self._tick_guard(step, [*seen, *said, *armed], now)

    def _seen(self, step: int, now: Now) -> Iterator[Sample[Any]]:
        state, about = self.robot.state(), (now.ros_ns, now.steady_ns)
        yield Sample(channels.EE_POSE, state.pose, *about)
        yield Sample(channels.JOINT_STATES, state.joints, *about)
        if step % _FRAME_STEPS == 0:
            for view, pixels in self.robot.render().items():
                yield Sample(channels.camera(view), Frame(pixels, "rgb8"), *about)

    def _tick_policy(self, step: int, heard: Sequence[Sample[Any]], now: Now) -> None:
        config = PolicyConfig(self.contract, self.driver.policy.needs)
        views = [channels.camera(view) for view in self.driver.policy.needs.views]
        listened = [one for one in heard if one.channel in views or not one.channel.startswith("camera/")]
        decided = policy_tick(self.policy, (*self._arrived(step, False, now), *listened), now, config)
        self.policy = decided.state
        self.writer.trace("policy/trace", decided.trace, now)
        if decided.request is not None:
            reply = Sample[Any](channels.WORKER, self._answer(decided.request, now), None, 0)
            self.mail.append((step + self.driver.latency_steps, False, reply))
        parts = () if decided.output is None else taken_apart(decided.output, now.steady_ns)
        self.mail += [(step + 1, True, part) for part in parts]

    def _tick_guard(self, step: int, heard: Sequence[Sample[Any]], now: Now) -> None:
        deaf = [one for one in heard if not one.channel.startswith("camera/")]
        guarded = guard_step(self.guard, (*deaf, *self._arrived(step, True, now)), now, GuardConfig(self.contract))
        self.guard = guarded.state
        self.writer.trace("guard/trace", guarded.trace, now)
        if guarded.commanded_pose is not None:
            told = Sample[Any](channels.COMMANDED_POSE, guarded.commanded_pose, now.ros_ns, now.steady_ns)
            self.writer.write([told], now)
            self.mail.append((step + 1, False, told))
        command = guarded.command
        goal = self.robot.state().commanded if command is None else command.pose
        opening = None if command is None else command.gripper
        self.robot.step(goal.position, 0.5 if opening is None else opening)

    def _arrived(self, step: int, to_guard: bool, now: Now) -> list[Sample[Any]]:
        due = [one for at, to, one in self.mail if at <= step and to is to_guard]
        self.mail = [entry for entry in self.mail if entry[0] > step or entry[1] is not to_guard]
        return [replace(one, received_ns=now.steady_ns) for one in due]

    def _answer(self, request: Request, now: Now) -> ChunkReply:
        payload = messages.encode_observation(request.observation)
        said = messages.decode_answer(answer(self.driver.name, self.driver.policy, payload))
        if not isinstance(said, messages.Plan):
            raise PolicyError(f"the policy that is recorded has no plan: {said}")
        took_ns = self.driver.latency_steps * _STEP_NS
        return ChunkReply(request.id, payload, now.steady_ns, now.steady_ns + took_ns, said.chunk, took_ns / NS_PER_S)


class _Writer:
    """Samples and traces as messages of a bag, received when they were sent."""

    def __init__(self, output: Path, contract: Contract) -> None:
        self._bag, self._contract, self._builder = BagWriter(output), contract, Builder(contract.frames.base)
        self._store: Any = get_typestore(Stores.ROS2_JAZZY)

    def write(self, samples: Sequence[Sample[Any]], now: Now) -> None:
        for sample in samples:
            self._put(*self._message(sample, now.ros_ns), now.ros_ns)

    def trace(self, topic: str, trace: Json, now: Now) -> None:
        line = json.dumps(trace, separators=(",", ":"), allow_nan=False)
        self._put(topic, _STRING, self._serialized(_STRING, data=line), now.ros_ns + 1)

    def close(self) -> None:
        self._bag.close()

    def _message(self, sample: Sample[Any], stamp_ns: int) -> tuple[str, str, bytes]:
        contract, value = self._contract, sample.value
        if sample.channel == channels.COMMAND:
            return channels.COMMAND, _STRING, self._serialized(_STRING, data=value)
        if isinstance(value, Frame):
            camera = contract.cameras[sample.channel.removeprefix("camera/")]
            return camera.topic, _IMAGE, self._image(value, stamp_ns)
        if isinstance(value, JointState):
            return contract.feedback.joint_states.topic, _JOINTS, self._joints(value, stamp_ns)
        topic = contract.feedback.ee_pose.topic if sample.channel == channels.EE_POSE else channels.COMMANDED_POSE
        return topic, POSE, self._builder.pose(value, stamp_ns)

    def _put(self, topic: str, kind: str, data: bytes, received_ns: int) -> None:
        name = f"/{topic}"
        if name not in self._bag.counts:
            self._bag.add_topic(name, define(kind))
        self._bag.write(Message(name, received_ns, data))

    def _image(self, frame: Frame, stamp_ns: int) -> bytes:
        rows, columns, _ = frame.pixels.shape
        size = {"height": rows, "width": columns, "step": 3 * columns}
        data = np.ascontiguousarray(frame.pixels).reshape(-1)
        about = {"header": self._header(stamp_ns), "encoding": "rgb8", "is_bigendian": 0}
        return self._serialized(_IMAGE, **about, **size, data=data)

    def _joints(self, joints: JointState, stamp_ns: int) -> bytes:
        positions, none = np.asarray(joints.positions, np.float64), np.zeros(0)
        values = {"name": list(joints.names), "position": positions, "velocity": none, "effort": none}
        return self._serialized(_JOINTS, header=self._header(stamp_ns), **values)

    def _header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
        stamp = self._store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        return self._store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")

    def _serialized(self, kind: str, **fields: Any) -> bytes:
        return bytes(self._store.serialize_cdr(self._store.types[kind](**fields), kind))
