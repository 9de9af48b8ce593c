"""The `vla_ros` command. Every command is a file of `vla_ros/commands`; this one finds it and reports errors."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from vla_ros.commands import (
    calibrate,
    collect,
    dataset,
    demo,
    evaluate,
    graph,
    model,
    nodes,
    offline,
    replay,
    train,
    up,
)
from vla_ros.commands.where import RULE
from vla_ros.errors import VlaRosError

USER_ERROR = 2
_INTERRUPTED = 128 + signal.SIGINT

_DESCRIPTION = f"""\
Run a vision-language-action policy on a ROS 2 robot, behind a guard that limits and stops it.

try it
  demo        three tasks by sentence, in simulation, from nothing; results in runs/

run a robot
  check       validate a robot contract; with --live, compare it with the running graph
  up          start guard and policy (and the simulated robot) and keep watch over them
  policies    list the policies that --policy knows

talk to it, from any terminal
  arm         let it move: nothing moves before
  say         give it an instruction
  disarm      stop it
  reset       release the guard's latch; stays disarmed
  status      who is in command and why; --watch to go on
  wait        return when guard and policy are up
  restart     load the policy anew

demonstrations
  collect     have scripted experts show a plan's tasks in simulation
  dataset     see what is in a folder of them, check all of it, or make one of bags: dataset inspect, from-bag

the network
  model       make one, take one apart, see what it looks at: model new, describe, explain
  train       train one on demonstrations, by a recipe
  evaluate    measure one in closed loop on unseen worlds
  calibrate   find when its surprise is an alarm, from runs in which nothing goes wrong
  replay      prove one on recorded bags, before it touches a robot

one node in this terminal (ROS's own arguments)
  guard, policy, teleop, sim, record, play

examples:
  vla_ros up sawyer_sim --sim --policy oracle --task push-v3
  vla_ros arm --sim
  vla_ros say --sim "push the puck to the goal"
  vla_ros status --sim --watch

{RULE}

`vla_ros COMMAND --help` says more. Exit status: 0 done, 1 refused or failed, 2 wrong arguments or nobody there."""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        "vla_ros", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # The description lists them in groups, which argparse cannot.
    subparsers = top.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for group in (demo, up, offline, graph, collect, dataset, train, model, evaluate, calibrate, replay, nodes):
        group.add_parsers(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `vla_ros`; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in nodes.NODES:
        return nodes.run_node(words[0], words[1:])
    args = parser().parse_args(words)
    try:
        return int(args.run(args))
    except VlaRosError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
