"""The guard's side of a replay: its step, and the way of the policy's outputs to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.arbiter import Decision
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_state import GuardConfig, GuardState, Mode
from vla_ros.control.intents import Reason, Stop
from vla_ros.control.joining import taken_apart
from vla_ros.control.policy_state import PolicyOutput
from vla_ros.control.streams import Streams
from vla_ros.interface.reading import unit_pose
from vla_ros.replay.decision_log import read_motion
from vla_ros.replay.decisions import GuardDecision
from vla_ros.types import Json, Now, Sample, Target

_UNDER_WAY_NS = 1_000_000
_KEPT = 512


class GuardPlayer:
    """Plays the guard node, tick by tick."""

    def __init__(self, contract: Contract, is_shadow: bool = False) -> None:
        self._config = GuardConfig(contract, is_shadow)
        self._state = GuardState()

    @property
    def mode(self) -> Mode:
        """After the last tick."""
        return self._state.mode

    def begin(self, trace: Json) -> None:
        """Take over where a node was before its tick of this trace: at its first tick, or where the bag begins."""
        self._config = replace(self._config, shadow=trace["shadow"])
        self._state = GuardState() if trace["tick"] == 1 else _state_after(trace)

    def tick(self, inputs: Sequence[Sample[Any]], now: Now, missing: Sequence[str] = ()) -> GuardDecision:
        """One tick. missing: for the decision."""
        result = guard_step(self._state, inputs, now, self._config)
        self._state = result.state
        return GuardDecision(
            now=now,
            dt_s=result.dt_s,
            mode=result.state.mode.value,
            source=result.state.decision.source.value,
            text=result.text,
            clips=tuple(result.clips),
            command=result.command,
            missing=tuple(missing),
        )


def _state_after(trace: Json) -> GuardState:
    """What a tick's trace tells of the state behind it. What was heard before is told only of the instruction."""
    now = Now(trace["ros_ns"], trace["steady_ns"])
    motion = None if trace["command"] is None else read_motion(trace["command"])
    return GuardState(
        streams=instructed(trace["instruction"], now),
        mode=trace["mode"],
        motion=motion,
        is_sending=motion is not None,
        is_gripper_commanded=motion is not None and motion.gripper is not None,
        decision=Decision(trace["source"], Stop(Reason.POLICY_AWAITED)),
        reobserve_after_ns=trace["reobserve_after_ns"],
    )


def instructed(instruction: str | None, now: Now) -> Streams:
    """Streams of somebody who knows of an instruction and of nothing else."""
    if instruction is None:
        return Streams()
    return Streams({channels.COMMAND: (Sample(channels.COMMAND, instruction, None, now.steady_ns),)})


class Mail:
    """The policy's outputs on their way to the guard.

    Where the bag tells when the guard heard a set, it hears the replayed one then; a set that the live policy did not
    send is under way for as long as the last one that it did send, and for a millisecond where none is known.
    """

    def __init__(self) -> None:
        self._sent: dict[int, tuple[int, dict[str, Sample[Any]]]] = {}
        self._unsolicited: deque[tuple[int, tuple[Sample[Any], ...]]] = deque()
        self._took_ns = _UNDER_WAY_NS

    def send(self, output: PolicyOutput | None, now: Now, was_sent_live: bool) -> None:
        """What the policy says at a tick. was_sent_live: whether the recorded policy spoke at this tick, too."""
        parts = () if output is None else taken_apart(_as_heard(output), now.steady_ns)
        if not self._sent.get(now.ros_ns, (0, {}))[1]:  # of two sets with one stamp the first counts, as live
            self._sent[now.ros_ns] = (now.steady_ns, {part.channel: part for part in parts})
        if len(self._sent) > _KEPT:
            del self._sent[next(iter(self._sent))]
        if parts and not was_sent_live:
            self._unsolicited.append((now.steady_ns, parts))

    def heard(self, channel: str, stamp_ns: int, received_ns: int) -> tuple[Sample[Any] | None, bool]:
        """The replayed part in place of one that the live guard heard, None where the policy was silent; and whether
        the policy's tick is known at all."""
        if stamp_ns not in self._sent:
            return None, False
        sent_ns, parts = self._sent[stamp_ns]
        self._took_ns = max(0, received_ns - sent_ns)
        part = parts.get(channel)
        return None if part is None else Sample(channel, part.value, stamp_ns, received_ns), True

    def due(self, now: Now) -> list[Sample[Any]]:
        """Sets that the live policy did not send and that the guard hears by now."""
        arrived: list[Sample[Any]] = []
        while self._unsolicited and self._unsolicited[0][0] + self._took_ns <= now.steady_ns:
            sent_ns, parts = self._unsolicited.popleft()
            received_ns = sent_ns + self._took_ns
            arrived += [Sample(part.channel, part.value, part.stamp_ns, received_ns) for part in parts]
        return arrived


def _as_heard(output: PolicyOutput) -> PolicyOutput:
    """The same, to the last bit as who hears it reads it from its messages."""
    target = output.target
    pose = unit_pose(target.pose.position, target.pose.quaternion)
    return PolicyOutput(output.stamp_ns, Target(pose, target.twist, target.gripper), output.provenance)
