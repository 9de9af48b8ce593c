"""guard, policy, teleop, sim, record, play: one node in this terminal, with ROS's own arguments."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, cast

from vla_ros.commands.where import RULE, add_where, enter

NODES = {
    "guard": "the guard node: the only publisher of what the robot obeys",
    "policy": "the policy node, a lifecycle node, and its worker",
    "teleop": "drive by keyboard or joystick",
    "sim": "the simulated robot",
    "record": "record a bag (rosbag2, MCAP)",
    "play": "play a bag",
}
# These never join a robot's graph by accident.
_ISOLATED = ("sim", "play")


def add_parsers(subparsers: Any) -> None:
    """For the list of commands; `run_node` is called before argparse reads what is meant for ROS."""
    for name, summary in NODES.items():
        subparsers.add_parser(name, help=summary, add_help=False)


def run_node(name: str, arguments: Sequence[str]) -> int:
    """Run a node's main; returns its exit status. The options of `where` are taken off, the rest is ROS's."""
    parser = argparse.ArgumentParser(f"vla_ros {name}", add_help=False, allow_abbrev=False)
    add_where(parser, "the graph of the simulation")
    args, for_ros = parser.parse_known_args(list(arguments))
    args.sim = args.sim or name in _ISOLATED
    enter(args)
    if args.namespace:
        for_ros += ["--ros-args", "-r", f"__ns:=/{args.namespace.strip('/')}"]
    status = cast(int, importlib.import_module(f"vla_ros.ros.{name}_node").main(for_ros))
    if "--help" in for_ros or "-h" in for_ros:
        always = f"\n`vla_ros {name}` is always in the simulation's." if name in _ISOLATED else ""
        sys.stdout.write(f"\nAlso [--sim] [--domain-id N] [--namespace NS].\n{RULE}{always}\n")
    return status
