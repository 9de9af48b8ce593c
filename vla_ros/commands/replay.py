"""replay: bags through the decision path, with any policy, and a verdict that a build can fail by."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.commands.needed import needed
from vla_ros.commands.values import count, options
from vla_ros.commands.where import namespace
from vla_ros.errors import ReplayError, VlaRosError
from vla_ros.resources import checkpoint_path, config_path, named_file

if TYPE_CHECKING:
    from vla_ros.replay.judging.conditions import Condition
    from vla_ros.replay.one_bag import Order
    from vla_ros.replay.pool import Ended
    from vla_ros.replay.subject import Subject
    from vla_ros.replay.summary import Summary

_INSTALL = "pip install rosbags mcap msgspec tqdm"
_CONTRACT = "sawyer_sim"
_RESULT, _PAGE = "replay.json", "report.html"
_DESCRIPTION = """\
Take recorded bags through the decision path of the live nodes, with a policy of your choice, and say how well it
decided: how far its plans lead away from what the robot was sent, whether they agree with each other, when it falls
silent, and what the guard would have done about it. No ROS is needed, and nothing is sent to any robot.

Where a bag has the traces of policy and guard, their very ticks are played again with the very inputs that they used;
without traces, the ticks are simulated at the contract's rates. The same bag, policy and latency give the same
decisions to the last bit, on the same kind of machine. A damaged bag is replayed up to the damage, which is told.

Two kinds of gates. --golden FILE: every decision equals that of a log that was declared right. --fail-on CONDITION: a
metric is beyond a bound; of several bags, over all of their samples together."""
_EPILOG = """\
examples:
  vla_ros replay runs/try1 --checkpoint mt10
  vla_ros replay runs/try1 --checkpoint runs/mine/best --fail-on 'position_error_p95>0.02' --fail-on 'stops>0' --report
  vla_ros replay runs/try1 --checkpoint mt10 --golden golden/try1.jsonl --update-golden    declare it right
  vla_ros replay runs/try1 --checkpoint mt10 --golden golden/try1.jsonl                    is it still the same?
  vla_ros replay bags/ --checkpoint runs/mine/best --against mt10 --workers 4 --junit replay.xml
  vla_ros replay runs/try1 --policy my_robot.policies:create --contract my_robot.yaml --from 12 --to 20

Metrics that conditions may name: docs/replay.md, or any name that there is not. Results are written to --output:
replay.json and, of each bag, decisions.jsonl (every decision), measured.json and samples.npz.

