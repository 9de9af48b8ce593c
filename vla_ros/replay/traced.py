"""A replay that follows the traces in the bag: every tick of the live nodes again, with the inputs that it used."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vla_ros.bags import Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.joining import PARTS
from vla_ros.errors import MessageError
from vla_ros.interface.inputs import policy_table
from vla_ros.replay.agreement import Agreement
from vla_ros.replay.decision_log import read_motion
from vla_ros.replay.decisions import Decision, GuardDecision, Instructed, PolicyDecision, RecordedCommand
from vla_ros.replay.guard_player import GuardPlayer, Mail
from vla_ros.replay.policy_player import PolicyPlayer
from vla_ros.replay.topics import Decoder, Topics, decode_trace
from vla_ros.replay.window import Window
from vla_ros.types import NS_PER_S, Json, Needs, Now, Sample

# A recorder receives every topic by a way of its own: what a tick used may lie so far behind its trace, or before it.
WINDOW_S = 1.0
_WINDOW_NS = round(WINDOW_S * NS_PER_S)
LOST_TICK = "an earlier tick"

Samples = list[Sample[Any]]


class _Tick(NamedTuple):
    """One line of a trace, at the recorder recorded_ns. Ticks are played by steady_ns, the policy's before the guard's.

    That takes policy and guard to be on one machine, which has one steady clock. place: among all, so that traces are
    never compared.
    """

    steady_ns: int
    is_guard: bool
    recorded_ns: int
    place: int
    trace: Json

    @property
    def now(self) -> Now:
        """The tick's instant."""
        return Now(self.trace["ros_ns"], self.trace["steady_ns"])


