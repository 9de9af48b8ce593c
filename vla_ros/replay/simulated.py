"""A replay of a bag without traces: policy and guard tick at the contract's rates, and hear what the recorder heard.

Steady time is the recorder's, without its leaps; ROS time is that of /clock where the bag has it. Services are not in a
bag: the guard is armed while there is an instruction. Where nobody recorded what a guard commanded, the measured pose
stands for it, as in shadow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from vla_ros.bags import Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard_state import Mode
from vla_ros.control.joining import PARTS
from vla_ros.errors import MessageError
from vla_ros.interface.inputs import guard_table, policy_table
from vla_ros.replay.decisions import Decision, Instructed
from vla_ros.replay.guard_player import GuardPlayer, Mail
from vla_ros.replay.policy_player import PolicyPlayer
from vla_ros.replay.recorded_commands import RecordedOutputs
from vla_ros.replay.topics import Decoder, Topics, decode_clock
from vla_ros.types import NS_PER_S, Needs, Now, Sample, is_hold

NOTES = (
    "the bag has no traces: the ticks of policy and guard are simulated at the contract's rates",
    "arming is not in the bag: the guard is taken to be armed while there is an instruction",
)
NO_COMMANDED_POSE = "the bag has no guard/commanded_pose: the measured pose stands for it"

# What a robot does in a longer silence is known after so much of it: it has stopped.
_MOST_SILENCE_NS = NS_PER_S


@dataclass
class _Node:
    """Who ticks. period_ns: steady; next_ns: of its next tick; heard: what came since the last one."""

    period_ns: int
    channels: set[str]
    next_ns: int = 0
    heard: list[Sample[Any]] = field(default_factory=list)

    def put(self, sample: Sample[Any]) -> None:
        """What it listens to."""
        if sample.channel in self.channels:
            self.heard.append(sample)

    def drain(self) -> list[Sample[Any]]:
        """What came since the last tick."""
        heard, self.heard = self.heard, []
        return heard


class _Steady:
    """Steady time out of a recorder's stamps: its clock may be set, and a damaged stamp may say anything.

    Time never goes back, and goes on by _MOST_SILENCE_NS at most from one message to the next; leaps: how often the
    stamps told otherwise. offset_ns: what has been added to the stamps by now.
    """

    def __init__(self) -> None:
        self.offset_ns = 0
        self.leaps = 0
        self._last_ns: int | None = None

    def at(self, stamp_ns: int) -> int:
        """The steady instant of a message's reception."""
        steady_ns = stamp_ns + self.offset_ns
        last_ns = steady_ns if self._last_ns is None else self._last_ns
        if not -_MOST_SILENCE_NS <= steady_ns - last_ns <= _MOST_SILENCE_NS:
            steady_ns = last_ns if steady_ns < last_ns else last_ns + _MOST_SILENCE_NS
            self.offset_ns = steady_ns - stamp_ns
            self.leaps += 1
        self._last_ns = max(last_ns, steady_ns)
        return self._last_ns


