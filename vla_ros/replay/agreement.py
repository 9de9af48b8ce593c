"""Do live and replay agree? Tick by tick, what the bag's traces say against what the replay decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import sub

from vla_ros.control import channels
from vla_ros.control.chunks import make_row
from vla_ros.control.safety import Motion
from vla_ros.replay.decisions import GuardDecision, PolicyDecision
from vla_ros.types import NS_PER_S, Json, Now, is_hold

TOLERANCE = 1e-6
"""Of commanded numbers, in their own units."""
# What goes on from commands that differ by less stays within the tolerance.
_SAME = 1e-9
# How many of the policy's last outputs are remembered: more than a guard lags behind.
_KEPT = 512
# A policy's streams hold a second, see `policy_tick`.
_FORGOTTEN_NS = NS_PER_S

_Row = Sequence[float] | None


@dataclass(frozen=True)
class Tally:
    """Ticks of one node. complete: those of which everything that decided them is in the bag, be it that they used it
    themselves or that a tick before them did; agreeing: those of these that decided alike.

    first_difference: in words; empty where all complete ones agree.
    """

    ticks: int = 0
    complete: int = 0
    agreeing: int = 0
    first_difference: str = ""


class Agreement:
    """Counts what agrees, and remembers what differed first."""

    def __init__(self) -> None:
        self.policy = Tally()
        self.guard = Tally()
        self._policy_lacks, self._guard_lacks = _PolicyLack(), _GuardLack()

    def tallies(self) -> Json:
        """For the results."""
        return {"policy": asdict(self.policy), "guard": asdict(self.guard)}

    def count(self, trace: Json, decision: PolicyDecision | GuardDecision) -> None:
        """Compare a tick. Ticks come in order."""
        if isinstance(decision, PolicyDecision):
            differences = list(_policy_differences(trace, decision))
            is_complete = self._policy_lacks.is_over(trace, decision)
            if not is_complete:
                self._guard_lacks.remember(decision)
            self.policy = _counted(self.policy, decision, differences, is_complete)
        else:
            differences = list(_guard_differences(trace, decision))
            is_same = not differences and _distance(*_command_rows(trace, decision)) <= _SAME
            is_complete = self._guard_lacks.is_over(trace, decision, is_same)
            self.guard = _counted(self.guard, decision, differences, is_complete)


class _PolicyLack:
    """What is missing reaches the answers that were made from it, and where the policy remembers, those after them.

    It is over with a chunk about something newer that is what it was live, or when the policy has been told to rest and
    what it saw before is forgotten. While it rests nothing but the instruction decides.
    """

    def __init__(self) -> None:
        self._since: Now | None = None
        self._has_begun = False

    def is_over(self, trace: Json, decision: PolicyDecision) -> bool:
        """Whether everything is there that decided this tick."""
        is_late_begin = not self._has_begun and trace["tick"] > 1
        self._has_begun = True
        lacks_now = bool(decision.missing) or is_late_begin
        if lacks_now:
            self._since = decision.now
        elif self._since is not None and self._is_past(self._since, trace, decision):
            self._since = None
        return self._since is None or (not lacks_now and _is_at_rest(trace) and not trace["replies"])

    def _is_past(self, since: Now, trace: Json, decision: PolicyDecision) -> bool:
        is_forgotten = decision.now.steady_ns - since.steady_ns > _FORGOTTEN_NS
        if is_forgotten and _is_at_rest(trace):
            return True
        lived = {_reply_words(entry) for entry in trace["replies"]}
        return any(
            reply.chunk is not None
            and (reply.t_obs_ns or 0) >= since.ros_ns
            and (reply.observation_sha256, reply.chunk_sha256, reply.failed) in lived
            for reply in decision.replies
        )


class _GuardLack:
    """What is missing reaches the motion that goes on from it: until a tick decides what it decided live."""

    def __init__(self) -> None:
        self._is_lacking: bool | None = None
        self._incomplete_ns: dict[int, None] = {}

    def remember(self, decision: PolicyDecision) -> None:
        """What the policy said at this tick was not made from what it was made from live."""
        self._incomplete_ns[decision.now.ros_ns] = None
        if len(self._incomplete_ns) > _KEPT:
            del self._incomplete_ns[next(iter(self._incomplete_ns))]

    def is_over(self, trace: Json, decision: GuardDecision, is_same: bool) -> bool:
        """Whether everything is there that decided this tick."""
        if self._is_lacking is None:
            self._is_lacking = trace["tick"] > 1
        has_heard = self._incomplete_ns and any(
            entry["channel"] == channels.POLICY_PROVENANCE and entry["stamp_ns"] in self._incomplete_ns
            for entry in trace["inputs"]
        )
        if decision.missing or has_heard:
            self._is_lacking = True
        elif is_same:
            self._is_lacking = False
        return not self._is_lacking


def _is_at_rest(trace: Json) -> bool:
    """Whether a policy follows nothing and waits for nothing."""
    instruction = trace["instruction"]
    return trace["in_flight"] is None and (instruction is None or is_hold(instruction))


def _counted(
    tally: Tally, decision: PolicyDecision | GuardDecision, differences: list[str], is_complete: bool
) -> Tally:
    first = tally.first_difference
    if is_complete and differences and not first:
        first = f"at {decision.now.ros_ns / 1e9:.4f} s: {'; '.join(differences)}"
    agreeing = tally.agreeing + (is_complete and not differences)
    return Tally(tally.ticks + 1, tally.complete + is_complete, agreeing, first)


def _policy_differences(trace: Json, decision: PolicyDecision) -> Iterator[str]:
    lived = [_reply_words(entry) for entry in trace["replies"]]
    replayed = [(reply.observation_sha256, reply.chunk_sha256, reply.failed) for reply in decision.replies]
    if len(lived) != len(replayed):
        yield f"{len(lived)} replies live, {len(replayed)} replayed"
    for live, again in zip(lived, replayed, strict=False):
        names = ("the observation", "the chunk", "the failure")
        yield from (f"{name} differs" for name, one, other in zip(names, live, again, strict=True) if one != other)
    requested = None if trace["request"] is None else trace["request"]["t_obs_ns"]
    if requested != decision.requested_t_obs_ns:
        yield f"asked about {requested} live, about {decision.requested_t_obs_ns} replayed"
    if trace["text"] != decision.text:
        yield f"{trace['text']!r} live, {decision.text!r} replayed"
    row = None if decision.target is None else make_row(decision.target).tolist()
    yield from _row_differences(trace["output"], row)


def _reply_words(entry: Json) -> tuple[str, str, str]:
    if "died" in entry:
        return "", "", entry["died"]
    return entry["observation_sha256"], entry.get("chunk_sha256", ""), entry.get("failed", "")


def _guard_differences(trace: Json, decision: GuardDecision) -> Iterator[str]:
    for name, live, again in (
        ("mode", trace["mode"].value, decision.mode),
        ("source", trace["source"].value, decision.source),
        ("text", trace["text"], decision.text),
        ("clips", tuple(trace["clips"]), decision.clips),
    ):
        if live != again:
            yield f"{name} {live!r} live, {again!r} replayed"
    yield from _row_differences(*_command_rows(trace, decision))


def _command_rows(trace: Json, decision: GuardDecision) -> tuple[_Row, _Row]:
    live = None if trace["command"] is None else _row_of_trace(trace["command"])
    return live, None if decision.command is None else _row_of_motion(decision.command)


def _row_differences(live: _Row, again: _Row) -> Iterator[str]:
    distance = _distance(live, again)
    if distance == math.inf:
        yield "commanded only live" if again is None else "commanded only in the replay"
    elif not distance <= TOLERANCE:
        yield f"commands differ by {distance:.3g}"


def _distance(live: _Row, again: _Row) -> float:
    """The largest difference of two numbers; infinite where only one commands."""
    if live is None or again is None:
        return 0.0 if live is again else math.inf
    distance: float = max(map(abs, map(sub, live, again)))
    return distance


def _row_of_trace(command: Json) -> list[float]:
    gripper = -1.0 if command["gripper"] is None else command["gripper"]
    return [*command["position"], *command["quaternion"], *command["linear"], *command["angular"], gripper]


def _row_of_motion(motion: Motion) -> list[float]:
    pose, twist = motion.pose, motion.twist
    gripper = -1.0 if motion.gripper is None else motion.gripper
    return [
        *pose.position.tolist(),
        *pose.quaternion.tolist(),
        *twist.linear.tolist(),
        *twist.angular.tolist(),
        gripper,
    ]
