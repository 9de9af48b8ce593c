"""From the newest camera frame to the first command that used it, beside a bare rclpy node that echoes the images.

One process plays the robot (`synthetic_robot`): its three 128 px views carry one stamp. t0 is the instant just before
it publishes the last of them; t1 is the instant at which its callback gets the guard's first `target_pose` made from a
policy set whose observation has that stamp. Both are `time.monotonic_ns` of that one process. Of the echo, t1 is the
instant at which its callback gets the last of the three images that came back.

Which command used which frame is read from the nodes' traces: the policy's tick that asked about the stamp, the tick
that took the reply and published four messages, and the guard's first tick, with the policy in command, whose newest
complete set of four was made from that stamp. The guard stamps its command with the tick's ROS time.

Three of the spans in between are waits for a tick, and say nothing of how much work there is:

    frames' arrival -> policy's tick    worker's reply -> policy's tick    the set's arrival -> guard's tick

The rest, "work", is total - waits. A wait counts for one nominal period at most: a tick that comes later than that is
late because somebody was at work.

Loop and echo take turns, each alone on the machine, so that drift meets both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from bench.echo import topic_back
from bench.loop_run import WARM_UP_S, LoopRun, run_loop
from bench.options import Options
from bench.report import Bar, conclude, spread
from bench.synthetic_robot import SyntheticRobot
from vla_ros.contract import Contract, Rates
from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.joining import PARTS
from vla_ros.interface import reading
from vla_ros.ros.talk import Graph, GraphError
from vla_ros.supervise import Process, running
from vla_ros.types import NS_PER_S, Json

_ECHO_TIMEOUT_S = 20.0
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Route:
    """One frame's way to the command, in spans [ms] that add up to `total`."""

    camera_to_policy: float
    wait_for_policy: float
    policy_and_worker: float
    wait_for_policy_again: float
    policy_to_guard: float
    wait_for_guard: float
    guard_to_robot: float

    @property
    def total(self) -> float:
        """t1 - t0."""
        return float(sum(asdict(self).values()))

    def work(self, rates: Rates) -> float:
        """Without the waits for ticks."""
        policy_ms, guard_ms = 1e3 / rates.policy_hz, 1e3 / rates.guard_hz
        waits = min(self.wait_for_policy, policy_ms) + min(self.wait_for_policy_again, policy_ms)
        return self.total - waits - min(self.wait_for_guard, guard_ms)


def run(options: Options) -> bool:
    """Measure, print, and return whether the bars are met."""
    contract = load_contract(options.contract)
    print(f"latency: {options.blocks} x ({options.seconds:g} s echo, {options.seconds:g} s loop)", flush=True)
    log_path = options.output / "latency.log"
    echoes: list[float] = []
    paths: list[Route] = []
    sent = 0
    for block in range(options.blocks):
        echoes += (echo := measure_echo(options.contract, options.seconds, log_path))
        loop = run_loop(options.contract, options.seconds, log_path)
        paths += (found := routes_of(loop, contract))
        sent += len(loop.sent)
        median = spread([path.total for path in found]).median
        print(f"  {block + 1}: echo {spread(echo).median:.2f} ms, loop {median:.2f} ms", flush=True)
    return report(options, contract, echoes, paths, sent)


def measure_echo(contract_path: Path, seconds: float, log_path: Path) -> list[float]:
    """Round trips of three images through a bare rclpy node [ms]."""
    contract = load_contract(contract_path)
    returned: dict[int, list[int]] = {}

    def on_image(msg: Any) -> None:
        returned.setdefault(reading.from_stamp(msg.header.stamp), []).append(time.monotonic_ns())

    echo = Process("echo", (sys.executable, "-m", "bench.echo", str(contract_path)))
    with (
        running([echo], log_path) as supervisor,
        Graph("", _ECHO_TIMEOUT_S, supervisor.require_alive) as graph,
    ):
        robot = SyntheticRobot(graph.node, contract)
        for view in contract.cameras:
            graph.node.create_subscription(Image, topic_back(view), on_image, qos_profile_sensor_data)
        complete = len(contract.cameras)
        if not graph.wait(lambda: any(len(times) == complete for times in returned.values()), _ECHO_TIMEOUT_S):
            raise GraphError("the echo node sends nothing back")
        graph.wait(lambda: False, WARM_UP_S)
        robot.sent.clear()
        returned.clear()
        graph.wait(lambda: False, seconds)
    sent = robot.sent
    return [
        (max(times) - sent[stamp]) / _NS_PER_MS
        for stamp, times in returned.items()
        if stamp in sent and len(times) == complete
    ]