Exit status: 0 replayed, and nothing failed; 1 a gate failed; 2 wrong arguments, or a bag that cannot be replayed."""
_OUTPUT_HELP = "of the results (runs/replay/<bag>); of several bags each has a folder in it"
_GOLDEN_HELP = "decisions must be those of this log, byte for byte; in a folder, and of several bags: <bag>.jsonl"
_FRESH_HELP = "of several bags, replay those again that were replayed before with the same policy, code and options"
_THREADS_HELP = "of the CPU, for a checkpoint's network (as live: one less than there are cores; with --workers: 1)"
_LATENCY_HELP = "of inference: recorded, measured, or seconds (recorded; 0.1 for bags without traces)"


def add_parsers(subparsers: Any) -> None:
    """The command `replay`."""
    parser = subparsers.add_parser(
        "replay",
        help="prove a policy on recorded bags",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="a bag, or a folder of bags")
    _add_subject(parser.add_argument_group("who decides"))
    _add_part(parser.add_argument_group("what is replayed, and how"))
    _add_gates(parser.add_argument_group("gates"))
    _add_results(parser.add_argument_group("results"))
    parser.set_defaults(run=_run)


def _add_subject(group: Any) -> None:
    group.add_argument("--checkpoint", metavar="NAME", help="a folder, or the name of one that comes with the package")
    group.add_argument("--policy", metavar="NAME", help="instead of a checkpoint: `vla_ros policies` lists them")
    group.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="for the policy; repeatable")
    group.add_argument("--contract", metavar="FILE", help=f"the robot's (the checkpoint's; else {_CONTRACT})")
    group.add_argument("--threads", type=count, metavar="N", help=_THREADS_HELP)
    group.add_argument("--against", metavar="CHECKPOINT", help="compare with another one, on the same observations")


def _add_part(group: Any) -> None:
    group.add_argument("--latency", type=_latency, metavar="L", help=_LATENCY_HELP)
    group.add_argument("--from", dest="from_s", type=_seconds, metavar="S", help="seconds of the bag (its beginning)")
    group.add_argument("--to", dest="to_s", type=_seconds, metavar="S", help="(its end)")
    group.add_argument("--namespace", type=namespace, default="", metavar="NS", help="of the robot's nodes in the bag")
    group.add_argument("--instruction", metavar="SENTENCE", help="holds from the beginning of a bag without any")
    group.add_argument("--workers", type=count, default=1, metavar="N", help="processes, for several bags (1)")
    group.add_argument("--ray", metavar="ADDRESS", help="instead of --workers: on a Ray cluster; auto, local, or its")
    group.add_argument("--fresh", action="store_true", help=_FRESH_HELP)


def _add_gates(group: Any) -> None:
    what = "such as 'position_error_p95>0.02'; > >= < <= == !=; repeatable"
    group.add_argument("--fail-on", action="append", default=[], metavar="CONDITION", help=what)
    group.add_argument("--each", action="store_true", help="of several bags, each by itself must stand --fail-on, too")
    group.add_argument("--golden", type=Path, metavar="FILE", help=_GOLDEN_HELP)
    group.add_argument("--update-golden", action="store_true", help="write it: what is decided now is right")


def _add_results(group: Any) -> None:
    group.add_argument("--output", type=Path, metavar="DIR", help=_OUTPUT_HELP)
    group.add_argument("--json", action="store_true", help="print replay.json instead of tables")
    group.add_argument("--junit", type=Path, metavar="FILE", help="the verdict as JUnit XML")
    group.add_argument("--report", action="store_true", help=f"also a page to look at, {_PAGE}")
    group.add_argument(
        "--bag-output", type=Path, metavar="DIR", help="also a bag of the commands, for Foxglove or RViz"
    )
    group.add_argument("--with-inputs", action="store_true", help="in that bag, also what was recorded")


def _run(args: argparse.Namespace) -> int:
    with needed("replay needs", _INSTALL):
        return _replay(args)


def _replay(args: argparse.Namespace) -> int:
    import time

    from vla_ros.data.files import replacing
    from vla_ros.replay.finding import find_bags
    from vla_ros.replay.judging.junit import write_junit
    from vla_ros.replay.one_bag import check_order
    from vla_ros.replay.summary import summarize, summary_json
    from vla_ros.replay.words import summary_words

    began_s = time.monotonic()
    if args.ray and args.workers > 1:
        raise ReplayError("choose either --workers or --ray")
    _clear(args.junit)
    bags = find_bags(args.bags)
    output = args.output or Path("runs") / "replay" / _name_of(args.bags, bags)
    _clear(output / _RESULT, *(folder / _PAGE for folder in _folders(output, bags).values()))
    conditions = _conditions(args)
    orders = _orders(args, bags, output, conditions)
    for order in orders:
        check_order(order)
    ended = _performed(args, orders)
    summary = summarize(ended, conditions)
    text = json.dumps(summary_json(summary), indent=1) + "\n"
    with replacing(output / _RESULT) as draft:
        draft.write_text(text, encoding="utf-8")
    if args.junit is not None:
        write_junit(args.junit, summary.verdicts, time.monotonic() - began_s)
    if len(ended) == 1 and ended[0].verdict is None and not args.json:
        raise ReplayError(ended[0].failure)
    sys.stdout.write(text if args.json else f"{summary_words(summary)}{_written(args, summary, output)}")
    return summary.status


def _clear(*results: Path | None) -> None:
    """Take away what an earlier run said, which must not stand for this one if this one is cut short.

    Raises ReplayError for what cannot be written, before anything is replayed.
    """
    for path in filter(None, results):
        if path.is_dir():
            raise ReplayError(f"{path} is a folder; a file is to be written there")
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ReplayError(f"{path} cannot be written: {error}") from error


def _written(args: argparse.Namespace, summary: Summary, output: Path) -> str:
    page = output / (_PAGE if len(summary.bags) == 1 else f"<bag>/{_PAGE}")
    return f"written to {output}" + (f"; look at {page}" if args.report else "") + "\n"


def _conditions(args: argparse.Namespace) -> tuple[Condition, ...]:
    from vla_ros.replay.judging.conditions import parse_condition

    return tuple(parse_condition(text) for text in args.fail_on)


def _folders(output: Path, bags: Mapping[str, Path]) -> Mapping[str, Path]:
    """Of each bag's results."""
    return {name: output if len(bags) == 1 else output / name for name in bags}


