"""Bags of a robot at rest that the policy `hold` keeps where it is, in any length, written without running a graph.

A short stretch is lived through tick by tick, with the nodes' own steps; what follows is the same, moved in time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from vla_ros.bag_types import define
from vla_ros.bags import BagWriter, Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_state import GuardConfig, GuardState
from vla_ros.control.joining import taken_apart
from vla_ros.control.policy_state import PolicyConfig, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.policy import messages as worker_messages
from vla_ros.policy.registry import create_policy
from vla_ros.policy.worker import answer
from vla_ros.replay.topics import GUARD_TRACE, POLICY_TRACE, full_name
from vla_ros.ros import image_messages, messages
from vla_ros.types import NS_PER_S, ChunkReply, Frame, JointState, Now, Pose, Request, Sample

# As today's, so that the stamps are told from all other numbers of a trace by their length.
_ROS_NS, _STEADY_NS = 1_700_000_000 * NS_PER_S, 500_000_000 * NS_PER_S
_INSTANT = re.compile(rb"(?<![\d.])\d{18,19}(?![\d.])")
_COUNT = re.compile(rb'"(tick|id|in_flight)":(\d+)')
_SENTENCE = "hold still"
_POLICY_NS, _GUARD_NS, _LATENCY_NS = 2_000_000, 5_000_000, 20_000_000
_UPRIGHT = np.array([0.0, 1.0, 0.0, 0.0])
_PICTURES = 16


@dataclass(frozen=True)
class _Stretch:
    """What was recorded: serialized, by type. ticks: of each node; asked: requests to the policy."""

    messages: Sequence[Message]
    types: dict[str, str]
    seconds: int
    ticks: int
    asked: int


def write_bags(folder: Path, contract: Contract, lengths_s: dict[str, int], stretch_s: int, with_traces: bool) -> None:
    """A bag for each name, so many seconds long, which are multiples of stretch_s. with_traces: of policy and guard."""
    stretch = _Life(contract).stretch(stretch_s)
    for name, length_s in lengths_s.items():
        writer = BagWriter(folder / name)
        for topic, kind in stretch.types.items():
            if with_traces or topic not in _traces():
                writer.add_topic(topic, define(kind))
        for time in range(length_s // stretch_s):
            for message in stretch.messages:
                if message.topic in writer.counts:
                    writer.write(_moved(message, stretch, time))
        writer.close()


def _traces() -> tuple[str, str]:
    return full_name(POLICY_TRACE, ""), full_name(GUARD_TRACE, "")


def _moved(message: Message, stretch: _Stretch, times: int) -> Message:
    """The same message some stretches later."""
    later_ns = times * stretch.seconds * NS_PER_S
    data = message.data
    if message.topic in _traces():
        data = _trace_moved(data, later_ns, times * stretch.ticks, times * stretch.asked)
    elif message.topic != full_name(channels.COMMAND, ""):
        # Behind four bytes of encapsulation, every other message begins with its stamp's seconds.
        seconds = int.from_bytes(data[4:8], "little") + times * stretch.seconds
        data = data[:4] + seconds.to_bytes(4, "little") + data[8:]
    return Message(message.topic, message.stamp_ns + later_ns, data)


def _trace_moved(data: bytes, later_ns: int, ticks: int, asked: int) -> bytes:
    """A trace's text, in CDR, with every instant later and every count higher."""

    def higher(match: re.Match[bytes]) -> bytes:
        by = ticks if match[1] == b"tick" else asked
        return b'"%s":%d' % (match[1], int(match[2]) + by)

    length = int.from_bytes(data[4:8], "little")
    line = _INSTANT.sub(lambda match: b"%d" % (int(match[0]) + later_ns), data[8 : 8 + length])
    line = _COUNT.sub(higher, line)
    return data[:4] + len(line).to_bytes(4, "little") + line


