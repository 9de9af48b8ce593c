"""A live graph without ROS: policy, worker, guard and robot on clocks that are data, and a recorder of every topic.

Everybody hears messages, as they are written into the bag, through the same tables as the nodes do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from builders import HOME, UPRIGHT, pose_contract
from recorded_bags import Said, boolean, header, image, joint_state, make, pose_stamped, text, twist_stamped, write_bag

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_state import GuardConfig, GuardState
from vla_ros.control.policy_state import PolicyConfig, PolicyOutput, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.interface.inputs import Input, guard_table, policy_table
from vla_ros.policy import messages
from vla_ros.policy.protocol import Policy
from vla_ros.policy.worker import answer
from vla_ros.replay.topics import full_name
from vla_ros.types import (
    ACTION_WIDTH,
    GRIPPER,
    LINEAR_VELOCITY,
    NS_PER_S,
    POSITION,
    QUATERNION,
    Chunk,
    ChunkReply,
    FailureReply,
    Json,
    Needs,
    Now,
    Observation,
    Pose,
    Request,
    Sample,
    Twist,
    WorkerDied,
    WorkerReply,
)

TICK_NS = NS_PER_S // 80
ROS_NS, STEADY_NS, SYSTEM_NS = 100 * NS_PER_S, 7 * NS_PER_S, 1_700_000_000 * NS_PER_S
SENTENCE = "follow the light"
VIEWS = ("front", "wrist", "top")
_WIDTH, _HEIGHT = 8, 6
_FRAME_TICKS = 8
_POLICY_NS, _GUARD_NS, _REACHES_NS = 2_000_000, 6_000_000, 300_000


def small_contract() -> Contract:
    """The simulated robot with pictures of 8 x 6 pixels."""
    contract = pose_contract()
    cameras = {view: replace(camera, width=_WIDTH, height=_HEIGHT) for view, camera in contract.cameras.items()}
    return replace(contract, cameras=cameras)


@dataclass
class LightSeeker:
    """A policy whose every row depends on every pixel, on the pose, and on what it saw before by one instruction."""

    needs: Needs = field(default_factory=lambda: Needs(VIEWS))
    gain: float = 1.0
    seen: float = 0.0
    follows: str = ""

    def predict(self, observation: Observation) -> Chunk:
        if observation.instruction == "fail":
            raise RuntimeError("it was told to")
        if observation.instruction != self.follows:
            self.seen, self.follows = 0.0, observation.instruction
        brightness = float(np.mean([pixels.mean() for pixels in observation.images.values()])) / 255.0
        self.seen = 0.5 * self.seen + 0.5 * brightness
        velocity = 0.1 * self.gain * np.array([np.sin(7.0 * self.seen), np.cos(5.0 * brightness), self.seen - 0.5])
        rows = np.zeros((9, ACTION_WIDTH))
        steps = 0.05 * np.arange(9)[:, None]
        rows[:, POSITION] = observation.commanded_pose.position + steps * velocity
        rows[:, QUATERNION] = observation.commanded_pose.quaternion
        rows[:, LINEAR_VELOCITY] = velocity
        rows[:, GRIPPER] = brightness
        return Chunk(observation.t_obs_ns, 0.05, rows)


Event = Callable[["LiveRun"], None]


class LiveRun:
    """One second is eighty ticks. events: what happens just before a tick; blind: views that send nothing."""

    def __init__(self, policy: Policy | None = None, contract: Contract | None = None, latency_s: float = 0.03) -> None:
        self.contract = contract or small_contract()
        self.said: list[Said] = []
        self.blind: set[str] = set()
        self.human: Twist | None = None
        self.ticks = 0
        self._policy, self._latency_ns = policy or LightSeeker(), round(latency_s * NS_PER_S)
        self._policy_config = PolicyConfig(self.contract, self._policy.needs)
        self._guard_config = GuardConfig(self.contract)
        self._policy_state, self._guard_state = PolicyState(), GuardState()
        policy_inputs = policy_table(self.contract, self._policy.needs, simulated=True)
        self._ears = (_Ears.of(policy_inputs), _Ears.of(guard_table(self.contract, simulated=True)))
        self._replies: list[WorkerReply] = []
        self._measured = Pose(HOME, UPRIGHT)
        self._random = np.random.default_rng(1)

    def run(self, seconds: float, events: Mapping[float, Event] | None = None) -> LiveRun:
        """Go on for a while. events: by the second of this call at which they happen."""
        due = {round(at_s * 80): event for at_s, event in (events or {}).items()}
        for tick in range(round(seconds * 80)):
            if tick in due:
                due[tick](self)
            self._sense()
            self._tick_policy(self._now(_POLICY_NS))
            self._tick_guard(self._now(_GUARD_NS))
            self.ticks += 1
        return self

    def say(self, sentence: str = SENTENCE) -> None:
        """Give an instruction."""
        self._publish("command", text(sentence))

    def arm(self) -> None:
        """By the service, which no recorder hears."""
        self._ask_guard(channels.ARM, True)

    def reset(self) -> None:
        """Release the latch, likewise."""
        self._ask_guard(channels.RESET, None)

    def press_stop(self, is_on: bool) -> None:
        """The emergency stop's button."""
        self._publish("emergency_stop", boolean(is_on))

    def reset_world(self) -> None:
        """What a simulator says when it was put back."""
        self._publish("sim/was_reset", make("std_msgs/msg/Empty", structure_needs_at_least_one_member=0))

    def lose_worker(self) -> None:
        """The worker dies."""
        self._replies.append(WorkerDied("killed by signal 9 (SIGKILL)"))

    def restart_nodes(self) -> None:
        """Policy and guard, from their first ticks."""
        self._policy_state, self._guard_state, self._replies = PolicyState(), GuardState(), []

    def take_over(self, z_m_s: float | None) -> None:
        """Hold the deadman and push upwards; None: let go."""
        self.human = None if z_m_s is None else Twist(np.array([0.0, 0.0, z_m_s]), np.zeros(3))
        if z_m_s is None:
            self._publish("teleop/deadman", boolean(False))

    def write(self, folder: Path, without: Collection[str] = ()) -> Path:
        """The bag. without: topics that are not recorded."""
        return write_bag(folder, self.said, without)

    def _now(self, after_ns: int) -> Now:
        elapsed_ns = self.ticks * TICK_NS + after_ns
        jitter_ns = int(self._random.integers(0, 200_000))
        return Now(ROS_NS + self.ticks * TICK_NS, STEADY_NS + elapsed_ns + jitter_ns)

    def _publish(self, topic: str, message: Any, steady_ns: int | None = None) -> None:
        """Everybody hears it a moment later, the recorder at a moment of its own."""
        sent_ns = self._now(0).steady_ns if steady_ns is None else steady_ns
        recorded_ns = SYSTEM_NS + sent_ns + int(self._random.integers(100_000, 3_000_000))
        self.said.append(Said(f"/{topic}", recorded_ns, message))
        for ears in self._ears:
            ears.hear(topic, message, sent_ns + _REACHES_NS)

    def _sense(self) -> None:
        stamp_ns, contract = ROS_NS + self.ticks * TICK_NS, self.contract
        joints = contract.feedback.joint_states.joints
        self._publish("clock", make("rosgraph_msgs/msg/Clock", clock=header(stamp_ns).stamp))
        self._publish("ee_pose", pose_stamped(self._measured, stamp_ns))
        self._publish("joint_states", joint_state(joints, np.arange(len(joints)) + 0.001 * self.ticks, stamp_ns))
        if self.ticks % _FRAME_TICKS == 0:
            for view in VIEWS:
                if view not in self.blind:
                    shade = self._random.integers(0, 256, (_HEIGHT, _WIDTH, 3)).astype(np.uint8)
                    self._publish(contract.cameras[view].topic, image(shade, stamp_ns))
        if self.human is not None:
            self._publish("teleop/target_twist", twist_stamped(self.human, stamp_ns))
            self._publish("teleop/deadman", boolean(True))

    def _tick_policy(self, now: Now) -> None:
        arrived = [reply for reply in self._replies if _ended_ns(reply) <= now.steady_ns]
        self._replies = [reply for reply in self._replies if _ended_ns(reply) > now.steady_ns]
        replies = [Sample(channels.WORKER, reply, None, now.steady_ns) for reply in arrived]
        result = policy_tick(self._policy_state, (*self._ears[0].drain(), *replies), now, self._policy_config)
        self._policy_state = result.state
        if result.request is not None:
            self._replies.append(self._answer(result.request, now))
        if result.output is not None:
            for topic, message in _messages(result.output):
                self._publish(topic, message, now.steady_ns)
        self._publish("policy/trace", _line(result.trace), now.steady_ns)

    def _answer(self, request: Request, now: Now) -> WorkerReply:
        payload = messages.encode_observation(request.observation)
        said = messages.decode_answer(answer("light seeker", self._policy, payload))
        about = (request.id, payload, now.steady_ns + 1000, now.steady_ns + self._latency_ns)
        if isinstance(said, messages.Plan):
            return ChunkReply(*about, said.chunk, said.inference_s)
        assert isinstance(said, messages.Failure)
        return FailureReply(*about, said.text)

    def _ask_guard(self, channel: str, value: bool | None) -> None:
        self._ears[1].heard.append(Sample(channel, value, None, self._now(0).steady_ns))

    def _tick_guard(self, now: Now) -> None:
        result = guard_step(self._guard_state, self._ears[1].drain(), now, self._guard_config)
        self._guard_state = result.state
        for topic, message in _commands(result):
            self._publish(topic, message, now.steady_ns)
        self._publish("guard/trace", _line(result.trace), now.steady_ns)
        if result.command is not None:
            self._measured = replace(
                result.command.pose, position=result.command.pose.position + self._random.normal(0.0, 1e-5, 3)
            )


