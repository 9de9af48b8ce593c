"""`python -m bench`: run the benchmarks and say of each whether it meets its bar."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from bench import ablation, chunks, gates, interventions, latency, oracle_ros, replay, surprise, ticks
from bench.options import Options
from vla_ros.contract_file import load_contract
from vla_ros.errors import VlaRosError
from vla_ros.ros.runtime import isolate

MET, NOT_MET, WRONG = 0, 1, 2
# The short ones first, so that a long run is not the one to say that something basic is wrong.
BENCHMARKS = {
    "chunks": chunks.run,
    "replay": replay.run,
    "gates": gates.run,
    "ticks": ticks.run,
    "latency": latency.run,
    "oracle": oracle_ros.run,
    "interventions": interventions.run,
    "surprise": surprise.run,
    "ablation": ablation.run,
}
ON_DEMAND = ("surprise", "ablation")
"""Take long, and need what has to be trained or collected first: run only if named."""

_DESCRIPTION = """\
Benchmarks of the loop. Each prints its numbers beside what they are compared with, measured in the same run, and
whether its bar is met; the numbers are also written to runs/bench/<name>.json.

  chunks    how many chunks per second the network `small` makes of three 128 px views, and its backbones' share of the
            time (about 1 min)
  replay    how many times faster than real time a bag is replayed on one core, beside merely reading it, and whether
            a bag of twenty minutes takes more memory than one of one minute (about 7 min, 2 GB of disk)
  ticks     how exactly guard and policy tick while the loop runs with synthetic cameras, beside a bare rclpy timer
            (about 4 min)
  latency   from the newest camera frame to the first command that used it, beside a bare rclpy node that sends three
            images back (about 5 min)
  gates     whether conditions on replayed bags tell networks as good as mt10 from wrong ones: 48 bags of it at work in
            simulation, half of them to set the bounds, seven networks (about 15 min; goes on with what is there)
  oracle    the oracle's success on Meta-World's MT10, 10 unseen variations each: on the bare robot, through the
            decision path in one process, and over ROS between processes (about 15 min). Every episode is written down
            as it ends: a run that was cut short goes on where it was, as long as code and contract are the same, and
            says when the episodes were measured; a complete one is measured again
  interventions
            whether a policy that fails where it was shown nothing succeeds more often once a human has taken over there
            20 times over ROS and the bags were learned from: 40 fresh worlds, before and after (about 25 min; goes on
            with what is there)
  surprise  how much of what nobody told the robot is caught within a second: a thing moved by hand, a grip that slips,
            a covered camera; and how often there is a false alarm in 2 h of undisturbed work, in simulation (about
            45 min; goes on with what is there). It needs a checkpoint that foresees and has been calibrated, and is run
            only when it is named
  ablation  whether each part of the network earns its place: trainings of equal length with it and without it, tried in
            the same worlds, paired; as bench/ablation/plan.yaml says (hours: 28 trainings, several side by
            side; goes on with what is there, whenever it was cut short; only if named). It needs data: vla_ros
            collect ablation, vla_ros collect delayed-reach. Writes ablation.md and ablation.png too

Nothing else should run on the machine meanwhile. The graphs are this package's own: domain 77, or
VLA_ROS_SIM_DOMAIN_ID."""
_EPILOG = "Exit status: 0 every bar is met, 1 one is not or a benchmark could not finish, 2 wrong arguments."


def main() -> int:
    """Run what was asked for, in a fixed order; returns the exit status."""
    options, names = _parse()
    os.environ.update(isolate(os.environ))
    try:
        load_contract(options.contract)
        options.output.mkdir(parents=True, exist_ok=True)
        results = [benchmark(options) for name, benchmark in BENCHMARKS.items() if name in names]
    except VlaRosError as error:
        sys.stderr.write(f"error: {error}\n")
        return WRONG
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return NOT_MET
    return MET if all(results) else NOT_MET


def _parse() -> tuple[Options, list[str]]:
    plain = Options()
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names_help = f"which: {', '.join(BENCHMARKS)} (all but the last two)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names_help)
    parser.add_argument("--quick", action="store_true", help="one short block, one variation: to see that it works")
    parser.add_argument("--fresh", action="store_true", help="oracle, interventions, ablation: begin anew")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="oracle: these tasks instead of MT10's ten, or: all")
    parser.add_argument("--variations", type=int, metavar="N", help=f"oracle: per task ({plain.variations})")
    parser.add_argument("--no-ros", action="store_true", help="oracle: only the numbers in one process")
    parser.add_argument(
        "--blocks",
        type=int,
        metavar="N",
        help=f"latency, ticks: alternations ({plain.blocks}); replay: the long bag is 4 x N short ones",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=f"latency, ticks: per block ({plain.seconds:g}); replay: the short bag is 3 x S long",
    )
    parser.add_argument("--retrained", type=Path, metavar="DIR", help="gates: mt10 trained with another seed")
    foresight_help = f"surprise: a calibrated checkpoint ({plain.foresight})"
    parser.add_argument("--foresight", type=Path, metavar="DIR", help=foresight_help, default=plain.foresight)
    parser.add_argument("--hours", type=float, metavar="H", help=f"surprise: of undisturbed runs ({plain.hours:g})")
    bags_help = "gates: recorded ones of mt10, those of half open drawers and windows so called (simulated ones)"
    parser.add_argument("--bags", type=Path, metavar="DIR", help=bags_help)
    parser.add_argument("--plan", type=Path, metavar="FILE", help="ablation: another one (bench/ablation/plan.yaml)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="ablation: these parts or variants of the plan")
    parser.add_argument("--steps", type=int, metavar="N", help="ablation: of each training (the recipe's)")
    workers_help = "ablation: trainings side by side (one for each core; one where there is a GPU)"
    parser.add_argument("--workers", type=int, metavar="N", help=workers_help)
    episodes_help = "surprise: of each disturbance (60); ablation: of each task (the plan's)"
    parser.add_argument("--episodes", type=int, metavar="N", help=episodes_help)
    parser.add_argument("--output", type=Path, metavar="DIR", default=plain.output, help=f"({plain.output})")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no benchmark; choose from {', '.join(BENCHMARKS)}")
    if args.quick:
        plain = replace(plain, variations=1, blocks=1, seconds=3.0, hours=0.01, steps=4, episodes=1)
    amounts = ("variations", "blocks", "seconds", "hours", "steps", "workers", "episodes")
    given = {name: getattr(args, name) for name in amounts if getattr(args, name) is not None}
    if any(value <= 0 for value in given.values()):
        parser.error(f"{', '.join(f'--{name}' for name in amounts)} are positive")
    options = replace(plain, output=args.output, fresh=args.fresh, with_ros=not args.no_ros, **given)
    options = replace(options, retrained=args.retrained, bags=args.bags, foresight=args.foresight)
    options = replace(options, plan=args.plan, only=tuple(args.only or ()), tasks=tuple(args.tasks or ()))
    return options, args.names or [name for name in BENCHMARKS if name not in ON_DEMAND]


if __name__ == "__main__":
    sys.exit(main())
