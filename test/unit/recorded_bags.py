"""Bags of a made-up robot, and of the simulated robot with a human who takes over, written without ROS."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from recorded_builders import Recording, at, small_contract
from rosbags.typesys import Stores, get_typestore

from vla_ros.bag_types import define
from vla_ros.bags import BagWriter, Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_state import GuardConfig, GuardState
from vla_ros.control.safety import Motion
from vla_ros.learning.recorded.commands import COMMANDED
from vla_ros.policy.oracle import create
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.simulated import SimState
from vla_ros.types import (
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    NS_PER_S,
    POSITION,
    QUATERNION,
    Frame,
    Now,
    Observation,
    Pose,
    Provenance,
    Sample,
    Twist,
    instruction_hash,
)

STORE = get_typestore(Stores.ROS2_JAZZY)
_CHUNK_MESSAGES = 100
EPOCH_NS = 1_700_000_000 * NS_PER_S


@dataclass(frozen=True, eq=False)
class Said:
    """A message before it is written. message: of rosbags."""

    topic: str
    received_ns: int
    message: Any


def make(kind: str, **fields: Any) -> Any:
    """A message of a type such as "std_msgs/msg/Bool"."""
    return STORE.types[kind](**fields)


def header(stamp_ns: int, frame: str = "base") -> Any:
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    stamp = make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def vector(kind: str, values: Iterable[float]) -> Any:
    return make(f"geometry_msgs/msg/{kind}", **dict(zip("xyzw", map(float, values), strict=False)))


def pose_stamped(pose: Pose, stamp_ns: int, frame: str = "base") -> Any:
    inner = make(
        "geometry_msgs/msg/Pose",
        position=vector("Point", pose.position),
        orientation=vector("Quaternion", pose.quaternion),
    )
    return make("geometry_msgs/msg/PoseStamped", header=header(stamp_ns, frame), pose=inner)


def twist_stamped(twist: Twist, stamp_ns: int) -> Any:
    inner = make(
        "geometry_msgs/msg/Twist", linear=vector("Vector3", twist.linear), angular=vector("Vector3", twist.angular)
    )
    return make("geometry_msgs/msg/TwistStamped", header=header(stamp_ns), twist=inner)


def joint_state(names: Iterable[str], positions: Any, stamp_ns: int) -> Any:
    none = np.zeros(0)
    return make(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns, ""),
        name=list(names),
        position=np.asarray(positions, np.float64),
        velocity=none,
        effort=none,
    )


def image(pixels: Any, stamp_ns: int) -> Any:
    rows, columns, _ = pixels.shape
    return make(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns, "camera"),
        height=rows,
        width=columns,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * columns,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def text(words: str) -> Any:
    return make("std_msgs/msg/String", data=words)


def boolean(value: bool) -> Any:
    return make("std_msgs/msg/Bool", data=value)


def write_bag(folder: Path, said: Iterable[Said], without: Iterable[str] = ()) -> Path:
    """In the order of reception, in small chunks. without: topics that are not recorded."""
    writer = BagWriter(folder)
    for number, one in enumerate(sorted(said, key=lambda one: one.received_ns)):
        kind = one.message.__msgtype__
        if one.topic in without:
            continue
        if one.topic not in writer.counts:
            writer.add_topic(one.topic, define(kind))
        writer.write(Message(one.topic, one.received_ns, bytes(STORE.serialize_cdr(one.message, kind))))
        if number % _CHUNK_MESSAGES == 0:
            writer.flush()
    writer.close()
    return folder


def said_by(recording: Recording, told: Sequence[tuple[float, str]] = ()) -> Iterator[Said]:
    """A made-up recording as messages: with guard/trace, and with the topics that the robot obeys.

    told: instructions, and when they were given [s].
    """
    waiting = [Said("/command", at(seconds), text(words)) for seconds, words in told]
    instruction = None
    yield from waiting
    for sample in recording.samples():
        stamp_ns, value = sample.stamp_ns or 0, sample.value
        if sample.channel == COMMANDED:
            heard = [one.message.data for one in waiting if one.received_ns <= stamp_ns]
            waiting, instruction = waiting[len(heard) :], heard[-1] if heard else instruction
            yield from commanded(value.motion, value.source.value, stamp_ns, sample.received_ns, instruction)
        elif isinstance(value, Frame):
            topic = small_contract().cameras[sample.channel.removeprefix("camera/")].topic
            yield Said(f"/{topic}", sample.received_ns, image(value.pixels, stamp_ns))
        elif isinstance(value, Pose):
            yield Said("/ee_pose", sample.received_ns, pose_stamped(value, stamp_ns))
        else:
            yield Said("/joint_states", sample.received_ns, joint_state(value.names, value.positions, stamp_ns))


def commanded(
    motion: Motion | None, source: str, stamp_ns: int, received_ns: int, instruction: str | None = None
) -> Iterator[Said]:
    """A tick of the guard: what the robot hears, and its trace."""
    trace: dict[str, Any] = {
        "tick": 1,
        "ros_ns": stamp_ns,
        "steady_ns": stamp_ns,
        "inputs": [],
        "shadow": False,
        "instruction": instruction,
        "mode": "armed",
        "source": source,
        "text": f"{source} in command",
        "clips": [],
        "reobserve_after_ns": -1,
        "command": None,
    }
    yield Said("/teleop/deadman", received_ns - 1, boolean(source == "teleop"))
    if motion is not None:
        trace["command"] = {
            "position": motion.pose.position.tolist(),
            "quaternion": motion.pose.quaternion.tolist(),
            "linear": motion.twist.linear.tolist(),
            "angular": motion.twist.angular.tolist(),
            "gripper": motion.gripper,
        }
        yield from outputs(motion, stamp_ns, received_ns)
    yield Said("/guard/trace", received_ns, text(json.dumps(trace)))


def with_instruction(one: Said, instruction: str) -> Said:
    """The same, if it is a trace, of a guard that knows of an instruction."""
    if one.topic != "/guard/trace":
        return one
    return replace(one, message=text(json.dumps({**json.loads(one.message.data), "instruction": instruction})))


def outputs(motion: Motion, stamp_ns: int, received_ns: int) -> Iterator[Said]:
    """What the robot's driver hears."""
    if motion.gripper is not None:
        yield Said("/gripper_command", received_ns, make("std_msgs/msg/Float64", data=motion.gripper))
    yield Said("/target_pose", received_ns, pose_stamped(motion.pose, stamp_ns))
    yield Said("/target_twist", received_ns, twist_stamped(motion.twist, stamp_ns))