class _Life:
    """The graph's ticks, one after the other, on a clock that is a number."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._hold = create_policy("hold", contract, {})
        self._policy_config, self._guard_config = PolicyConfig(contract, self._hold.needs), GuardConfig(contract)
        self._policy, self._guard = PolicyState(), GuardState()
        self._at: Pose = Pose(np.mean([contract.limits.workspace_m.min, contract.limits.workspace_m.max], 0), _UPRIGHT)
        noise = np.random.default_rng(0)
        self._pictures = {
            view: [noise.integers(0, 256, (camera.height, camera.width, 3)).astype(np.uint8) for _ in range(_PICTURES)]
            for view, camera in contract.cameras.items()
        }
        self._asked: list[tuple[int, Request, bytes]] = []
        self._written: list[Message] = []
        self._types: dict[str, str] = {}
        self._said: list[Sample[Any]] = []
        self._requests = 0

    def stretch(self, seconds: int) -> _Stretch:
        """So many seconds of it."""
        period_ns = round(NS_PER_S / self._contract.rates.policy_hz)
        ticks = seconds * NS_PER_S // period_ns
        commanded: list[Sample[Any]] = []
        for tick in range(ticks):
            since_ns = tick * period_ns
            seen = [*self._told(tick, since_ns), *self._feel(since_ns), *self._look(tick, since_ns)]
            sent = self._policy_tick([*seen, *commanded], since_ns)
            commanded = self._guard_tick([*seen, *sent], tick, since_ns)
        self._written.sort(key=lambda message: message.stamp_ns)
        return _Stretch(self._written, self._types, seconds, ticks, self._requests)

    def _told(self, tick: int, since_ns: int) -> Iterator[Sample[Any]]:
        if tick == 0:
            self._write(channels.COMMAND, "std_msgs/msg/String", messages.to_string(_SENTENCE), since_ns)
            yield Sample(channels.COMMAND, _SENTENCE, None, _STEADY_NS)

    def _feel(self, since_ns: int) -> Iterator[Sample[Any]]:
        feedback, stamp_ns = self._contract.feedback, _ROS_NS + since_ns
        joints = JointState(feedback.joint_states.joints, np.full(len(feedback.joint_states.joints), 0.5))
        pose = messages.to_pose_stamped(self._at, stamp_ns, self._contract.frames.base)
        self._write(feedback.ee_pose.topic, "geometry_msgs/msg/PoseStamped", pose, since_ns)
        states = messages.to_joint_state(joints, stamp_ns)
        self._write(feedback.joint_states.topic, "sensor_msgs/msg/JointState", states, since_ns)
        yield Sample(channels.EE_POSE, self._at, stamp_ns, _STEADY_NS + since_ns)
        yield Sample(channels.JOINT_STATES, joints, stamp_ns, _STEADY_NS + since_ns)

    def _look(self, tick: int, since_ns: int) -> Iterator[Sample[Any]]:
        for view, camera in self._contract.cameras.items():
            every = round(self._contract.rates.policy_hz / camera.rate_hz)
            if tick % every:
                continue
            frame = Frame(self._pictures[view][tick // every % _PICTURES], camera.encoding)
            image = image_messages.to_image(frame, _ROS_NS + since_ns, camera.frame)
            self._write(camera.topic, "sensor_msgs/msg/Image", image, since_ns)
            yield Sample(channels.camera(view), frame, _ROS_NS + since_ns, _STEADY_NS + since_ns)

    def _policy_tick(self, inputs: Sequence[Sample[Any]], since_ns: int) -> list[Sample[Any]]:
        now = Now(_ROS_NS + since_ns, _STEADY_NS + since_ns + _POLICY_NS)
        result = policy_tick(self._policy, [*inputs, *self._answers(now)], now, self._policy_config)
        self._policy = result.state
        if result.request is not None:
            self._requests += 1
            payload = worker_messages.encode_observation(result.request.observation)
            self._asked.append((now.steady_ns, result.request, payload))
        self._write(POLICY_TRACE, "std_msgs/msg/String", messages.to_trace(result.trace), since_ns + _POLICY_NS)
        return [] if result.output is None else list(taken_apart(result.output, now.steady_ns))

    def _answers(self, now: Now) -> Iterator[Sample[Any]]:
        due = [asked for asked in self._asked if now.steady_ns - asked[0] >= _LATENCY_NS]
        self._asked = [asked for asked in self._asked if asked not in due]
        for asked_ns, request, payload in due:
            said = worker_messages.decode_answer(answer("hold", self._hold, payload))
            assert isinstance(said, worker_messages.Plan), said
            times = (asked_ns, asked_ns + _LATENCY_NS)
            reply = ChunkReply(request.id, payload, *times, said.chunk, said.inference_s)
            yield Sample(channels.WORKER, reply, None, now.steady_ns)

    def _guard_tick(self, inputs: Sequence[Sample[Any]], tick: int, since_ns: int) -> list[Sample[Any]]:
        now = Now(_ROS_NS + since_ns, _STEADY_NS + since_ns + _GUARD_NS)
        arm = [Sample(channels.ARM, True, None, now.steady_ns)] if tick == 1 else []
        result = guard_step(self._guard, [*inputs, *arm], now, self._guard_config)
        self._guard = result.state
        self._write(GUARD_TRACE, "std_msgs/msg/String", messages.to_trace(result.trace), since_ns + _GUARD_NS)
        self._send(result, since_ns)
        if result.commanded_pose is None:
            return []
        self._write_pose(channels.COMMANDED_POSE, result.commanded_pose, since_ns)
        return [Sample(channels.COMMANDED_POSE, result.commanded_pose, now.ros_ns, now.steady_ns)]

    def _send(self, result: GuardResult, since_ns: int) -> None:
        """What the robot hears."""
        if result.command is None:
            return
        base = self._contract.frames.base
        self._write_pose(self._contract.outputs.pose, result.command.pose, since_ns)
        twist = messages.to_twist_stamped(result.command.twist, _ROS_NS + since_ns, base)
        self._write(self._contract.outputs.twist, "geometry_msgs/msg/TwistStamped", twist, since_ns + _GUARD_NS)

    def _write_pose(self, topic: str, pose: Pose, since_ns: int) -> None:
        message = messages.to_pose_stamped(pose, _ROS_NS + since_ns, self._contract.frames.base)
        self._write(topic, "geometry_msgs/msg/PoseStamped", message, since_ns + _GUARD_NS)

    def _write(self, topic: str, kind: str, message: Any, since_ns: int) -> None:
        name = full_name(topic, "")
        self._types[name] = kind
        self._written.append(Message(name, _ROS_NS + since_ns, serialize_message(message)))
