"""How long inference takes, in ticks of the simulated robot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.pool import Pool
from vla_ros.learning.evaluation.trials import Order, Trial
from vla_ros.policy.metaworld_action import CONTROL_DT_S

_WARM_UP, _STEPS = 3, 240


def given_latency(latency_s: float) -> Mapping[str, Any]:
    """What the user says it is."""
    return {"source": "given", "p50_ms": 1e3 * latency_s, "inference_ticks": ticks(latency_s)}


def measured_latency(pool: Pool, trial: Trial, workers: int) -> Mapping[str, Any]:
    """Let all workers run the same three seconds at once, and time the policy. Raises LearningError."""
    outcomes = pool.each(Order(dataclasses.replace(trial, suite="latency"), _STEPS, 1))
    times_ms = [time_ms for outcome in outcomes for time_ms in outcome.inference_ms[_WARM_UP:]]
    if not times_ms:
        raise LearningError("the policy was asked too seldom to time it; give its latency with --latency SECONDS")
    quantiles = quantiles_ms(times_ms)
    return {
        "source": f"measured here, workers side by side: {workers}",
        **quantiles,
        "inference_ticks": ticks(quantiles["p50_ms"] / 1e3),
    }


def ticks(latency_s: float) -> int:
    """Steps of 12.5 ms until a reply counts: at the first tick after it, and never at the one that asked."""
    return max(1, math.ceil(latency_s / CONTROL_DT_S - 1e-9))


def quantiles_ms(times_ms: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and most."""
    p50, p95, most = np.percentile(times_ms, [50, 95, 100]).round(2).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "max_ms": most}
