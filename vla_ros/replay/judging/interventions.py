"""What the guard did to the policy's wishes, and how near it came to doing more, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla_ros.contract import Contract, Limits
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_state import Mode
from vla_ros.control.intents import Reason
from vla_ros.control.safety import corners
from vla_ros.replay.decisions import Batch, GuardDecision, PolicyDecision
from vla_ros.replay.judging.samples import Measured, counted, gathered, samples
from vla_ros.rotations import between
from vla_ros.types import NS_PER_S, FloatArray, Pose

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


class Interventions:
    """Clips, stops and latches, and how much of what leads to a stop or latch is used up, over the policy's ticks.

    events: stops for a fault that took the robot from who commanded it, and latches, in time.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._guard: tuple[GuardDecision, ...] = ()
        self._said: tuple[PolicyDecision, ...] = ()
        self.events: list[Event] = []

    def hear(self, batch: Batch) -> Measured:
        """Of these ticks."""
        said = (*self._said, *(tick for tick in batch.policy if tick.target is not None))
        guard = (*self._guard, *batch.guard)
        self._said, self._guard = said[-1:], guard[-1:]
        events = list(interventions(guard))
        self.events += events
        ticks = [tick for tick in batch.guard if tick.source == Source.POLICY.value]
        at_ns = [tick.now.ros_ns for tick in ticks]
        # Where the policy is never in command nobody knows what it would be stopped for: that is not 0 stops.
        taken = _taken(events) if ticks or events else {}
        return {
            "clipped": samples(at_ns, [float(bool(tick.clips)) for tick in ticks]),
            **{clip_quantity(clip): samples(at_ns, [float(clip in tick.clips) for tick in ticks]) for clip in CLIPS},
            **taken,
            **_used(guard, said, self._contract),
        }

    def clock_set_back(self) -> Measured:
        """Nothing: what follows a tick follows it in any time."""
        return {}

    def end(self) -> Measured:
        """Nothing is left."""
        return {}


class NearMisses:
    """Spans of ticks on which nine tenths of what leads to a stop or latch was used up, each once, where it began."""

    def __init__(self) -> None:
        self._found: dict[str, list[Event]] = {name: [] for name, _ in _LEADING}
        self._were_near = dict.fromkeys(self._found, False)

    @property
    def events(self) -> list[Event]:
        """By cause, in time."""
        return [event for events in self._found.values() for event in events]

    def among(self, measured: Measured) -> Measured:
        """Those in what was measured next; nothing where there are none and the policy was not in command."""
        begun = [event for name, cause in _LEADING for event in self._begun(name, cause, measured)]
        in_command = measured.get("silence_used")
        if not begun and (in_command is None or not len(in_command.values)):
            return {}
        return {"near_misses": counted(event.at_ns for event in begun)}

    def _begun(self, name: str, cause: str, measured: Measured) -> Sequence[Event]:
        used = measured.get(name)
        if used is None or not len(used.values):
            return ()
        near = used.values >= NEAR
        begins = near & ~np.append(self._were_near[name], near[:-1])
        self._were_near[name] = bool(near[-1])
        found = [Event(at_ns, "near miss", cause) for at_ns in used.at_ns[begins].tolist()]
        self._found[name] += found
        return found


def clip_quantity(clip: str) -> str:
    """The name of a limit as a quantity: "workspace" -> "clipped_workspace"."""
    return f"clipped_{clip.replace(' ', '_')}"


def interventions(guard: Iterable[GuardDecision]) -> Iterator[Event]:
    """What the guard did at each tick but the first."""
    for before, tick in pairwise(guard):
        if tick.mode == Mode.LATCHED.value and before.mode != Mode.LATCHED.value:
            yield Event(tick.now.ros_ns, "latch", _detail(tick.text))
        elif before.source != Source.NOBODY.value and (reason := _fault(tick)) is not None:
            yield Event(tick.now.ros_ns, "stop", reason.value)


def by_cause(events: Iterable[Event]) -> Mapping[str, int]:
    """ "kind: cause" -> how often, the most frequent first."""
    return dict(Counter(f"{event.kind}: {event.cause}" for event in events).most_common())


def _taken(events: Sequence[Event]) -> Measured:
    return {
        "stops": counted(event.at_ns for event in events if event.kind == "stop"),
        "latches": counted(event.at_ns for event in events if event.kind == "latch"),
    }


def _used(guard: Sequence[GuardDecision], said: Sequence[PolicyDecision], contract: Contract) -> Measured:
    followed = list(_followed(guard, said))
    sent = [(tick.now.ros_ns, tick.command.pose) for _, tick, _ in followed if tick.command is not None]
    wanted = [
        (tick.now.ros_ns, before.command.pose, heard.target.pose)
        for before, tick, heard in followed
        if before.command is not None and heard.target is not None
    ]
    silences = [
        (tick.now.ros_ns, (tick.now.steady_ns - heard.now.steady_ns) / NS_PER_S / contract.timeouts.policy_s)
        for _, tick, heard in followed
    ]
    commanded, targets = [pose for _, pose, _ in wanted], [pose for _, _, pose in wanted]
    return {
        "jump_used": samples([at_ns for at_ns, _, _ in wanted], _jumps_used(commanded, targets, contract.limits)),
        "silence_used": gathered(silences),
        "workspace_room": samples([at_ns for at_ns, _ in sent], _rooms_m([pose for _, pose in sent], contract)),
    }


def _followed(
    guard: Sequence[GuardDecision], said: Sequence[PolicyDecision]
) -> Iterator[tuple[GuardDecision, GuardDecision, PolicyDecision]]:
    """The guard's ticks that follow the policy, each with the one before and what the policy had said by then."""
    said_ns = np.array([tick.now.steady_ns for tick in said], np.int64)
    for before, tick in pairwise(guard):
        index = int(np.searchsorted(said_ns, tick.now.steady_ns, side="right")) - 1
        if tick.source == Source.POLICY.value and index >= 0:
            yield before, tick, said[index]


def _jumps_used(commanded: Sequence[Pose], targets: Sequence[Pose], limits: Limits) -> FloatArray:
    """Of each pair. -> (N,)"""
    metres = np.linalg.norm(_positions(commanded) - _positions(targets), axis=1)
    radians = np.linalg.norm(between(_quaternions(commanded), _quaternions(targets)), axis=1)
    return np.asarray(np.maximum(metres / limits.max_target_jump_m, radians / limits.max_target_jump_rad))


def _rooms_m(poses: Sequence[Pose], contract: Contract) -> FloatArray:
    """To the nearest wall of the workspace, less than 0 outside [m]. -> (N,)"""
    low, high = corners(contract.limits.workspace_m)
    positions = _positions(poses)
    return np.asarray(np.minimum(positions - low, high - positions).min(axis=1))


def _positions(poses: Sequence[Pose]) -> FloatArray:
    return np.array([pose.position for pose in poses]).reshape(-1, 3)


def _quaternions(poses: Sequence[Pose]) -> FloatArray:
    return np.array([pose.quaternion for pose in poses]).reshape(-1, 4)


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
