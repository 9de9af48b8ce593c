"""check, policies: what can be asked of a contract and of this installation."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vla_ros.commands.graph import seconds
from vla_ros.commands.where import RULE, add_where, enter
from vla_ros.resources import named_file


def add_parsers(subparsers: Any) -> None:
    """All of this group."""
    check = subparsers.add_parser(
        "check",
        help="validate a robot contract; with --live, compare it with the running graph",
        description="Validate a robot contract and show what it promises; each fault is named with its key's path.",
        epilog=f"{RULE}\n\nExit status: 0 valid (and the graph matches), 1 the graph differs, 2 the file is refused.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("contract", help="a YAML file, or the name of one in config/")
    check.add_argument("--live", action="store_true", help="compare topics, types, rates, sizes, frames and QoS too")
    check.add_argument("--duration", type=seconds, default=5.0, metavar="S", help="how long to listen (5 s)")
    add_where(check, "the graph that `vla_ros up --sim` started")
    check.set_defaults(run=_check)
    summary = "list the policies that --policy knows"
    policies = subparsers.add_parser("policies", help=summary, description=summary)
    policies.set_defaults(run=_policies)


def _check(args: argparse.Namespace) -> int:
    from vla_ros.check import run_check

    enter(args)
    return run_check(str(named_file(args.contract)), args.live, args.duration, namespace=args.namespace)


def _policies(_args: argparse.Namespace) -> int:
    from vla_ros.policy.registry import policy_names

    sys.stdout.write("".join(f"{name}\n" for name in policy_names()))
    sys.stdout.write("Or module:function, where a function of yours makes the policy.\n")
    return 0
