"""A bag's topics as the contract names them: what feeds which channel, checked before anything is replayed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vla_ros.bags import Message
from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.errors import BagError, MessageError
from vla_ros.interface.inputs import Input, guard_table, policy_table
from vla_ros.interface.reading import from_clock
from vla_ros.replay.cdr import JOINT_STATE, read_joint_state
from vla_ros.replay.recording import Recording
from vla_ros.replay.traces import read_guard_trace, read_policy_trace
from vla_ros.types import Json, Needs, Sample

POLICY_TRACE, GUARD_TRACE = "policy/trace", "guard/trace"
_CLOCK = "/clock"
_STRING, _CLOCK_TYPE = "std_msgs/msg/String", "rosgraph_msgs/msg/Clock"
# What says of a message that it is of another robot, and not of a bad moment.
_FOREIGN = ("wrong_frame", "wrong_encoding", "wrong_size", "missing_joint")


@dataclass(frozen=True)
class Topics:
    """inputs: by topic, those of the policy and the guard that are in the bag.

    policy_trace, guard_trace, clock: topics; None where they are not in the bag.
    """

    inputs: Mapping[str, Input]
    policy_trace: str | None
    guard_trace: str | None
    clock: str | None

    @property
    def are_traced(self) -> bool:
        """Whether the bag tells of every tick of policy and guard."""
        return self.policy_trace is not None and self.guard_trace is not None


def full_name(topic: str, namespace: str) -> str:
    """A topic of the contract as a bag has it."""
    root = f"/{namespace.strip('/')}".rstrip("/")
    return topic if topic.startswith("/") else f"{root}/{topic}"


def topics_of(
    recording: Recording, contract: Contract, needs: Needs, namespace: str = "", given: Collection[str] = ()
) -> Topics:
    """Which topics are to be read. given: channels that need not be in the bag.

    Raises BagError where a required topic is missing or one has another type than the contract says.
    """
    table = {entry.channel: entry for entry in (*policy_table(contract, needs, True), *guard_table(contract, True))}
    names = {full_name(entry.topic, namespace): entry for entry in table.values()}
    others = {full_name(POLICY_TRACE, namespace): _STRING, full_name(GUARD_TRACE, namespace): _STRING}
    there = {name: type_ for name, type_ in {**others, _CLOCK: _CLOCK_TYPE}.items() if name in recording.types}
    found = {name: entry for name, entry in names.items() if name in recording.types}
    told = {channels.COMMAND} if there.keys() >= others.keys() else set()  # by the traces
    required = _required(contract, needs) - set(given) - told
    missing = [(name, entry) for name, entry in names.items() if entry.channel in required and name not in found]
    if missing:
        wanted = ", ".join(f"{name} ({entry.type})" for name, entry in missing)
        lacks = f"bag {recording.path} lacks {wanted}, which the contract {contract.name} has"
        raise BagError(f"{lacks}; in the bag are {', '.join(sorted(recording.types))}")
    _check_types(recording, {**{name: entry.type for name, entry in found.items()}, **there})
    policy_trace, guard_trace, clock = (name if name in there else None for name in (*others, _CLOCK))
    return Topics(found, policy_trace, guard_trace, clock)


def _required(contract: Contract, needs: Needs) -> set[str]:
    feedback = contract.feedback
    return {
        channels.COMMAND,
        channels.EE_POSE,
        *(channels.camera(view) for view in needs.views if contract.cameras[view].required),
        *((channels.JOINT_STATES,) if feedback.joint_states.required else ()),
        *((channels.EE_TWIST,) if feedback.ee_twist is not None and feedback.ee_twist.required else ()),
        *((channels.PRIVILEGED,) if needs.privileged else ()),
    }


def _check_types(recording: Recording, wanted: Mapping[str, str]) -> None:
    wrong = [name for name, type_ in wanted.items() if recording.types[name] != type_]
    if wrong:
        texts = (f"{name} is {recording.types[name]}, not {wanted[name]}" for name in wrong)
        raise BagError(f"bag {recording.path}: {'; '.join(texts)}")


class Decoder:
    """Messages to values. Those that cannot be read are counted in `refused`, by "channel: kind"."""

    def __init__(self, recording: Recording, topics: Topics) -> None:
        self._path = recording.path
        self._inputs = topics.inputs
        self._seen: set[str] = set()
        self.refused: dict[str, int] = {}

    def decode(self, message: Message) -> Sample[Any] | None:
        """An input's message, received when it was recorded; None for one that live nodes refuse, too.

        Raises BagError if a topic's first message shows that it is of another robot than the contract's.
        """
        entry = self._inputs[message.topic]
        is_first = message.topic not in self._seen
        self._seen.add(message.topic)
        try:
            value, stamp_ns = entry.decode(deserialize(message.data, entry.type))
        except MessageError as error:
            if is_first and error.kind in _FOREIGN:
                raise BagError(f"bag {self._path}: {message.topic}: {error}") from error
            self.refuse(f"{entry.channel}: {error.kind}")
            return None
        return Sample(entry.channel, value, stamp_ns, message.stamp_ns)

    def refuse(self, what: str) -> None:
        """Count something that cannot be read."""
        self.refused[what] = self.refused.get(what, 0) + 1


def decode_trace(message: Message, is_guard: bool) -> Json:
    """A tick of the guard or the policy, which has all its fields. Raises MessageError."""
    text: str = deserialize(message.data, _STRING).data
    return read_guard_trace(text) if is_guard else read_policy_trace(text)


def decode_clock(message: Message) -> int:
    """ROS time [ns]."""
    return from_clock(deserialize(message.data, _CLOCK_TYPE))


def deserialize(data: bytes, type_: str) -> Any:
    """A serialized message of a type that ROS 2 Jazzy defines -> one that has its attributes. Raises MessageError."""
    try:
        store = _store()
        if type_ == JOINT_STATE:
            return read_joint_state(data, store.types)
        return store.deserialize_cdr(data, type_)
    except Exception as error:  # rosbags' decoders let through whatever a spoilt message makes them do
        raise MessageError("truncated", f"a {type_} that cannot be decoded: {type(error).__name__}: {error}") from error


@cache
def _store() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
