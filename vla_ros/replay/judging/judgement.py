"""One replayed bag, measured: all quantities, and what the guard and the policy were hindered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.action_errors import compare, error_by_chunk, error_quantities, over_horizon
from vla_ros.replay.judging.catalogue import measure
from vla_ros.replay.judging.chunk_consistency import consistency_quantities
from vla_ros.replay.judging.gripper import gripper_quantities
from vla_ros.replay.judging.interventions import by_cause, intervention_quantities, interventions, near_misses
from vla_ros.replay.judging.samples import Quantities
from vla_ros.replay.judging.timing import silence_causes, stale_inputs, timing_quantities


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was measured of one replay. horizon: of `over_horizon`; the causes: words -> how often."""

    quantities: Quantities
    horizon: Sequence[Mapping[str, float | None]]
    interventions: Mapping[str, int]
    silences: Mapping[str, int]
    stale: Mapping[str, int]

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Every metric by name; None where nothing was measured."""
        return measure(self.quantities)


def judge(replayed: Replayed) -> Judgement:
    """Measure everything. Replays without commands, chunks or ticks give metrics without values."""
    compared = compare(replayed)
    quantities = {
        **error_quantities(compared),
        "chunk_error": error_by_chunk(compared),
        **gripper_quantities(replayed),
        **consistency_quantities(replayed),
        **timing_quantities(replayed),
        **intervention_quantities(replayed),
    }
    return Judgement(
        quantities=quantities,
        horizon=over_horizon(compared),
        interventions=by_cause((*interventions(replayed), *near_misses(replayed))),
        silences=silence_causes(replayed),
        stale=stale_inputs(replayed),
    )
