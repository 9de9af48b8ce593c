"""How many times faster than real time a bag is replayed on one core, and whether a longer bag takes more memory.

The policy is `hold`: what it costs to think is not asked here. The bags are of the contract's robot (three raw cameras
of 128 px at 10 Hz, feedback at 80 Hz) as `vla_ros record` writes them, with the traces of policy and guard, and as
another recorder would, without. Beside it stands the time of merely reading what the replay reads, and what the whole
command needs, which judges what is decided as well. Every number comes from a process of its own on one core, which
writes the decision log as well; of the short bag it is the median of three, since seconds are at the mercy of whatever
else the machine does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.options import Options
from bench.replay_bag import write_bags
from bench.report import Bar, conclude
from vla_ros.contract_file import load_contract
from vla_ros.errors import VlaRosError
from vla_ros.policy.registry import create_policy
from vla_ros.replay.decision_log import DecisionLog
from vla_ros.replay.decisions import Decision
from vla_ros.replay.one_bag import Order, perform, read_performed
from vla_ros.replay.run import Replay, Terms
from vla_ros.replay.subject import Subject

_LEAST_SPEED = 10.0
_MOST_GROWTH = 1.1
_READ, _REPLAY, _JUDGE = "read", "replay", "judge"
_TIMEOUT_S = 3600.0
_TIMES = {"short": 3, "long": 1}


@dataclass(frozen=True)
class Pass:
    """One process's way through a bag. All but peak_mb and decisions in seconds; speed is by the wall's clock."""

    bag_s: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    decisions: int

    @property
    def speed(self) -> float:
        """Seconds of the bag in a second."""
        return self.bag_s / self.wall_s

    def __str__(self) -> str:
        return (
            f"{self.speed:6.1f} x real time ({self.bag_s / self.cpu_s:6.1f} x by processor time)   "
            f"{self.peak_mb:6.1f} MB at most   {self.decisions} decisions of {self.bag_s:.0f} s"
        )


def run(options: Options) -> bool:
    """Measure, print, and return whether the bars are met."""
    stretch_s = max(2, round(options.seconds))
    lengths_s = {"short": 3 * stretch_s, "long": 12 * options.blocks * stretch_s}
    print(
        f"replay: bags of {lengths_s['short']} s and {lengths_s['long']} s, policy hold, one core; "
        f"load of the machine {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    passes: dict[str, Pass] = {}
    with tempfile.TemporaryDirectory(dir=options.output) as directory:
        for kind, with_traces in (("traces", True), ("no traces", False)):
            folder = Path(directory) / kind.replace(" ", "_")
            folder.mkdir()
            write_bags(folder, load_contract(options.contract), lengths_s, stretch_s, with_traces)
            for what in (_READ, _REPLAY, _JUDGE):
                for length in lengths_s:
                    name, bag = f"{kind}, {length}, {what}", folder / length
                    tried = [_in_process(what, bag, options.contract) for _ in range(_TIMES[length])]
                    passes[name] = sorted(tried, key=lambda one: one.speed)[len(tried) // 2]
                    print(f"  {name:24} {passes[name]}", flush=True)
    bars = [bar for kind in ("traces", "no traces") for bar in _bars(kind, passes)]
    return conclude(options.output, "replay", {name: asdict(one) for name, one in passes.items()}, bars)


def _bars(kind: str, passes: dict[str, Pass]) -> Iterator[Bar]:
    for what, name in ((_REPLAY, "the replay"), (_JUDGE, "replay and judging")):
        short, long = (passes[f"{kind}, {length}, {what}"] for length in ("short", "long"))
        if what == _REPLAY:
            for length, one in (("short", short), ("long", long)):
                yield Bar(f"{kind}, {length}: speed of {name}", one.speed, _LEAST_SPEED, "x real time", at_least=True)
        growth = long.peak_mb / short.peak_mb
        yield Bar(f"{kind}: memory of {name} for the long bag", growth, _MOST_GROWTH, "x the short one's")


def _in_process(what: str, bag: Path, contract: Path) -> Pass:
    command = [sys.executable, "-m", "bench.replay", what, str(bag), str(contract)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **one_thread},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise VlaRosError(f"the replay of {bag.name} failed: {error}") from None
    return Pass(**json.loads(done.stdout))


def main() -> None:
    """One pass. Arguments: read, replay or judge, the bag, the contract's file. Prints a Pass as JSON."""
    what, bag, file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    contract = load_contract(file)
    replay = Replay(Terms(bag, contract), "hold", create_policy("hold", contract, {}))
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    decisions = 0
    if what == _READ:
        deque(replay.messages(), maxlen=0)
    elif what == _JUDGE:
        order = Order(bag.name, bag, bag.with_suffix(".results"), Subject("hold", "hold", {}, file), is_fresh=True)
        perform(order)
        decisions = sum(read_performed(order).facts["ticks"].values())
    else:
        with DecisionLog(bag.with_suffix(".jsonl"), {}) as log:
            decisions = sum(_written(log, decision) for decision in replay.decisions())
            log.end(replay.outcome())
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(json.dumps(asdict(Pass(replay.duration_s, wall_s, cpu_s, _peak_mb(), decisions))))


def _peak_mb() -> float:
    """The most memory that this process ever had, without what the one that started it had."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1000.0


def _written(log: DecisionLog, decision: Decision) -> int:
    log.write(decision)
    return 1


if __name__ == "__main__":
    main()