@dataclass
class _Ears:
    """What a node hears. inputs: by topic."""

    inputs: Mapping[str, Input]
    heard: list[Sample[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, table: Collection[Input]) -> _Ears:
        return cls({full_name(entry.topic, ""): entry for entry in table})

    def hear(self, topic: str, message: Any, received_ns: int) -> None:
        entry = self.inputs.get(full_name(topic, ""))
        if entry is not None:
            self.heard.append(Sample(entry.channel, *entry.decode(message), received_ns))

    def drain(self) -> list[Sample[Any]]:
        heard, self.heard = self.heard, []
        return heard


def _ended_ns(reply: WorkerReply) -> int:
    return 0 if isinstance(reply, WorkerDied) else reply.ended_ns


def _line(trace: Json) -> Any:
    return text(json.dumps(trace, separators=(",", ":"), allow_nan=False))


def _messages(output: PolicyOutput) -> Iterator[tuple[str, Any]]:
    target, stamp_ns, made_for = output.target, output.stamp_ns, output.provenance
    yield channels.POLICY_POSE, pose_stamped(target.pose, stamp_ns)
    yield channels.POLICY_TWIST, twist_stamped(target.twist, stamp_ns)
    yield channels.POLICY_GRIPPER, joint_state(["gripper"], [target.gripper], stamp_ns)
    yield channels.POLICY_PROVENANCE, header(stamp_ns, f"{made_for.instruction_hash}/{made_for.t_obs_ns}")


def _commands(result: GuardResult) -> Iterator[tuple[str, Any]]:
    stamp_ns, command = result.now.ros_ns, result.command
    if command is not None:
        yield "target_pose", pose_stamped(command.pose, stamp_ns)
        yield "target_twist", twist_stamped(command.twist, stamp_ns)
        if command.gripper is not None:
            yield "gripper_command", make("std_msgs/msg/Float64", data=command.gripper)
    if result.commanded_pose is not None:
        yield channels.COMMANDED_POSE, pose_stamped(result.commanded_pose, stamp_ns)


def eventful(run: LiveRun) -> LiveRun:
    """Five seconds with nearly everything that can happen to a graph that lives on."""
    return run.run(
        5.0,
        {
            0.2: LiveRun.say,
            0.25: LiveRun.arm,
            0.8: lambda one: one.take_over(0.1),
            1.2: lambda one: one.take_over(None),
            1.6: lambda one: one.blind.add("wrist"),
            2.4: lambda one: one.blind.clear(),
            2.8: lambda one: one.say("something else"),
            3.1: lambda one: one.say("fail"),
            3.3: LiveRun.say,
            3.6: lambda one: one.press_stop(True),
            3.75: lambda one: one.press_stop(False),
            3.8: LiveRun.reset,
            3.85: LiveRun.arm,
            4.4: lambda one: one.say("stop"),
            4.6: LiveRun.say,
        },
    )
