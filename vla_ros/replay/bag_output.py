"""A replay as a bag, to be looked at in Foxglove, RViz and with `ros2 bag`: what it decided, on topics of its own.

Below replay/, in the robot's namespace: command/pose, command/twist and command/gripper, after the guard;
policy/target_pose, before it; plan, each chunk as a path; status, whenever it changes. Stamps are the ticks'. Each
message is logged when the recorder would have received it, so that the two bags play beside each other. No robot obeys
these names. Copies of what a robot does obey are noted as the guard's, so that `vla_ros play` leaves them out.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_ros.bag_types import define
from vla_ros.bags import PUBLISHERS_NOTE, BagWriter, Message
from vla_ros.contract import Contract
from vla_ros.errors import MessageError
from vla_ros.interface.inputs import guard_table, policy_table
from vla_ros.interface.reading import from_stamp
from vla_ros.replay.bag_messages import DIAGNOSTICS, FLOAT, PATH, POSE, TWIST, Builder
from vla_ros.replay.decisions import Decision, GuardDecision, PolicyDecision
from vla_ros.replay.judging.interventions import interventions
from vla_ros.replay.judging.samples import IntArray
from vla_ros.replay.recorded_commands import RecordedOutputs
from vla_ros.replay.recording import Recording
from vla_ros.replay.topics import deserialize, full_name
from vla_ros.types import NS_PER_S, Needs

COMMAND_POSE, COMMAND_TWIST, GRIPPER = "replay/command/pose", "replay/command/twist", "replay/command/gripper"
POLICY_POSE, PLAN, STATUS = "replay/policy/target_pose", "replay/plan", "replay/status"
TOPICS: Mapping[str, str] = {
    COMMAND_POSE: POSE,
    COMMAND_TWIST: TWIST,
    GRIPPER: FLOAT,
    POLICY_POSE: POSE,
    PLAN: PATH,
    STATUS: DIAGNOSTICS,
}
_OK, _WARNING, _ERROR = 0, 1, 2
_LATE_NS = NS_PER_S


def write_bag(
    output: Path,
    decisions: Iterable[Decision],
    contract: Contract,
    recording: Recording,
    namespace: str = "",
    with_inputs: bool = False,
) -> None:
    """decisions: in the order in which they were made; one at a time is in memory. with_inputs: copy what policy, guard
    and driver heard, too. Raises BagError, also where output exists.
    """
    names = {name: full_name(name, namespace) for name in TOPICS}
    sent = RecordedOutputs(recording, contract, namespace).topics
    copied = tuple(dict.fromkeys((*_heard(contract, recording, namespace), *sent))) if with_inputs else ()
    clock = clock_of(recording, contract, namespace)
    writer = BagWriter(output)
    for name, type_ in [(names[name], TOPICS[name]) for name in TOPICS] + [
        (name, recording.types[name]) for name in copied
    ]:
        writer.add_topic(name, define(type_))
    decided = (Message(names[name], clock.received(at_ns), data) for at_ns, name, data in _told(decisions, contract))
    heard = recording.messages(copied) if copied else ()
    try:
        for message in heapq.merge(_nearly_sorted(decided), heard, key=_when):
            writer.write(message)
    except BaseException:
        writer.discard()
        raise
    if with_inputs:
        guard = full_name("guard", namespace)
        writer.note(PUBLISHERS_NOTE, json.dumps({topic: [guard] for topic in sent}))
    writer.close()


def _nearly_sorted(messages: Iterable[Message]) -> Iterator[Message]:
    """In time, of such as come up to `_LATE_NS` late: policy and guard tick by clocks of their own."""
    waiting: list[tuple[int, int, Message]] = []
    newest_ns = 0
    for number, message in enumerate(messages):
        newest_ns = max(newest_ns, message.stamp_ns)
        heapq.heappush(waiting, (message.stamp_ns, number, message))
        while waiting[0][0] <= newest_ns - _LATE_NS:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


@dataclass(frozen=True, eq=False)
class Clock:
    """When the recorder received what was stamped so. stamps_ns, received_ns: (N,), increasing."""

    stamps_ns: IntArray
    received_ns: IntArray

    def received(self, stamp_ns: int) -> int:
        """ROS time as the recorder's: linear between what it received, as late as the nearest of that elsewhere."""
        stamps, received = self.stamps_ns, self.received_ns
        if not len(stamps):
            return stamp_ns
        if not stamps[0] <= stamp_ns <= stamps[-1]:
            end = 0 if stamp_ns < stamps[0] else -1
            return int(received[end]) + stamp_ns - int(stamps[end])
        first_ns = int(stamps[0])  # of differences a float keeps every nanosecond
        late_ns = np.interp(stamp_ns - first_ns, stamps - first_ns, received - received[0])
        return int(received[0]) + round(float(late_ns))


