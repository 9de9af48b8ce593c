"""One bag through the decision path with one policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_ros.bags import Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.policy_state import PolicyConfig
from vla_ros.errors import BagError, ReplayError
from vla_ros.garbage import seldom_collected
from vla_ros.policy.protocol import Policy
from vla_ros.replay.agreement import Agreement
from vla_ros.replay.decisions import Decision, Outcome
from vla_ros.replay.policy_player import RECORDED, Latency, PolicyPlayer
from vla_ros.replay.recorded_commands import RecordedOutputs
from vla_ros.replay.recording import Recording
from vla_ros.replay.simulated import NO_COMMANDED_POSE, NOTES, SimulatedReplay
from vla_ros.replay.topics import Decoder, Topics, topics_of
from vla_ros.replay.traced import WINDOW_S, TracedReplay
from vla_ros.types import NS_PER_S

FALLBACK_LATENCY_S = 0.1
"""Of every inference, where a bag has no traces and nobody says otherwise."""
# The streams' memory, which fills before the first decision that is told.
_LEAD_NS = round((WINDOW_S + 1.0) * NS_PER_S)


@dataclass(frozen=True)
class Terms:
    """What is replayed, and how.

    latency: None for the recorded one, where the bag has traces. from_s, to_s: seconds of the bag, None for all of it.
    namespace: of the robot's nodes. instruction: what holds at the beginning of a bag that does not tell it.
    """

    bag: Path
    contract: Contract
    latency: Latency | None = None
    from_s: float | None = None
    to_s: float | None = None
    namespace: str = ""
    instruction: str | None = None


class Replay:
    """Decisions of one policy over one bag. What a bag lacks raises BagError here, before anything is replayed.

    latency: of inference; agreement: of live and replay, None where the bag has no traces.
    """

    def __init__(self, terms: Terms, name: str, policy: Policy) -> None:
        self.terms = terms
        self.recording = Recording(terms.bag)
        given = () if terms.instruction is None else (channels.COMMAND,)
        self._topics = topics_of(self.recording, terms.contract, policy.needs, terms.namespace, given)
        self._from_ns, self._to_ns = _interval(self.recording, terms)
        self.latency = _latency(terms.latency, self._topics)
        self._decoder = Decoder(self.recording, self._topics)
        player = PolicyPlayer(name, policy, PolicyConfig(terms.contract, policy.needs), self.latency)
        needs, told = policy.needs, (self._topics, self._decoder, player)
        self._source: TracedReplay | SimulatedReplay
        if self._topics.are_traced:
            self._source = TracedReplay(terms.contract, needs, *told, self._from_ns)
        else:
            outputs = RecordedOutputs(self.recording, terms.contract, terms.namespace)
            before = terms.instruction if terms.instruction is not None else self._instruction_before()
            self._source = SimulatedReplay(terms.contract, needs, *told, outputs, self._from_ns, before)

    @property
    def agreement(self) -> Agreement | None:
        """What has been compared so far."""
        return self._source.agreement if isinstance(self._source, TracedReplay) else None

    @property
    def duration_s(self) -> float:
        """Of the interval that is replayed."""
        return (self._to_ns - self._from_ns) / NS_PER_S

    def decisions(self, progress: Callable[[float], None] = lambda _s: None) -> Iterator[Decision]:
        """All decisions, in order; to be asked for once. progress: is told how far it is, in seconds of the interval.

        Raises BagError if there are none.
        """
        is_empty = True
        with seldom_collected():
            for decision in self._source.decisions(self.messages(progress)):
                is_empty = False
                yield decision
        if is_empty:
            why = "; ".join(filter(None, (self.recording.damage, *self._refusals())))
            nothing = f"bag {self.terms.bag} has nothing to replay from {self._said_interval()}"
            raise BagError(f"{nothing}: {why}" if why else nothing)

    def outcome(self) -> Outcome:
        """How it ended; after the last decision."""
        missing = dict(self._source.missing) if isinstance(self._source, TracedReplay) else {}
        return Outcome(self.recording.damage, missing, (*self._notes(), *self._refusals()))

    def _refusals(self) -> list[str]:
        return [f"refused {count} x {what}" for what, count in sorted(self._decoder.refused.items())]

    def _notes(self) -> Iterator[str]:
        if isinstance(self._source, TracedReplay):
            return
        yield from NOTES
        if self.terms.latency is None:
            yield f"every inference is taken to last {FALLBACK_LATENCY_S:g} s"
        if channels.COMMANDED_POSE not in {entry.channel for entry in self._topics.inputs.values()}:
            yield NO_COMMANDED_POSE
        if self._source.leaps:
            yield f"the recorder's clock was set, or it heard nothing for over a second, {self._source.leaps} times"

    def messages(self, progress: Callable[[float], None] = lambda _s: None) -> Iterator[Message]:
        """All that is read of the bag for the decisions, in order."""
        for message in self.recording.messages(self._source.topics(), self._from_ns - _LEAD_NS, self._to_ns):
            progress(max(0.0, (message.stamp_ns - self._from_ns) / NS_PER_S))
            yield message

    def _instruction_before(self) -> str | None:
        """The last one that was given before what is read."""
        topics = [name for name, entry in self._topics.inputs.items() if entry.channel == channels.COMMAND]
        said = [self._decoder.decode(one) for one in self.recording.messages(topics, 0, self._from_ns - _LEAD_NS)]
        known = [str(sample.value) for sample in said if sample is not None]
        return known[-1] if known else None

    def _said_interval(self) -> str:
        start_s = (self._from_ns - self.recording.start_ns) / NS_PER_S
        return f"{start_s:g} to {start_s + self.duration_s:g} s"


def _interval(recording: Recording, terms: Terms) -> tuple[int, int]:
    """Stamps of reception: at or after the first, before the second. Raises ReplayError."""
    length_s = (recording.end_ns - recording.start_ns) / NS_PER_S
    from_s = 0.0 if terms.from_s is None else terms.from_s
    to_s = length_s if terms.to_s is None else min(terms.to_s, length_s)
    if terms.to_s is not None and from_s >= terms.to_s:
        raise ReplayError(f"from {from_s:g} s to {terms.to_s:g} s there is nothing: an interval begins before it ends")
    if from_s >= to_s and not (terms.from_s is None and terms.to_s is None):
        raise ReplayError(f"there is nothing from {from_s:g} to {to_s:g} s: bag {terms.bag} is {length_s:.3f} s long")
    return recording.start_ns + round(from_s * NS_PER_S), recording.start_ns + round(to_s * NS_PER_S) + 1


def _latency(wanted: Latency | None, topics: Topics) -> Latency:
    if topics.are_traced or wanted not in (None, RECORDED):
        return RECORDED if wanted is None else wanted
    if wanted == RECORDED:
        raise ReplayError("the bag has no traces, which record the latency: choose measured, or seconds")
    return FALLBACK_LATENCY_S
