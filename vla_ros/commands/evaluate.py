"""evaluate: a policy in closed loop on worlds that it has not learned from, behind the guard, in simulation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.commands.needed import needed
from vla_ros.commands.values import count, options
from vla_ros.errors import LearningError, VlaRosError
from vla_ros.learning.evaluation.names import HORIZON, MEANINGS, METAWORLD, ROS
from vla_ros.resources import checkpoint_path, named_file

if TYPE_CHECKING:
    from vla_ros.learning.evaluation.subject import Subject
    from vla_ros.learning.evaluation.trials import Outcome, Trial

_PROTOCOL = "metaworld-mt50"
_NODES = "nodes.log"
_INSTALL = "pip install metaworld packaging tqdm matplotlib"
_DESCRIPTION = """\
Run a policy in closed loop on the simulated robot and count what it achieves: frames at the contract's camera rate,
inference delayed by what it takes on this machine, the guard's limits on. It is the decision path of the live graph, in
one process per worker and in simulated time. Worlds are of the test split: no training set has them.
Every episode is written down as it ends: the same command goes on with a run that was cut short.
Leaves evaluation.json, and tables, plots and the episodes in evaluation/, in the checkpoint's folder. They tell of all
that was measured of this checkpoint under these conditions, whatever was asked for now."""
_EPILOG = """\
suites:
{suites}

examples:
  vla_ros evaluate runs/mt10
  vla_ros evaluate runs/mt10 --suite held_out --suite blank --episodes 5
  vla_ros evaluate runs/mt10 --ros
  vla_ros evaluate --policy oracle --tasks drawer-open-v3,drawer-close-v3 --suite opposites