def routes_of(loop: LoopRun, contract: Contract) -> list[Route]:
    """The way of every frame that led to a command and of which every trace was heard."""
    arrived = _arrivals(loop.policy, [channels.camera(view) for view in contract.cameras])
    requests = {tick["request"]["t_obs_ns"]: tick for tick in loop.policy if tick["request"]}
    replies = {reply["id"]: (tick, reply) for tick in loop.policy for reply in tick["replies"] if "id" in reply}
    uses = _first_uses(loop)
    paths = []
    for stamp, t0 in loop.sent.items():
        if stamp not in arrived or stamp not in requests or stamp not in uses:
            continue
        asked, (used, set_arrived_ns) = requests[stamp], uses[stamp]
        t1 = loop.commanded.get(used["ros_ns"])
        if t1 is None or asked["request"]["id"] not in replies:
            continue
        taken, reply = replies[asked["request"]["id"]]
        instants = (
            t0, arrived[stamp], asked["steady_ns"], reply["ended_ns"], taken["steady_ns"],
            set_arrived_ns, used["steady_ns"], t1,
        )  # fmt: skip
        spans = [(after - before) / _NS_PER_MS for before, after in pairwise(instants)]
        paths.append(Route(*spans))
    return paths


def _arrivals(ticks: Sequence[Json], parts: Sequence[str]) -> dict[int, int]:
    """Stamp -> when the last of the messages with that stamp arrived, for the stamps of which every part did. [ns]"""
    heard: dict[int, dict[str, int]] = {}
    for tick in ticks:
        for entry in tick["inputs"]:
            if entry["channel"] in parts:
                heard.setdefault(entry["stamp_ns"], {})[entry["channel"]] = _arrival_ns(tick, entry)
    return {stamp: max(times.values()) for stamp, times in heard.items() if len(times) == len(parts)}


def _first_uses(loop: LoopRun) -> dict[int, tuple[Json, int]]:
    """t_obs -> the guard's first tick that followed a set made from it, and when that set had arrived [ns]."""
    t_obs = {tick["ros_ns"]: tick["t_obs_ns"] for tick in loop.policy if tick["t_obs_ns"] is not None}
    complete = _arrivals(loop.guard, PARTS)
    heard: dict[int, set[str]] = {}
    newest = -1
    uses: dict[int, tuple[Json, int]] = {}
    for tick in loop.guard:
        for entry in tick["inputs"]:
            if entry["channel"] in PARTS:
                parts = heard.setdefault(entry["stamp_ns"], set())
                parts.add(entry["channel"])
                newest = max(newest, entry["stamp_ns"]) if len(parts) == len(PARTS) else newest
        if tick["source"] == Source.POLICY.value and newest in t_obs:
            uses.setdefault(t_obs[newest], (tick, complete[newest]))
    return uses


def _arrival_ns(tick: Json, entry: Json) -> int:
    return int(tick["steady_ns"] - entry["receive_age_s"] * NS_PER_S)


def report(options: Options, contract: Contract, echoes: list[float], paths: list[Route], sent: int) -> bool:
    """Print the table and the bars, draw the histogram, and return whether all bars are met."""
    rates = contract.rates
    work = [path.work(rates) for path in paths]
    rows = {
        "echo of three images": spread(echoes),
        "frame to command": spread([path.total for path in paths]),
        "the same without waits for ticks": spread(work),
        **{f"    {name.replace('_', ' ')}": spread([getattr(path, name) for path in paths]) for name in _SPANS},
    }
    print("  [ms]")
    for name, row in rows.items():
        print(f"  {name:34} {row}")
    print(f"  {len(paths)} of {sent} frames were followed to their command")
    echo, total, worked = (row.median for row in list(rows.values())[:3])
    ceiling = 1.5 * echo + 2e3 / rates.policy_hz + 1e3 / rates.guard_hz
    bars = [
        Bar("median, frame to command (1.5 x echo + 2 policy periods + 1 guard period)", total, ceiling, "ms"),
        Bar(f"median without waits ({worked / echo:.2f} x echo)", worked, 2.0 * echo, "ms"),
        Bar("frames followed to their command", len(paths) / max(sent, 1), 0.9, "of 1", at_least=True),
    ]
    draw(options.output / "latency.png", echoes, [path.total for path in paths], work)
    return conclude(options.output, "latency", {name.strip(): asdict(row) for name, row in rows.items()}, bars)


_SPANS = tuple(Route.__dataclass_fields__)


def draw(path: Path, echoes: list[float], totals: list[float], work: list[float]) -> None:
    """A histogram, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    top = max([*echoes, *totals, 1.0])
    bins = [top * index / 100 for index in range(101)]
    for name, samples in (("echo", echoes), ("frame to command", totals), ("without waits for ticks", work)):
        axes.hist(samples, bins, histtype="step", label=name)
    axes.set_xlabel("ms")
    axes.set_ylabel("frames")
    axes.legend()
    figure.savefig(path, dpi=120)