def _orders(
    args: argparse.Namespace, bags: Mapping[str, Path], output: Path, conditions: tuple[Condition, ...]
) -> Sequence[Order]:
    """One for each bag."""
    from vla_ros.replay.golden import golden_of
    from vla_ros.replay.one_bag import Order, Part
    from vla_ros.replay.showing import Shown

    is_one = len(bags) == 1
    threads = args.threads or (1 if args.workers > 1 or args.ray else max(1, len(os.sched_getaffinity(0)) - 1))
    subject, rival = _subject(args, threads), _rival(args, threads)
    part = Part(args.latency, args.from_s, args.to_s, args.namespace, args.instruction)
    orders = []
    for name, folder in _folders(output, bags).items():
        made = args.bag_output if is_one or args.bag_output is None else args.bag_output / name
        golden = None if args.golden is None else golden_of(args.golden, name, is_one)
        orders.append(
            Order(
                name,
                bags[name],
                folder,
                subject,
                part,
                rival,
                conditions if is_one or args.each else (),
                golden,
                args.update_golden,
                is_fresh=is_one or args.fresh,
                shown=Shown(folder / _PAGE if args.report else None, made, args.with_inputs),
            )
        )
    return orders


def _name_of(paths: Sequence[Path], bags: Mapping[str, Path]) -> str:
    if len(bags) == 1:
        return next(iter(bags))
    return paths[0].resolve().name if len(paths) == 1 else "together"


def _subject(args: argparse.Namespace, threads: int) -> Subject:
    from vla_ros.replay.subject import Subject, checkpoint_subject

    if (args.checkpoint is None) == (args.policy is None):
        both = "" if args.policy is None else ", not both"
        raise VlaRosError(f"say who decides: --checkpoint NAME, or --policy NAME{both}")
    given = options(args.option)
    contract = None if args.contract is None else named_file(args.contract)
    if args.checkpoint is not None:
        for name in ("checkpoint", "threads"):
            if name in given:
                raise VlaRosError(f"leave out --option {name}=...: there is --{name}")
        return checkpoint_subject(checkpoint_path(args.checkpoint), given, threads, contract)
    if args.threads is not None:
        raise VlaRosError("--threads is for the network of a --checkpoint")
    return Subject(args.policy, args.policy, given, contract or config_path(_CONTRACT))


def _rival(args: argparse.Namespace, threads: int) -> Subject | None:
    """On the same robot as the first: its contract must be the same for a comparison."""
    from vla_ros.replay.subject import checkpoint_subject

    if args.against is None:
        return None
    first = _subject(args, threads)
    return checkpoint_subject(checkpoint_path(args.against), {}, threads, first.contract)


def _performed(args: argparse.Namespace, orders: Sequence[Order]) -> list[Ended]:
    """All that ended. Whatever ends this, finished bags stay."""
    from vla_ros.replay.on_ray import perform_on_ray
    from vla_ros.replay.pool import perform_all

    ended: list[Ended] = []
    with _bar(len(orders)) as bar:
        found = perform_on_ray(args.ray, orders) if args.ray else perform_all(orders, args.workers, bar.far)
        try:
            for one in found:
                ended.append(one)
                bar.ended(one)
        except KeyboardInterrupt:
            kept = f"; {len(ended)} of {len(orders)} bags are done, and stay so" if len(orders) > 1 else ""
            sys.stderr.write(f"\ninterrupted{kept}\n")
            raise
    return ended


class _Bar:
    """A progress bar in seconds of bag, whose length is known as bags are opened."""

    def __init__(self, bar: Any, bags: int) -> None:
        self._bar, self._bags = bar, bags
        self._done: dict[str, float] = {}
        self._ended = 0

    def far(self, order: Order, done_s: float, all_s: float) -> None:
        """A bag has come so far."""
        if order.name not in self._done:
            self._done[order.name] = 0.0
            self._bar.total = (self._bar.total or 0.0) + all_s
        self._bar.update(done_s - self._done[order.name])
        self._done[order.name] = done_s

    def ended(self, _ended: Ended) -> None:
        """A bag is done."""
        self._ended += 1
        self._bar.set_postfix_str(f"{self._ended}/{self._bags} bags" if self._bags > 1 else "", refresh=False)


@contextmanager
def _bar(bags: int) -> Iterator[_Bar]:
    from tqdm import tqdm

    form = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of bag, {elapsed}{postfix}"
    often_s = 0.2 if sys.stderr.isatty() else 30.0
    with tqdm(total=0.0, desc="replaying", file=sys.stderr, bar_format=form, mininterval=often_s) as bar:
        yield _Bar(bar, bags)


def _latency(text: str) -> str | float:
    if text in ("recorded", "measured"):
        return text
    latency_s = _number(text)
    if not 0.0 <= latency_s <= 10.0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither recorded, nor measured, nor seconds from 0 to 10")
    return latency_s


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in the bag: seconds from 0 on")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