Exit status: 0 measured, whatever the successes; 2 it cannot be done, and why."""
_ROS_HELP = """\
also over ROS between processes, in real time: 10 worlds of each task, to be compared with the same in one process;
without --suite, of the others only seen_phrasings is run"""
_PROTOCOL_HELP = f"""\
{_PROTOCOL}: as others report Meta-World, 10 episodes of each of its 50 tasks, 400 steps; says what differs from that"""


def add_parsers(subparsers: Any) -> None:
    """The command `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a policy in closed loop on unseen worlds",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(suites="\n".join(f"  {name:16} {text}" for name, text in MEANINGS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, or the name of one that comes with the package")
    add("--policy", metavar="NAME", help="instead of a checkpoint: `vla_ros policies` lists them")
    add("--option", action="append", default=[], metavar="KEY=VALUE", help="for the policy; repeatable")
    what = "one of those below; repeatable (all)"
    add("--suite", action="append", default=[], choices=tuple(MEANINGS), metavar="SUITE", help=what)
    add("--protocol", choices=(_PROTOCOL,), metavar="NAME", help=_PROTOCOL_HELP)
    add("--ros", action="store_true", help=_ROS_HELP)
    add("--contract", metavar="NAME", help="with --policy: of the simulated robot, by name or file (sawyer_sim)")
    tasks_help = "mt10, mt50, or names with commas between (those that it learned, or mt10, or all of a base)"
    add("--tasks", metavar="TASKS", help=tasks_help)
    add("--episodes", type=count, metavar="N", help="of each task and suite (20; 10 of other looks)")
    add("--workers", type=count, metavar="N", help="processes side by side (one per core)")
    add("--horizon", type=count, metavar="N", help=f"steps of 12.5 ms ({HORIZON}; of a base 1600)")
    delay = "of inference in seconds, or: measured, under the same load (measured)"
    add("--latency", type=_latency, metavar="S", help=delay)
    add("--output", type=Path, metavar="DIR", help="(the checkpoint's folder)")
    add("--fresh", action="store_true", help="forget the episodes that were measured before")
    parser.set_defaults(run=_run)


def _latency(text: str) -> float | None:
    if text == "measured":
        return None
    try:
        latency_s = float(text)
    except ValueError:
        latency_s = -1.0
    if not 0.0 <= latency_s <= 10.0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'measured' nor seconds from 0 to 10")
    return latency_s


def _run(args: argparse.Namespace) -> int:
    with needed("evaluation needs", _INSTALL):
        return _evaluate(args)


def _evaluate(args: argparse.Namespace) -> int:
    from vla_ros.learning.evaluation.log import OutcomeLog, locked
    from vla_ros.learning.evaluation.report import FOLDER, write_published, write_report
    from vla_ros.learning.evaluation.run import Conditions, run_trials

    _check(args)
    subject = _subject(args)
    trials, over_ros = _trials(args, subject)
    output = args.output or subject.checkpoint or Path("runs") / f"evaluate-{args.policy.replace(':', '-')}"
    conditions = Conditions(args.horizon or subject.kind.horizon, args.latency)
    identity = {**subject.identity(), **conditions.identity()}
    with locked(folder := output / FOLDER):
        log = OutcomeLog(folder, identity, args.fresh)
        done = sum(trial.key in log for trial in (*trials, *over_ros))
        say(f"{len(trials) + len(over_ros)} episodes, {done} of them measured before: {log.path}")
        run_trials(subject, trials, conditions, args.workers or len(os.sched_getaffinity(0)), log, progress, say)
        if over_ros:
            from vla_ros.commands.evaluate_ros import run_over_ros

            say(f"over ROS, one after the other in real time; what the nodes say: {folder / _NODES}")
            run_over_ros(subject, over_ros, conditions.horizon, log, folder / _NODES, progress)
        text = write_published(output, subject, log) if args.protocol else write_report(output, log)
    sys.stdout.write(f"{text}\nwritten to {output} and {folder}\n")
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.checkpoint is None) == (args.policy is None):
        raise VlaRosError(
            "name either a checkpoint's folder or a policy: evaluate CHECKPOINT, or evaluate --policy NAME"
        )
    if args.contract and args.checkpoint:
        raise VlaRosError("a checkpoint is for the robot of its own contract: leave out --contract")
    if args.protocol and (args.suite or args.ros or args.horizon or args.episodes):
        raise VlaRosError(f"{_PROTOCOL} says what is run: leave out --suite, --ros, --horizon and --episodes")


def _subject(args: argparse.Namespace) -> Subject:
    from vla_ros.learning.evaluation.subject import CONTRACT, checkpoint_subject, policy_subject

    given = options(args.option)
    if args.policy:
        return policy_subject(args.policy, given, named_file(args.contract or CONTRACT))
    return checkpoint_subject(checkpoint_path(args.checkpoint), given)


def _trials(args: argparse.Namespace, subject: Subject) -> tuple[Sequence[Trial], Sequence[Trial]]:
    """What is to be run in one process, and over ROS."""
    from vla_ros.learning.evaluation.suites import trials
    from vla_ros.policy.sentences import load_sentences

    table, tasks = load_sentences(), _tasks(args, subject)
    if args.protocol:
        return trials(METAWORLD, tasks, table), ()
    suites = args.suite or (["seen_phrasings"] if args.ros else list(MEANINGS))
    looks = set(subject.kind.looks)
    asked = {suite: trials(suite, tasks, table, args.episodes) for suite in suites}
    found = {suite: [one for one in all_ if set(one.scene.varied) <= looks] for suite, all_ in asked.items()}
    for suite in args.suite:
        if not asked[suite]:
            raise LearningError(f"the suite {suite} needs both tasks of a drawer or a window; choose them with --tasks")
        if not found[suite]:
            raise LearningError(f"the suite {suite} cannot be shown: what can be varied is {', '.join(sorted(looks))}")
    over_ros = trials(ROS, tasks, table, args.episodes) if args.ros else ()
    return [trial for group in found.values() for trial in group], over_ros


def _tasks(args: argparse.Namespace, subject: Subject) -> tuple[str, ...]:
    from vla_ros.learning.evaluation.suites import MT50

    return MT50 if args.protocol and args.tasks is None else chosen_tasks(args.tasks, subject)


def chosen_tasks(text: str | None, subject: Subject) -> tuple[str, ...]:
    """As the option --tasks names them; without, those that it learned, or the robot's usual ones.

    Raises LearningError for a task that the robot does not have.
    """
    from vla_ros.learning.evaluation.subject import trained_tasks
    from vla_ros.learning.evaluation.suites import MT10, MT50, usual_tasks

    if text in ("mt10", "mt50"):
        return MT10 if text == "mt10" else MT50
    if text is not None:
        tasks = tuple(dict.fromkeys(text.split(",")))
    else:
        tasks = trained_tasks(subject.checkpoint) if subject.checkpoint else ()
    for task in tasks:
        if task not in subject.kind.tasks:
            raise LearningError(f"'{task}' is not a task; choose mt10, mt50, or from {', '.join(subject.kind.tasks)}")
    return tasks or usual_tasks(subject.kind)


def progress(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    """A bar on the standard error."""
    from tqdm import tqdm

    yield from tqdm(outcomes, total=total, unit="episode", file=sys.stderr)


def say(line: str) -> None:
    """Not on the standard output: that may be a file."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
