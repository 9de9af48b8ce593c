"""One replayed bag, measured: all quantities, and what the guard and the policy were hindered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_ros.contract import Contract
from vla_ros.replay.decisions import Batch, Decision, GuardDecision, PolicyDecision, Replayed, by_kind
from vla_ros.replay.judging.action_errors import ActionErrors, over_horizon
from vla_ros.replay.judging.catalogue import measure
from vla_ros.replay.judging.chunk_consistency import ChunkConsistency
from vla_ros.replay.judging.gripper import GripperTiming
from vla_ros.replay.judging.interventions import Event, Interventions, NearMisses, by_cause
from vla_ros.replay.judging.meter import Meter
from vla_ros.replay.judging.samples import Quantities
from vla_ros.replay.judging.spool import Spool
from vla_ros.replay.judging.timing import Timing

# Decisions that are measured at once: some seconds of a robot.
_BATCH = 2000


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
    """Measures a replay while it goes on, and needs no more memory for a longer one. folder: see `Spool`."""

    def __init__(self, contract: Contract, folder: Path | None = None) -> None:
        self._spool = Spool(folder)
        self._timing, self._interventions, self._near = Timing(contract), Interventions(contract), NearMisses()
        self._meters: tuple[Meter, ...] = (
            ActionErrors(contract),
            GripperTiming(),
            ChunkConsistency(contract),
            self._timing,
            self._interventions,
        )
        self._waiting: list[Decision] = []
        self._steady_ns = 0
        self._begin_ns: int | None = None
        self._ticks = {"policy": 0, "guard": 0}

    def hear(self, decision: Decision) -> None:
        """The next one. Raises ReplayError where what is measured cannot be written."""
        if isinstance(decision, PolicyDecision | GuardDecision):
            # Ticks of one instant stay together: what the policy says at it, the guard has heard.
            if len(self._waiting) >= _BATCH and decision.now.steady_ns > self._steady_ns:
                self._hear_waiting()
            self._steady_ns = decision.now.steady_ns
        self._waiting.append(decision)

    def hear_all(self, batch: Batch) -> None:
        """The next ones, at once."""
        self._ticks["policy"] += len(batch.policy)
        self._ticks["guard"] += len(batch.guard)
        if self._begin_ns is None:
            self._begin_ns = min(batch.ticks_ns, default=None)
        for meter in self._meters:
            self._keep(meter.hear(batch))

    def end(self) -> Judgement:
        """After the last one."""
        self._hear_waiting()
        for meter in self._meters:
            self._keep(meter.end())
        return Judgement(
            quantities=self._spool,
            ticks=self._ticks,
            begin_ns=self._begin_ns or 0,
            events=(*self._interventions.events, *self._near.events),
            horizon=over_horizon(self._spool),
            silences=dict(self._timing.silences.most_common()),
            stale=dict(self._timing.stale.most_common()),
        )

    def _hear_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.hear_all(by_kind(waiting))

    def _keep(self, measured: Quantities) -> None:
        self._spool.add(measured)
        self._spool.add(self._near.among(measured))


def judge(replayed: Replayed) -> Judgement:
    """Measure everything. Replays without commands, chunks or ticks give metrics without values."""
    judge = Judge(replayed.contract)
    judge.hear_all(replayed)
    return judge.end()