def takeover_in_simulation(task: str, contract: Contract, ticks: int, human: range) -> Iterator[Said]:
    """The oracle drives the simulated robot behind the guard; at some ticks a human lifts the hand instead."""
    robot, oracle, sentence = SimRobot(task), create(contract, {}), load_sentences().usual(task)
    guard, last, told = GuardState(), None, [Sample(channels.COMMAND, sentence, None, 0), _ARM]
    for tick in range(ticks):
        state = robot.state()
        now_ns = EPOCH_NS + state.time_ns
        yield from _seen(robot, state, now_ns, tick, contract)
        if tick == 0:
            yield Said("/command", now_ns, text(sentence))
        inputs = [*_heard(state, now_ns), *told, *_by_policy(oracle, state, last, sentence, now_ns)]
        if tick in human:
            yield Said("/teleop/deadman", now_ns, boolean(True))
            inputs += _by_human(now_ns)
        elif tick == human.stop:
            yield Said("/teleop/deadman", now_ns, boolean(False))
            inputs.append(Sample(channels.TELEOP_DEADMAN, False, None, now_ns))
        told = []
        last = guard_step(guard, [_received(one, now_ns) for one in inputs], Now(now_ns, now_ns), GuardConfig(contract))
        guard = last.state
        yield Said("/guard/trace", now_ns + 1, text(json.dumps(last.trace)))
        yield Said("/sim/success", now_ns, boolean(robot.success))
        if last.command is not None:
            yield from outputs(last.command, now_ns, now_ns)
        command = last.command
        opening = command.gripper if command is not None else None
        goal = state.commanded if command is None else command.pose
        robot.step(goal.position, 0.5 if opening is None else opening)


_ARM: Sample[Any] = Sample(channels.ARM, True, None, 0)


def _received(sample: Sample[Any], now_ns: int) -> Sample[Any]:
    return replace(sample, received_ns=now_ns)


def _seen(robot: SimRobot, state: SimState, now_ns: int, tick: int, contract: Contract) -> Iterator[Said]:
    yield Said("/ee_pose", now_ns, pose_stamped(state.pose, now_ns))
    yield Said("/joint_states", now_ns, joint_state(state.joints.names, state.joints.positions, now_ns))
    if tick % 8 == 0:
        for view, pixels in robot.render().items():
            yield Said(f"/{contract.cameras[view].topic}", now_ns, image(pixels, now_ns))


def _heard(state: SimState, now_ns: int) -> list[Sample[Any]]:
    return [
        Sample(channels.EE_POSE, state.pose, now_ns, now_ns),
        Sample(channels.JOINT_STATES, state.joints, now_ns, now_ns),
    ]


def _by_policy(oracle: Any, state: SimState, last: GuardResult | None, sentence: str, now_ns: int) -> list[Sample[Any]]:
    commanded = state.commanded if last is None or last.commanded_pose is None else last.commanded_pose
    observation = Observation(
        now_ns, sentence, {}, state.pose, commanded, state.joints.positions, 0.5, state.privileged
    )
    row = oracle.predict(observation).rows[1]
    parts = {
        channels.POLICY_POSE: Pose(row[POSITION], row[QUATERNION]),
        channels.POLICY_TWIST: Twist(row[LINEAR_VELOCITY], row[ANGULAR_VELOCITY]),
        channels.POLICY_GRIPPER: float(row[GRIPPER]),
        channels.POLICY_PROVENANCE: Provenance(instruction_hash(sentence), now_ns),
    }
    return [Sample(name, value, now_ns, now_ns) for name, value in parts.items()]


def _by_human(now_ns: int) -> list[Sample[Any]]:
    return [
        Sample(channels.TELEOP_DEADMAN, True, None, now_ns),
        Sample(channels.TELEOP_TWIST, Twist(np.array([0.0, 0.0, 0.1]), np.zeros(3)), now_ns, now_ns),
    ]
