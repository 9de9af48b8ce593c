"""One replayed bag, measured: all quantities, and what the guard and the policy were hindered by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_ros.contract import Contract
from vla_ros.replay.decisions import Decision, GuardDecision, Instructed, PolicyDecision, by_kind
from vla_ros.replay.judging.action_errors import ActionErrors, over_horizon
from vla_ros.replay.judging.catalogue import measure
from vla_ros.replay.judging.chunk_consistency import ChunkConsistency
from vla_ros.replay.judging.gripper import GripperTiming
from vla_ros.replay.judging.interventions import Event, Interventions, NearMisses, by_cause
from vla_ros.replay.judging.meter import Meter
from vla_ros.replay.judging.samples import Measured, counted
from vla_ros.replay.judging.spool import Spool
from vla_ros.replay.judging.timing import Timing
from vla_ros.types import Now

_MOST_AT_ONCE = 10
"""Batches' worth of decisions."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was measured of one replay.

    ticks: of policy and guard, how many. begin_ns: ROS time of the first tick, 0 without any. events: what the guard
    did, then near misses. horizon: of `over_horizon`; the causes: words -> how often.
    """

    quantities: Spool
    ticks: Mapping[str, int]
    begin_ns: int
    events: tuple[Event, ...]
    horizon: Sequence[Mapping[str, float | None]]
    silences: Mapping[str, int]
    stale: Mapping[str, int]

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Every metric by name; None where nothing was measured."""
        return measure(self.quantities)

    @property
    def interventions(self) -> Mapping[str, int]:
        """How often the guard did what, or nearly."""
        return by_cause(self.events)


class Judge:
    """Measures a replay while it goes on. Of a longer one it holds no more in memory, but at the end, one at a time,
    the values of each quantity: 4 MB for 20 minutes.

    folder: where samples are until then, see `Spool`. batch: how many decisions are measured at once.
    """

    def __init__(self, contract: Contract, folder: Path | None = None, batch: int = 1000) -> None:
        self._spool, self._batch = Spool(folder), batch
        self._timing, self._interventions, self._near = Timing(contract), Interventions(contract), NearMisses()
        self._meters: tuple[Meter, ...] = (
            ActionErrors(contract),
            GripperTiming(),
            ChunkConsistency(contract),
            self._timing,
            self._interventions,
        )
        self._waiting: list[Decision] = []
        self._firsts_ns: dict[str, int] = {}
        self._ros_ns: dict[str, int] = {}
        self._steady_ns = 0
        self._ticks = {"policy": 0, "guard": 0}

    def hear(self, decision: Decision) -> None:
        """The next one. Raises ReplayError where what is measured cannot be written."""
        if isinstance(decision, Instructed):
            self._go_on("policy", decision.ros_ns)
        elif isinstance(decision, PolicyDecision):
            self._tick("policy", decision.now)
        elif isinstance(decision, GuardDecision):
            self._tick("guard", decision.now)
        self._waiting.append(decision)

    def end(self, damage: str | None = None) -> Judgement:
        """After the last one. damage: of the bag, None of a sound one. Raises ReplayError."""
        self._hear_waiting()
        for meter in self._meters:
            self._keep(meter.end())
        last_ns = max(self._ros_ns.values(), default=0)
        self._keep({"damaged": counted([] if damage is None else [last_ns])})
        return Judgement(
            quantities=self._spool,
            ticks=self._ticks,
            begin_ns=min(self._firsts_ns.values(), default=0),
            events=(*self._interventions.events, *self._near.events),
            horizon=over_horizon(self._spool),
            silences=dict(self._timing.silences.most_common()),
            stale=dict(self._timing.stale.most_common()),
        )

    def _tick(self, node: str, now: Now) -> None:
        # What is of one instant stays together, unless ROS time stands still for long.
        is_next = now.steady_ns > self._steady_ns and now.ros_ns > max(self._ros_ns.values(), default=-1)
        if len(self._waiting) >= (1 if is_next else _MOST_AT_ONCE) * self._batch:
            self._hear_waiting()
        self._go_on(node, now.ros_ns)
        self._ticks[node] += 1
        self._firsts_ns.setdefault(node, now.ros_ns)
        self._steady_ns = now.steady_ns

    def _go_on(self, node: str, ros_ns: int) -> None:
        """Policy and guard hear of a clock that was set back one after the other."""
        if ros_ns < self._ros_ns.get(node, ros_ns):
            self._hear_waiting()
            for meter in self._meters:
                self._keep(meter.clock_set_back())
        self._ros_ns[node] = ros_ns

    def _hear_waiting(self) -> None:
        batch = by_kind(self._waiting)
        self._waiting = []
        for meter in self._meters:
            self._keep(meter.hear(batch))

    def _keep(self, measured: Measured) -> None:
        self._spool.add(measured)
        self._spool.add(self._near.among(measured))


def judge(
    contract: Contract, decisions: Iterable[Decision], folder: Path | None = None, damage: str | None = None
) -> Judgement:
    """Measure everything. Without commands, chunks or ticks there are metrics without values.

    folder: see `Spool`; damage: see `Judge.end`.
    """
    judging = Judge(contract, folder)
    for decision in decisions:
        judging.hear(decision)
    return judging.end(damage)
