"""guard, policy, teleop, sim, record, play: one node in this terminal, with ROS's own arguments.

The executables of `ros2 run` begin here as well. Importing a node takes a while and may fail: a signal in that time,
or a package that is not installed, ends the process as cleanly as later.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from vla_ros.commands.where import RULE, add_where, enter
from vla_ros.errors import VlaRosError

NODES = {
    "guard": "the guard node: the only publisher of what the robot obeys",
    "policy": "the policy node, a lifecycle node, and its worker",
    "teleop": "drive by keyboard or joystick",
    "sim": "the simulated robot",
    "record": "record a bag (rosbag2, MCAP)",
    "play": "play a bag",
}
USER_ERROR = 2
# These never join a robot's graph by accident.
_ISOLATED = ("sim", "play")


def add_parsers(subparsers: Any) -> None:
    """For the list of commands; `run_node` is called before argparse reads what is meant for ROS."""
    for name, summary in NODES.items():
        subparsers.add_parser(name, help=summary, add_help=False)


def start(name: str, arguments: Sequence[str] | None = None) -> int:
    """Import a node and run its main; returns its exit status. arguments: those of the process, if none are given."""
    _await_signals()
    try:
        module = importlib.import_module(f"vla_ros.ros.{name}_node")
    except VlaRosError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_ERROR
    return cast(int, module.main(arguments))


def _await_signals() -> None:
    """Nothing has been begun yet that would need tidying up. The node's run loop has handlers of its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


guard_node = partial(start, "guard")
policy_node = partial(start, "policy")
teleop_node = partial(start, "teleop")
sim_node = partial(start, "sim")
record_node = partial(start, "record")
play_node = partial(start, "play")


def run_node(name: str, arguments: Sequence[str]) -> int:
    """The command `vla_ros NAME`. The options of `where` are taken off, the rest is ROS's."""
    _await_signals()
    parser = argparse.ArgumentParser(f"vla_ros {name}", add_help=False, allow_abbrev=False)
    add_where(parser, "the graph of the simulation")
    args, for_ros = parser.parse_known_args(list(arguments))
    args.sim = args.sim or name in _ISOLATED
    enter(args)
    if args.namespace:
        for_ros += ["--ros-args", "-r", f"__ns:=/{args.namespace.strip('/')}"]
    status = start(name, for_ros)
    if "--help" in for_ros or "-h" in for_ros:
        always = f"\n`vla_ros {name}` is always in the simulation's." if name in _ISOLATED else ""
        sys.stdout.write(f"\nAlso [--sim] [--domain-id N] [--namespace NS].\n{RULE}{always}\n")
    return status
