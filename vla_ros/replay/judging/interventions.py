"""What the guard did to the policy's wishes, and how near it came to doing more, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from vla_ros.contract import Contract, Limits
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_state import Mode
from vla_ros.control.intents import Reason
from vla_ros.control.safety import corners, distance
from vla_ros.replay.decisions import GuardDecision, PolicyDecision, Replayed
from vla_ros.replay.judging.samples import Quantities, Samples, gathered, samples
from vla_ros.replay.judging.timing import patience_used
from vla_ros.types import NS_PER_S, Pose

CLIPS = (
    "linear velocity",
    "linear acceleration",
    "angular velocity",
    "angular acceleration",
    "workspace",
    "gripper rate",
)
# Of what a stop or a latch would take. A limit that only clips is met all the time and has no near miss.
NEAR = 0.9
_LEADING = (
    ("jump_used", "the target is far from the command"),
    ("silence_used", "the policy is silent"),
    ("patience_used", "an answer is late"),
)


@dataclass(frozen=True)
class Event:
    """Something that the guard did: at ROS time; kind: "stop", "latch", or "near miss"; cause: in words."""

    at_ns: int
    kind: str
    cause: str


def intervention_quantities(replayed: Replayed) -> Quantities:
    """Clips, stops and latches, and how much of what leads to a stop or latch is used up, over the policy's ticks."""
    ticks = [tick for tick in replayed.guard if tick.source == Source.POLICY.value]
    at_ns = [tick.now.ros_ns for tick in ticks]
    events = interventions(replayed)
    misses = near_misses(replayed)
    return {
        "clipped": samples(at_ns, [float(bool(tick.clips)) for tick in ticks]),
        **{clip_quantity(clip): samples(at_ns, [float(clip in tick.clips) for tick in ticks]) for clip in CLIPS},
        "stops": _counted([event for event in events if event.kind == "stop"]),
        "latches": _counted([event for event in events if event.kind == "latch"]),
        "near_misses": _counted(misses),
        **_used(replayed),
    }


def clip_quantity(clip: str) -> str:
    """The name of a limit as a quantity: "workspace" -> "clipped_workspace"."""
    return f"clipped_{clip.replace(' ', '_')}"


def interventions(replayed: Replayed) -> tuple[Event, ...]:
    """Stops for a fault that took the robot from who commanded it, and latches, in time."""
    found = []
    for before, tick in pairwise(replayed.guard):
        if tick.mode == Mode.LATCHED.value and before.mode != Mode.LATCHED.value:
            found.append(Event(tick.now.ros_ns, "latch", _detail(tick.text)))
        elif before.source != Source.NOBODY.value and (reason := _fault(tick)) is not None:
            found.append(Event(tick.now.ros_ns, "stop", reason.value))
    return tuple(found)


def near_misses(replayed: Replayed) -> tuple[Event, ...]:
    """Spans of ticks on which nine tenths of what leads to a stop or latch was used up, each once, where it began."""
    used = {**_used(replayed), "patience_used": patience_used(replayed)}
    return tuple(Event(at_ns, "near miss", cause) for name, cause in _LEADING for at_ns in _begins(used[name]))


def by_cause(events: tuple[Event, ...]) -> Mapping[str, int]:
    """ "kind: cause" -> how often, the most frequent first."""
    return dict(Counter(f"{event.kind}: {event.cause}" for event in events).most_common())


def _used(replayed: Replayed) -> Quantities:
    contract = replayed.contract
    jumps, silences, rooms = [], [], []
    for before, tick, said in _followed(replayed):
        at_ns = tick.now.ros_ns
        if before.command is not None and said.target is not None:
            jumps.append((at_ns, _jump_used(before.command.pose, said.target.pose, contract.limits)))
        silences.append((at_ns, (tick.now.steady_ns - said.now.steady_ns) / NS_PER_S / contract.timeouts.policy_s))
        if tick.command is not None:
            rooms.append((at_ns, _room_m(tick.command.pose, contract)))
    return {
        "jump_used": gathered(jumps),
        "silence_used": gathered(silences),
        "workspace_room": gathered(rooms),
    }


def _followed(replayed: Replayed) -> Iterator[tuple[GuardDecision, GuardDecision, PolicyDecision]]:
    """The guard's ticks that follow the policy, each with the one before and what the policy had said by then."""
    said = [tick for tick in replayed.policy if tick.target is not None]
    said_ns = np.array([tick.now.steady_ns for tick in said], np.int64)
    for before, tick in pairwise(replayed.guard):
        index = int(np.searchsorted(said_ns, tick.now.steady_ns, side="right")) - 1
        if tick.source == Source.POLICY.value and index >= 0:
            yield before, tick, said[index]


def _jump_used(commanded: Pose, target: Pose, limits: Limits) -> float:
    metres, radians = distance(commanded, target)
    return max(metres / limits.max_target_jump_m, radians / limits.max_target_jump_rad)


def _room_m(pose: Pose, contract: Contract) -> float:
    """To the nearest wall of the workspace, less than 0 outside [m]."""
    low, high = corners(contract.limits.workspace_m)
    return float(np.minimum(pose.position - low, high - pose.position).min())


def _begins(used: Samples) -> list[int]:
    near = zip(used.at_ns.tolist(), (used.values >= NEAR).tolist(), strict=True)
    return [next(span)[0] for is_near, span in groupby(near, key=lambda pair: pair[1]) if is_near]


def _counted(events: tuple[Event, ...] | list[Event]) -> Samples:
    return samples([event.at_ns for event in events], [1.0] * len(events))


def _fault(tick: GuardDecision) -> Reason | None:
    """Why nobody is in command, if that is a fault: of "nobody in command: REASON (DETAIL)"."""
    words = tick.text.partition(": ")[2]
    if tick.source != Source.NOBODY.value:
        return None
    return next((reason for reason in Reason if reason.is_fault and words.startswith(reason.value)), None)


def _detail(text: str) -> str:
    """What is in the brackets at the end; all of it without any."""
    detail = text.partition(" (")[2]
    return detail.removesuffix(")") or text