def clock_of(recording: Recording, contract: Contract, namespace: str) -> Clock:
    """By the measured pose, which every bag has. What is stamped out of order counts for nothing."""
    topic = full_name(contract.feedback.ee_pose.topic, namespace)
    stamps, received = array("q"), array("q")
    for message in recording.messages([topic]):
        try:
            stamp_ns = from_stamp(deserialize(message.data, POSE).header.stamp)
        except MessageError:
            continue
        if not stamps or stamp_ns > stamps[-1]:
            stamps.append(stamp_ns)
            received.append(message.stamp_ns)
    return Clock(np.array(stamps, np.int64), np.array(received, np.int64))


def _told(decisions: Iterable[Decision], contract: Contract) -> Iterator[tuple[int, str, bytes]]:
    """(ROS time of its tick, topic, serialized message)"""
    builder = Builder(contract.frames.base)
    statuses = _Statuses(builder)
    for decision in decisions:
        if isinstance(decision, GuardDecision):
            yield from _command(builder, contract, decision)
            yield from statuses.hear(decision)
        elif isinstance(decision, PolicyDecision):
            yield from _plans(builder, decision)


def _plans(builder: Builder, tick: PolicyDecision) -> Iterator[tuple[int, str, bytes]]:
    at_ns = tick.now.ros_ns
    if tick.target is not None:
        yield at_ns, POLICY_POSE, builder.pose(tick.target.pose, at_ns)
    for reply in tick.replies:
        if (plan := reply.plan) is not None:
            yield at_ns, PLAN, builder.path(plan)


def _command(builder: Builder, contract: Contract, tick: GuardDecision) -> Iterator[tuple[int, str, bytes]]:
    at_ns, motion = tick.now.ros_ns, tick.command
    if motion is None:
        return
    yield at_ns, COMMAND_POSE, builder.pose(motion.pose, at_ns)
    yield at_ns, COMMAND_TWIST, builder.twist(motion.twist, at_ns)
    if motion.gripper is not None:
        yield at_ns, GRIPPER, builder.number(contract.gripper.driver_value(motion.gripper))


class _Statuses:
    """One whenever who is in command, why, or which limits act, changes."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._last: GuardDecision | None = None

    def hear(self, tick: GuardDecision) -> Iterator[tuple[int, str, bytes]]:
        """At the next tick: what there is to say."""
        last, self._last = self._last, tick
        if last is not None and _state(last) == _state(tick):
            return
        is_fault = last is not None and any(interventions((last, tick)))
        level = _ERROR if is_fault else _WARNING if tick.clips else _OK
        values = {"mode": tick.mode, "source": tick.source, "limits that act": ", ".join(tick.clips) or "none"}
        at_ns = tick.now.ros_ns
        yield at_ns, STATUS, self._builder.status("replayed guard", level, tick.text, values, at_ns)


def _heard(contract: Contract, recording: Recording, namespace: str) -> tuple[str, ...]:
    """Topics that policy and guard listen to and that are in the bag."""
    tables = (*policy_table(contract, Needs(())), *guard_table(contract))
    heard = [*(camera.topic for camera in contract.cameras.values()), *(entry.topic for entry in tables)]
    names = dict.fromkeys(full_name(topic, namespace) for topic in heard)
    return tuple(name for name in names if name in recording.types)


def _state(tick: GuardDecision) -> tuple[object, ...]:
    """What of a tick is told when it changes; numbers in brackets change all the time."""
    return tick.mode, tick.source, tick.text.partition(" (")[0], tick.clips


def _when(message: Message) -> int:
    return message.stamp_ns