class SimulatedReplay:
    """Decisions out of a bag's messages. from_ns: stamp of the first tick whose decisions are told.

    instruction: what holds from the beginning, None for nothing.
    """

    def __init__(
        self,
        contract: Contract,
        needs: Needs,
        topics: Topics,
        decoder: Decoder,
        policy: PolicyPlayer,
        outputs: RecordedOutputs,
        from_ns: int,
        instruction: str | None,
    ) -> None:
        self._topics, self._decoder, self._outputs, self._from_ns = topics, decoder, outputs, from_ns
        self._player, self._guard_player, self._mail = policy, GuardPlayer(contract), Mail()
        rates = contract.rates
        self._policy = _Node(round(NS_PER_S / rates.policy_hz), _channels_of(policy_table(contract, needs, True)))
        self._guard = _Node(round(NS_PER_S / rates.guard_hz), _channels_of(guard_table(contract, True)))
        self._steady = _Steady()
        # As with a simulated clock that has not been heard yet.
        self._ros_ns = 0 if topics.clock else None
        self._instruction = instruction
        self._is_pose_doubled = channels.COMMANDED_POSE not in {entry.channel for entry in topics.inputs.values()}

    def topics(self) -> list[str]:
        """What is to be read of the bag. What a policy sent at the time counts for nothing."""
        wanted = [name for name, entry in self._topics.inputs.items() if entry.channel not in PARTS]
        return [*wanted, *([self._topics.clock] if self._topics.clock else []), *self._outputs.topics]

    @property
    def leaps(self) -> int:
        """How often the recorder's clock was set, or nothing came for longer than a second."""
        return self._steady.leaps

    def decisions(self, messages: Iterable[Message]) -> Iterator[Decision]:
        """All ticks, one after the other."""
        has_begun = False
        for message in messages:
            steady_ns = self._steady.at(message.stamp_ns)
            if not has_begun:
                has_begun, self._policy.next_ns, self._guard.next_ns = True, steady_ns, steady_ns
                yield from self._begin(steady_ns)
            yield from self._tick_until(steady_ns)
            yield from self._hear(message, steady_ns)

    def _begin(self, steady_ns: int) -> Iterator[Decision]:
        if self._instruction is not None:
            yield from self._give(Sample(channels.COMMAND, self._instruction, None, steady_ns))

    def _hear(self, message: Message, steady_ns: int) -> Iterator[Decision]:
        if message.topic == self._topics.clock:
            try:
                self._ros_ns = decode_clock(message)
            except MessageError as error:
                self._decoder.refuse(f"{message.topic}: {error.kind}")
        if message.topic in self._topics.inputs:
            sample = self._decoder.decode(message)
            if sample is not None:
                yield from self._give(replace(sample, received_ns=steady_ns))
        if message.topic in self._outputs.topics:
            command = self._outputs.hear(message)
            if command is not None and message.stamp_ns >= self._from_ns:
                yield command

    def _give(self, sample: Sample[Any]) -> Iterator[Decision]:
        for node in (self._policy, self._guard):
            node.put(sample)
        if sample.channel == channels.EE_POSE:
            self._outputs.measured(sample.value)
            if self._is_pose_doubled:
                self._policy.put(replace(sample, channel=channels.COMMANDED_POSE))
        if sample.channel == channels.COMMAND:
            self._instruction = str(sample.value)
            yield Instructed(self._now(sample.received_ns).ros_ns, self._instruction)

    def _tick_until(self, steady_ns: int) -> Iterator[Decision]:
        """All ticks before an instant; of two at once the guard's first, which has not heard the other yet."""
        while min(self._policy.next_ns, self._guard.next_ns) < steady_ns:
            is_guard = self._guard.next_ns <= self._policy.next_ns
            node = self._guard if is_guard else self._policy
            now = self._now(node.next_ns)
            node.next_ns += node.period_ns
            decision = self._guard_tick(now) if is_guard else self._policy_tick(now)
            if now.steady_ns - self._steady.offset_ns >= self._from_ns:
                yield decision

    def _policy_tick(self, now: Now) -> Decision:
        decision, output = self._player.tick(self._policy.drain(), now)
        self._mail.send(output, now, was_sent_live=False)
        return decision

    def _guard_tick(self, now: Now) -> Decision:
        inputs = [*self._guard.drain(), *self._mail.due(now)]
        is_instructed = self._instruction is not None and not is_hold(self._instruction)
        if is_instructed and self._guard_player.mode is Mode.DISARMED:
            inputs.append(Sample(channels.ARM, True, None, now.steady_ns))
        return self._guard_player.tick(inputs, now)

    def _now(self, steady_ns: int) -> Now:
        return Now(steady_ns - self._steady.offset_ns if self._ros_ns is None else self._ros_ns, steady_ns)


def _channels_of(table: Iterable[Any]) -> set[str]:
    return {entry.channel for entry in table}
