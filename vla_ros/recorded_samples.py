"""A recording's messages as samples of the contract's channels, and the commands that the robot obeyed among them.

Who was in command, and what of it reached the robot, is in guard/trace. Without that it is put together from the topics
that the robot's driver obeys: a held deadman is the human's, anything else the policy's as long as the policy speaks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.safety import Motion
from vla_ros.control.streams import is_fresh
from vla_ros.errors import BagError
from vla_ros.interface import reading
from vla_ros.interface.inputs import Delivery, Input, guard_table, policy_table
from vla_ros.learning.recorded.alignment import Plan
from vla_ros.learning.recorded.commands import COMMANDED, Command
from vla_ros.learning.recorded.spans import CHANNELS
from vla_ros.replay.decision_log import read_motion
from vla_ros.replay.recording import Recording
from vla_ros.replay.topics import GUARD_TRACE, Decoder, Topics, full_name
from vla_ros.replay.traces import read_guard_trace
from vla_ros.types import Needs, Now, Sample

_SENT_POSE, _SENT_TWIST, _SENT_GRIPPER = "sent/pose", "sent/twist", "sent/gripper"
_SENT = (_SENT_POSE, _SENT_TWIST)
_HINTS = (channels.TELEOP_DEADMAN, channels.POLICY_PROVENANCE)
_END_BYTES = 1 << 16

Progress = Callable[[int], object]
"""Is told the instant of reception of each message, ROS time [ns]."""


@dataclass(eq=False)
class RecordedSamples:
    """What of a recording a plan needs.

    Raises BagError for a topic that is missing, or of another type, or of another robot.
    """

    recording: Recording
    plan: Plan
    namespace: str = ""

    def __post_init__(self) -> None:
        inputs = {full_name(entry.topic, self.namespace): entry for entry in _table(self.plan)}
        self._check(inputs)
        self._inputs = {topic: entry for topic, entry in inputs.items() if topic in self.recording.types}
        self._decoder = Decoder(self.recording, Topics(self._inputs, None, None, None))
        self.has_trace = next(self.recording.messages(self._topics((GUARD_TRACE,))), None) is not None
        if not self.has_trace:
            self._require(inputs, _SENT, f"and there is nothing on {GUARD_TRACE}")
            self._require(inputs, (channels.COMMAND,), "so that nobody knows what the robot was to do")

    @property
    def unreadable(self) -> Mapping[str, int]:
        """How many messages could not be decoded, by "channel: kind"."""
        return self._decoder.refused

    def told(self) -> Iterator[Sample[Any]]:
        """Instructions and what became of them, to the end of the recording.

        The guard's trace knows of an instruction that was given before the recorder had begun to listen to it.
        """
        if not self.has_trace:
            yield from self._read(CHANNELS)
            return
        for sample in self._read((*(name for name in CHANNELS if name != channels.COMMAND), GUARD_TRACE)):
            is_trace = sample.channel == GUARD_TRACE
            yield Sample(channels.COMMAND, sample.value.told, None, sample.received_ns) if is_trace else sample

    def samples(self, on_message: Progress = lambda _: None) -> Iterator[Sample[Any]]:
        """All that a plan needs, commands included, in the order of reception."""
        if self.has_trace:
            for sample in self._read((*self.plan.max_ages_s, GUARD_TRACE), on_message):
                yield _commanded(sample) if sample.channel == GUARD_TRACE else sample
            return
        sent = _Sent(self.plan.contract, bool(self._topics((channels.POLICY_PROVENANCE,))))
        for sample in self._read((*self.plan.max_ages_s, *_SENT, _SENT_GRIPPER, *_HINTS), on_message):
            if sample.channel in self.plan.max_ages_s:
                yield sample
            else:
                yield from sent.receive(sample)

    def _read(self, wanted: Collection[str], on_message: Progress = lambda _: None) -> Iterator[Sample[Any]]:
        for message in self.recording.messages(self._topics(wanted)):
            on_message(message.stamp_ns)
            sample = self._decoder.decode(message)
            if sample is not None:
                yield sample

    def _topics(self, wanted: Collection[str]) -> list[str]:
        return [topic for topic, entry in self._inputs.items() if entry.channel in wanted]

    def _check(self, inputs: Mapping[str, Input]) -> None:
        for topic, entry in inputs.items():
            found = self.recording.types.get(topic, entry.type)
            if found != entry.type:
                raise BagError(f"bag {self.recording.path}: {topic} is {found}, not {entry.type}")
        self._require(inputs, [name for name in self.plan.max_ages_s if name != COMMANDED], "which is required")

    def _require(self, inputs: Mapping[str, Input], wanted: Collection[str], why: str) -> None:
        for topic, entry in inputs.items():
            if entry.channel in wanted and topic not in self.recording.types:
                there = ", ".join(sorted(self.recording.types))
                raise BagError(f"bag {self.recording.path} lacks {topic} ({entry.type}), {why}; it has {there}")


def digest_of(bag: Path) -> str:
    """What tells a bag from any other: of its files' sizes, beginnings and ends. 16 hex digits."""
    digest = hashlib.sha256()
    for file in [bag] if bag.is_file() else sorted(path for path in bag.rglob("*") if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{size} ".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_END_BYTES))
            stream.seek(max(0, size - _END_BYTES))
            digest.update(stream.read())
    return digest.hexdigest()[:16]


def _table(plan: Plan) -> Iterator[Input]:
    """Every topic that is read where it is there."""
    contract = plan.contract
    wanted = {*plan.max_ages_s, *CHANNELS, *_HINTS}
    known = {entry.channel: entry for entry in policy_table(contract, Needs(plan.views), simulated=True)}
    known |= {entry.channel: entry for entry in guard_table(contract)}
    yield from (entry for entry in known.values() if entry.channel in wanted)
    boolean = known[channels.TELEOP_DEADMAN]
    yield Input(channels.SUCCESS, channels.SUCCESS, boolean.type, Delivery.NEWEST, boolean.decode)
    yield Input(GUARD_TRACE, GUARD_TRACE, known[channels.COMMAND].type, Delivery.HISTORY, _decode_trace)
    for channel, topic, like in (
        (_SENT_POSE, contract.outputs.pose, channels.POLICY_POSE),
        (_SENT_TWIST, contract.outputs.twist, channels.POLICY_TWIST),
    ):
        entry = next(entry for entry in guard_table(contract) if entry.channel == like)
        yield Input(channel, topic, entry.type, Delivery.NEWEST, entry.decode)
    if contract.gripper.interface == "float64":
        opening = contract.gripper.opening
        yield Input(
            _SENT_GRIPPER,
            contract.gripper.topic,
            "std_msgs/msg/Float64",
            Delivery.NEWEST,
            lambda msg: (opening(reading.from_float(msg)), None),
        )


@dataclass(frozen=True, eq=False)
class _Tick:
    """What the guard's trace says of a tick. told: the instruction, empty for none."""

    command: Command
    told: str


def _decode_trace(msg: Any) -> tuple[_Tick, int]:
    """A tick of the guard, and its instant."""
    trace = read_guard_trace(msg.data)
    sent = None if trace["command"] is None else read_motion(trace["command"])
    return _Tick(Command(sent, trace["source"]), trace["instruction"] or ""), trace["ros_ns"]


def _commanded(sample: Sample[Any]) -> Sample[Any]:
    return replace(sample, channel=COMMANDED, value=sample.value.command)


@dataclass(eq=False)
class _Sent:
    """Puts commands together where there is no trace. A tick's pose and twist carry one stamp."""

    contract: Contract
    knows_policy: bool
    newest: dict[str, Sample[Any]] = field(default_factory=dict)

    def receive(self, sample: Sample[Any]) -> Iterator[Sample[Any]]:
        """A part of a command, or a hint at who gave it. Gives a command when both of its parts have come."""
        self.newest[sample.channel] = sample
        parts: Mapping[str, Sample[Any] | None] = {name: self.newest.get(name) for name in _SENT}
        pose, twist = parts[_SENT_POSE], parts[_SENT_TWIST]
        if sample.channel not in _SENT or pose is None or twist is None or pose.stamp_ns != twist.stamp_ns:
            return
        gripper = self.newest.get(_SENT_GRIPPER)
        motion = Motion(pose.value, twist.value, None if gripper is None else gripper.value)
        command = Command(motion, self._source(sample.received_ns))
        yield Sample(COMMANDED, command, sample.stamp_ns, sample.received_ns)

    def _source(self, received_ns: int) -> Source:
        now, timeouts = Now(received_ns, received_ns), self.contract.timeouts
        deadman = self.newest.get(channels.TELEOP_DEADMAN)
        if deadman is not None and deadman.value and is_fresh(deadman, now, timeouts.deadman_s):
            return Source.TELEOP
        is_speaking = is_fresh(self.newest.get(channels.POLICY_PROVENANCE), now, timeouts.policy_s)
        return Source.POLICY if is_speaking or not self.knows_policy else Source.NOBODY