class TracedReplay:
    """Decisions out of a bag's messages. from_ns: stamp of reception of the first trace whose decisions are told.

    agreement: of live and replay; missing: how many ticks used what is not in the bag, by channel.
    """

    def __init__(
        self, contract: Contract, needs: Needs, topics: Topics, decoder: Decoder, policy: PolicyPlayer, from_ns: int
    ) -> None:
        self.agreement = Agreement()
        self.missing: dict[str, int] = {}
        self._needs, self._topics, self._decoder, self._from_ns = needs, topics, decoder, from_ns
        self._policy, self._guard, self._mail = policy, GuardPlayer(contract), Mail()
        self._heard_by_policy = {entry.channel for entry in policy_table(contract, needs, True)}
        self._waiting: list[_Tick] = []
        perhaps_unheard = [*map(channels.camera, needs.views), *([channels.PRIVILEGED] if needs.privileged else [])]
        self._window = Window(perhaps_unheard)
        self._last: dict[bool, Json] = {}
        self._traces = 0
        self._has_told = False

    def topics(self) -> list[str]:
        """What is to be read of the bag. What the policy sent is known from its replay."""
        wanted = [name for name, entry in self._topics.inputs.items() if entry.channel not in PARTS]
        return [*wanted, *(name for name in (self._topics.policy_trace, self._topics.guard_trace) if name)]

    def decisions(self, messages: Iterable[Message]) -> Iterator[Decision]:
        """All ticks, one after the other. Reads no further ahead than WINDOW_S."""
        for message in messages:
            self._store(message)
            while self._waiting and self._waiting[0].recorded_ns + _WINDOW_NS <= message.stamp_ns:
                tick = heapq.heappop(self._waiting)
                self._window.forget(tick.recorded_ns - _WINDOW_NS)
                yield from self._play(tick)
        while self._waiting:
            yield from self._play(heapq.heappop(self._waiting))

    def _store(self, message: Message) -> None:
        if message.topic in self._topics.inputs:
            decoded = self._decoder.decode(message)
            if decoded is not None and decoded.stamp_ns is not None:  # what has no stamp is quoted by the traces
                self._window.put(message.stamp_ns, decoded.channel, decoded.value, decoded.stamp_ns)
            if not self._waiting:
                self._window.forget(message.stamp_ns - 2 * _WINDOW_NS)
            return
        is_guard = message.topic == self._topics.guard_trace
        try:
            trace = decode_trace(message, is_guard)
        except MessageError as error:
            self._decoder.refuse(f"{message.topic}: {error.kind}")
            return
        heapq.heappush(self._waiting, _Tick(trace["steady_ns"], is_guard, message.stamp_ns, self._traces, trace))
        self._traces += 1

    def _play(self, tick: _Tick) -> Iterator[Decision]:
        last = self._last.get(tick.is_guard)
        if last is not None and tick.steady_ns <= last["steady_ns"]:
            self._decoder.refuse("traces that came too late")
            return
        self._last[tick.is_guard] = tick.trace
        is_first = last is None or tick.trace["tick"] == 1
        lost = (LOST_TICK,) if not is_first and last and tick.trace["tick"] != last["tick"] + 1 else ()
        play = self._guard_tick if tick.is_guard else self._policy_tick
        decisions = play(tick, is_first, lost)
        if tick.recorded_ns < self._from_ns:
            return
        self._has_told = self._has_told or not tick.is_guard
        for decision in decisions:
            if isinstance(decision, PolicyDecision | GuardDecision):
                for channel in dict.fromkeys(decision.missing):
                    self.missing[channel] = self.missing.get(channel, 0) + 1
                self.agreement.count(tick.trace, decision)
            yield decision

    def _policy_tick(self, tick: _Tick, is_first: bool, lost: tuple[str, ...]) -> Sequence[Decision]:
        trace, now = tick.trace, tick.now
        if is_first:
            self._policy.begin(trace, now)
        inputs, missing = self._found(trace, now, self._heard_by_policy)
        inputs += self._unheard(tick)
        decision, output = self._policy.tick(inputs, now, trace, (*lost, *missing))
        self._mail.send(output, now, trace["output"] is not None)
        told = [str(sample.value) for sample in inputs if sample.channel == channels.COMMAND]
        if not told and not self._has_told and trace["instruction"] is not None:
            told = [trace["instruction"]]
        return (*(Instructed(now.ros_ns, text) for text in told), decision)

    def _guard_tick(self, tick: _Tick, is_first: bool, lost: tuple[str, ...]) -> Sequence[Decision]:
        trace, now = tick.trace, tick.now
        if is_first:
            self._guard.begin(trace)
        inputs, missing = self._found(trace, now, None)
        decision = self._guard.tick((*inputs, *self._mail.due(now)), now, (*lost, *missing))
        if trace["command"] is None:
            return (decision,)
        return (decision, RecordedCommand(now.ros_ns, read_motion(trace["command"])))

    def _found(self, trace: Json, now: Now, heard: set[str] | None) -> tuple[Samples, list[str]]:
        """The inputs of a tick, in order, and the channels of those that are nowhere. heard: None for all channels."""
        inputs: Samples = []
        missing = []
        for entry in trace["inputs"]:
            channel, stamp_ns = entry["channel"], entry.get("stamp_ns")
            received_ns = now.steady_ns - round(entry["receive_age_s"] * NS_PER_S)
            is_known = True
            if heard is not None and channel not in heard:
                continue
            if stamp_ns is None:
                sample: Sample[Any] | None = Sample(channel, entry["value"], None, received_ns)
            elif channel in PARTS:
                sample, is_known = self._mail.heard(channel, stamp_ns, received_ns)
            else:
                value = self._window.find(channel, stamp_ns)
                is_known = value is not None
                sample = Sample(channel, value, stamp_ns, received_ns) if is_known else None
            if sample is not None:
                inputs.append(sample)
            if not is_known:
                missing.append(channel)
        return inputs, missing

    def _unheard(self, tick: _Tick) -> Samples:
        """What this policy needs and the live one did not listen to: heard when the recorder received it."""
        fresh = self._window.fresh(tick.recorded_ns, tick.steady_ns)
        wanted = {channels.camera(view) for view in self._needs.views if view not in tick.trace["views"]}
        if self._needs.privileged and not tick.trace["privileged"]:
            wanted.add(channels.PRIVILEGED)
        return [sample for sample in fresh if sample.channel in wanted]
