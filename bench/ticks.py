"""How exactly guard and policy tick while the loop runs, beside a bare rclpy node with one timer of the same rate.

A period is the steady time between two ticks; its error is how far that is from the nominal one. Of the nodes it is
read from their traces, which cap it at two nominal periods. A trace may be lost on its way, and rather on a busy tick
than on an idle one; so nearly all ticks that were due must have been heard. Loop and bare timer take turns, each alone
on the machine: the bare timer has all of it to itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bench.loop_run import run_loop
from bench.options import Options
from bench.report import Bar, conclude, spread
from vla_ros.contract_file import load_contract
from vla_ros.errors import VlaRosError
from vla_ros.types import NS_PER_S, Json

_FLOOR_MS = 1.0
_MIN_HEARD = 0.99
_START_TIMEOUT_S = 30.0


def run(options: Options) -> bool:
    """Measure, print, and return whether the bars are met."""
    rates = load_contract(options.contract).rates
    rates_hz = {"guard": rates.guard_hz, "policy": rates.policy_hz}
    print(f"ticks: {options.blocks} x ({options.seconds:g} s bare timer, {options.seconds:g} s loop)", flush=True)
    log_path = options.output / "ticks.log"
    bare: dict[float, list[float]] = {rate_hz: [] for rate_hz in rates_hz.values()}
    nodes: dict[str, list[float]] = {name: [] for name in rates_hz}
    due = dict.fromkeys(rates_hz, 0)
    for _ in range(options.blocks):
        for rate_hz, errors in bare.items():
            errors += bare_timer_errors(rate_hz, options.seconds)
        loop = run_loop(options.contract, options.seconds, log_path)
        for name, traces in (("guard", loop.guard), ("policy", loop.policy)):
            nodes[name] += trace_errors(traces, rates_hz[name])
            due[name] += ticks_due(traces, rates_hz[name])
    rows = {
        **{f"bare timer, {rate_hz:g} Hz": spread(errors) for rate_hz, errors in bare.items()},
        **{name: spread(errors) for name, errors in nodes.items()},
    }
    print("  error of the period [ms]")
    for title, row in rows.items():
        print(f"  {title:22} {row}")
    heard = {name: len(errors) / max(due[name], 1) for name, errors in nodes.items()}
    for name, errors in nodes.items():
        print(f"  {name:22} heard {len(errors)} of {due[name]} ticks that were due")
    bars = [
        *(
            Bar(f"{name}, p99 (1.5 x bare timer, or 1 ms)", rows[name].p99, ceiling(bare[rate_hz]), "ms")
            for name, rate_hz in rates_hz.items()
        ),
        *(Bar(f"{name}, ticks heard", heard[name], _MIN_HEARD, "of 1", at_least=True) for name in rates_hz),
    ]
    return conclude(options.output, "ticks", {title: asdict(row) for title, row in rows.items()}, bars)


def ceiling(bare_errors: Sequence[float]) -> float:
    """What a node's 99th percentile may be. [ms]"""
    return max(1.5 * spread(bare_errors).p99, _FLOOR_MS)


def bare_timer_errors(rate_hz: float, seconds: float) -> list[float]:
    """|period - nominal| of a bare node's timer in a process of its own. [ms]"""
    command = [sys.executable, "-m", "bench.bare_timer", str(rate_hz), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + _START_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise VlaRosError(f"the bare timer failed: {error.stderr}") from None
    except subprocess.TimeoutExpired:
        raise VlaRosError("the bare timer did not end in time") from None
    return [abs(period - 1e3 / rate_hz) for period in json.loads(done.stdout)]


def ticks_due(ticks: Sequence[Json], rate_hz: float) -> int:
    """How many ticks belong between the first and the last one heard, both counted. One that was skipped is due too."""
    if not ticks:
        return 0
    span_ns: int = ticks[-1]["steady_ns"] - ticks[0]["steady_ns"]
    return round(span_ns * rate_hz / NS_PER_S) + 1


def trace_errors(ticks: Sequence[Json], rate_hz: float) -> list[float]:
    """|period - nominal| of a node's ticks. [ms]"""
    return [1e3 * abs(tick["dt_s"] - 1.0 / rate_hz) for tick in ticks]
