"""Which graph a command talks to: the options --sim, --domain-id and --namespace, and what they mean."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping

RULE = """\
Which graph: without options, the one of the environment (ROS_DOMAIN_ID, else domain 0), as every ROS 2 program.
The simulation keeps to itself: --sim means domain 77 (or VLA_ROS_SIM_DOMAIN_ID), on this machine only;
`up --sim` starts it there, and say, arm, status, ... --sim reach it there. --domain-id comes before all."""

_MAX_DOMAIN_ID = 232
_NAMESPACE = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def add_where(parser: argparse.ArgumentParser, sim_help: str) -> None:
    """The three options."""
    group = parser.add_argument_group("which graph")
    group.add_argument("--sim", action="store_true", help=sim_help)
    group.add_argument("--domain-id", type=_domain_id, metavar="N", help="ROS domain, 0 to 232")
    group.add_argument("--namespace", type=namespace, default="", metavar="NS", help="namespace of the robot's nodes")


def environment(args: argparse.Namespace) -> Mapping[str, str]:
    """The environment in which ROS reaches that graph."""
    environ = dict(os.environ)
    if args.domain_id is not None:
        environ["ROS_DOMAIN_ID"] = environ["VLA_ROS_SIM_DOMAIN_ID"] = str(args.domain_id)
    if args.sim:
        from vla_ros.ros.runtime import isolate

        return isolate(environ)
    return environ


def enter(args: argparse.Namespace) -> None:
    """Make it this process's environment. Before ROS starts."""
    os.environ.update(environment(args))


def options(args: argparse.Namespace) -> tuple[str, ...]:
    """The options with which another command reaches the same graph."""
    domain = () if args.domain_id is None else ("--domain-id", str(args.domain_id))
    namespace = ("--namespace", args.namespace) if args.namespace else ()
    return (*(("--sim",) if args.sim else ()), *domain, *namespace)


def _domain_id(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_DOMAIN_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is not a ROS domain: a whole number from 0 to {_MAX_DOMAIN_ID}")
    return int(text)


def namespace(text: str) -> str:
    """A ROS namespace, or none. Raises ArgumentTypeError."""
    if text and not _NAMESPACE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a namespace such as arm1 or site/arm1")
    return text
