"""Every metric by name: of which quantity it is made, how, its unit and its meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.replay.judging.action_errors import DIMENSIONS, UNITS
from vla_ros.replay.judging.interventions import CLIPS, clip_quantity
from vla_ros.replay.judging.samples import Quantities
from vla_ros.types import FloatArray

_SUFFIXES: Mapping[str, Callable[[FloatArray], float]] = {
    "mean": lambda values: float(values.mean()),
    "p5": lambda values: _percentile(values, 5.0),
    "p50": lambda values: _percentile(values, 50.0),
    "p95": lambda values: _percentile(values, 95.0),
    "max": lambda values: float(values.max()),
    "min": lambda values: float(values.min()),
    "sum": lambda values: float(values.sum()),
    "count": lambda values: float(len(values)),
}
_OF_NOTHING = ("sum", "count")
# A sum of reordered numbers differs in its last digits: these come last.
_REORDERING = ("p5", "p50", "p95")


@dataclass(frozen=True)
class Metric:
    """How a number is made. statistic: of the samples of a quantity; what is not measured has no value."""

    name: str
    quantity: str
    statistic: str
    unit: str
    meaning: str

    def of(self, quantities: Quantities) -> float | None:
        """Its value; None where nothing was measured. A count or sum of nothing is 0."""
        return self.of_values(quantities.values(self.quantity)) if self.quantity in quantities.names else None

    def of_values(self, values: FloatArray) -> float | None:
        """The same of its quantity's values, which may be reordered. (N,)"""
        if not len(values):
            return 0.0 if self.statistic in _OF_NOTHING else None
        return _SUFFIXES[self.statistic](values)


def measure(quantities: Quantities) -> Mapping[str, float | None]:
    """Every metric of the catalogue. One quantity after the other is in memory."""
    found: dict[str, float | None] = dict.fromkeys(METRICS)
    for quantity in dict.fromkeys(metric.quantity for metric in METRICS.values()):
        if quantity in quantities.names:
            found |= _metrics_of(quantity, quantities.values(quantity))
    return found


def _metrics_of(quantity: str, values: FloatArray) -> Mapping[str, float | None]:
    metrics = [metric for metric in METRICS.values() if metric.quantity == quantity]
    ordered = sorted(metrics, key=lambda metric: metric.statistic in _REORDERING)
    return {metric.name: metric.of_values(values) for metric in ordered}


def _percentile(values: FloatArray, percent: float) -> float:
    """In place: there may be many values."""
    return float(np.percentile(values, percent, overwrite_input=True))


def _spread(quantity: str, unit: str, meaning: str) -> list[Metric]:
    return [Metric(f"{quantity}_{one}", quantity, one, unit, f"{meaning}: {_WORDS[one]}") for one in _SPREAD]


def _share(name: str, quantity: str, meaning: str) -> Metric:
    return Metric(name, quantity, "mean", "share", meaning)


_SPREAD = ("mean", "p50", "p95", "max")
_WORDS = {"mean": "mean", "p50": "median", "p95": "95th percentile", "max": "largest"}
_BESIDE = "of a chunk's row from what the robot was sent at that instant"
_CLIPPED = "ticks with the policy in command on which the guard's limit on"

_METRICS = [
    *_spread("position_error", "m", f"distance {_BESIDE}"),
    *_spread("rotation_error", "rad", f"angle {_BESIDE}"),
    *_spread("velocity_error", "m/s", f"length of the difference in linear velocity {_BESIDE}"),
    *_spread("angular_velocity_error", "rad/s", f"length of the difference in angular velocity {_BESIDE}"),
    *(
        Metric(f"{name}_error_{one}", f"{name}_error", one, unit, f"size of the {name} error {_BESIDE}: {_WORDS[one]}")
        for name, unit in zip(DIMENSIONS, UNITS, strict=True)
        for one in ("mean", "p95")
    ),
    Metric("compared_rows", "position_error", "count", "rows", "how many rows of chunks could be compared"),
    Metric(
        "direction_agreement",
        "direction_agreement",
        "mean",
        "cosine",
        "mean cosine of the angle between planned and recorded linear velocity, where both exceed 2 cm/s",
    ),
    _share("direction_opposed", "direction_opposed", "those of these rows that lead the other way (cosine below 0)"),
    Metric("gripper_delay_mean", "gripper_delay", "mean", "s", "how much later the gripper switches than recorded"),
    Metric(
        "gripper_delay_p95", "gripper_delay_size", "p95", "s", "how far apart the gripper's switches are, either way"
    ),
    Metric("gripper_missed", "gripper_missed", "count", "switches", "recorded ones without the like within 1 s"),
    Metric("gripper_extra", "gripper_extra", "count", "switches", "replayed ones without the like within 1 s"),
    *_spread("chunk_disagreement", "m", "mean distance of a chunk from the one before it, where both speak"),
    *_spread("target_leap", "m", "distance of the policy's target from where its own velocity led since the last tick"),
    *_spread("command_acceleration", "m/s2", "change of the commanded velocity from tick to tick, after the guard"),
    Metric(
        "smoothness",
        "smoothness",
        "mean",
        "",
        "mean spectral arc length of the commanded motions: below 0, nearer 0 is smoother (Balasubramanian 2015)",
    ),
    *_spread("inference", "s", "time that the policy took for a chunk, as recorded or measured"),
    *_spread("latency", "s", "from the tick that asked to the tick that was answered"),
    *_spread("patience_used", "share", "the same, of the time after which a policy without an answer is silent"),
    *_spread("horizon_used", "share", "part of a chunk's span that is past when it arrives; at 1 the robot stops"),
    Metric("policy_failures", "policy_failures", "count", "answers", "those that were no chunk that can be followed"),
    _share("silent", "silent", "ticks under an instruction on which the policy commanded nothing"),
    _share("stale", "stale", "ticks under an instruction on which an input was missing or too old"),
    _share("lacking", "lacking", "ticks whose live counterpart used a message that is not in the bag"),
    _share("clipped", "clipped", "ticks with the policy in command on which any of the guard's limits acted"),
    *(_share(clip_quantity(clip), clip_quantity(clip), f"{_CLIPPED} {clip} acted") for clip in CLIPS),
    Metric("damaged", "damaged", "count", "bags", "damaged ones, of which all behind the damage was not replayed"),
    Metric("stops", "stops", "count", "stops", "faults for which the guard took the robot from who commanded it"),
    Metric("latches", "latches", "count", "latches", "how often the guard latched"),
    Metric("near_misses", "near_misses", "count", "spans", "nine tenths of what leads to a stop or a latch were used"),
    *_spread("jump_used", "share", "distance from the command to the policy's target, of what latches"),
    *_spread("silence_used", "share", "age of the policy's newest target, of what stops"),
    Metric("workspace_room_p5", "workspace_room", "p5", "m", "to the nearest wall of the workspace: 5th percentile"),
    Metric("workspace_room_min", "workspace_room", "min", "m", "to the nearest wall of the workspace: smallest"),
]
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
