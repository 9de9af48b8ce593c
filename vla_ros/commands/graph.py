"""say, arm, disarm, reset, status, wait, restart: talking to a running graph."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vla_ros.commands.where import RULE, add_where, enter

if TYPE_CHECKING:
    from vla_ros.interface.reading import Status
    from vla_ros.ros.talk import Answer, Graph

DONE, REFUSED = 0, 1
_LEVELS = ("ok", "WARNING", "ERROR", "STALE")
_EXIT = "Exit status: 0 done, 1 refused (the reason is printed), 2 nobody there, or wrong arguments."
_RETRY_S = 0.2


def add_parsers(subparsers: Any) -> None:
    """All of this group."""
    say = _add(subparsers, "say", _say, "give the robot an instruction; it replaces the last one, also mid-motion")
    say.add_argument("sentence", help='such as "push the puck to the goal"; "stop" or "" stops')
    arm = _add(subparsers, "arm", _arm, "let the robot move; prints why not, if the guard refuses")
    arm.add_argument("--wait", type=seconds, default=0.0, metavar="S", help="while refused, ask again for so long")
    _add(subparsers, "disarm", _disarm, "stop the robot, and let nothing move it until it is armed again")
    _add(subparsers, "reset", _reset, "release the guard's latch after an emergency stop or a fault; stays disarmed")
    status = _add(subparsers, "status", _status, "who is in command and why, in words")
    status.add_argument("--watch", action="store_true", help="go on, one line whenever the words change")
    _add(subparsers, "wait", _wait, "return when guard and policy are up", timeout_s=30.0)
    _add(subparsers, "restart", _restart, "load the policy anew, such as after its worker died")


def _add(
    subparsers: Any, name: str, run: Callable[[Graph, argparse.Namespace], int], summary: str, timeout_s: float = 10.0
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"{RULE}\n\n{_EXIT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_where(parser, "the graph that `vla_ros up --sim` started")
    parser.add_argument(
        "--timeout", type=seconds, default=timeout_s, metavar="S", help=f"how long to look for it ({timeout_s:g} s)"
    )
    parser.set_defaults(run=lambda args: _in_graph(run, args))
    return parser


def _in_graph(run: Callable[[Graph, argparse.Namespace], int], args: argparse.Namespace) -> int:
    enter(args)
    from vla_ros.ros.talk import Graph

    with Graph(args.namespace, args.timeout) as graph:
        return run(graph, args)


def _say(graph: Graph, args: argparse.Namespace) -> int:
    from vla_ros.types import is_hold

    heard = graph.say(args.sentence)
    _print(f"heard by {' and '.join(heard.by)}")
    if heard.silent:
        sys.stderr.write(f"but {' and '.join(heard.silent)} does not answer\n")
    needed = ("guard",) if is_hold(args.sentence) else ("guard", "policy")
    missing = [name for name in needed if name not in heard.by]
    if missing:
        sys.stderr.write(f"but {' and '.join(missing)} is not there\n")
    return REFUSED if missing else DONE


def _arm(graph: Graph, args: argparse.Namespace) -> int:
    deadline = time.monotonic() + args.wait
    answer = graph.arm(True)
    while not answer.accepted and time.monotonic() < deadline:
        time.sleep(_RETRY_S)
        answer = graph.arm(True)
    return _report(answer)


def _disarm(graph: Graph, _args: argparse.Namespace) -> int:
    return _report(graph.arm(False))


def _reset(graph: Graph, _args: argparse.Namespace) -> int:
    return _report(graph.reset())


def _restart(graph: Graph, _args: argparse.Namespace) -> int:
    return _report(graph.restart_policy(lambda step: _print(f"{step} ...")))


def _wait(graph: Graph, _args: argparse.Namespace) -> int:
    graph.wait_until_up()
    _print("guard and policy are up")
    return DONE


def _status(graph: Graph, args: argparse.Namespace) -> int:
    statuses = graph.statuses()
    if args.watch:
        for status in graph.watch():
            _print(f"{time.strftime('%H:%M:%S')}  {_headline(status)}")
    for name in ("guard", "policy"):
        _print(table(statuses[name]) if name in statuses else f"{name:<8}not there")
    return DONE


def table(status: Status) -> str:
    """A status for people: one line, and its values below."""
    width = max((len(key) for key in status.values), default=0)
    return "\n".join([_headline(status), *(f"    {key:<{width}}  {value}" for key, value in status.values.items())])


def _headline(status: Status) -> str:
    return f"{status.name:<8}{_LEVELS[status.level]:<9}{status.message}"


def _report(answer: Answer) -> int:
    _print(answer.text)
    return DONE if answer.accepted else REFUSED


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(text: str) -> float:
    """The value of an option that is a time."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 86_400.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: seconds from 0 to 86400")
    return value
