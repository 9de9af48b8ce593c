"""Do live and replay agree? Tick by tick, what the bag's traces say against what the replay decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla_ros.control.chunks import make_row
from vla_ros.control.safety import Motion
from vla_ros.replay.decisions import GuardDecision, PolicyDecision
from vla_ros.types import Json

TOLERANCE = 1e-6
"""Of commanded numbers, in their own units."""


@dataclass(frozen=True)
class Tally:
    """Ticks of one node. complete: those whose inputs are all in the bag; agreeing: those of these that decided alike.

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

    def count(self, trace: Json, decision: PolicyDecision | GuardDecision) -> None:
        """Compare a tick."""
        if isinstance(decision, PolicyDecision):
            self.policy = _counted(self.policy, decision, list(_policy_differences(trace, decision)))
        else:
            self.guard = _counted(self.guard, decision, list(_guard_differences(trace, decision)))


def _counted(tally: Tally, decision: PolicyDecision | GuardDecision, differences: list[str]) -> Tally:
    is_complete = not decision.missing
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
    yield from _row_differences(trace["output"], None if decision.target is None else make_row(decision.target))


def _reply_words(entry: Json) -> tuple[str, str, str]:
    if "died" in entry:
        return "", "", entry["died"]
    return entry["observation_sha256"], entry.get("chunk_sha256", ""), entry.get("failed", "")


def _guard_differences(trace: Json, decision: GuardDecision) -> Iterator[str]:
    for name, live, again in (
        ("mode", trace["mode"], decision.mode),
        ("source", trace["source"], decision.source),
        ("text", trace["text"], decision.text),
        ("clips", tuple(trace["clips"]), decision.clips),
    ):
        if live != again:
            yield f"{name} {live!r} live, {again!r} replayed"
    live_row = None if trace["command"] is None else _row_of_trace(trace["command"])
    yield from _row_differences(live_row, None if decision.command is None else _row_of_motion(decision.command))


def _row_differences(live: object, again: object) -> Iterator[str]:
    if (live is None) != (again is None):
        yield "commanded only live" if again is None else "commanded only in the replay"
    elif live is not None:
        difference = float(np.abs(np.asarray(live, float) - np.asarray(again, float)).max())
        if not difference <= TOLERANCE:
            yield f"commands differ by {difference:.3g}"


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
