"""evaluate: a policy in closed loop on worlds that it has not learned from, behind the guard, in simulation."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.errors import LearningError, VlaRosError
from vla_ros.learning.evaluation.names import HORIZON, MEANINGS

if TYPE_CHECKING:
    from vla_ros.learning.evaluation.log import OutcomeLog
    from vla_ros.learning.evaluation.subject import Subject
    from vla_ros.learning.evaluation.trials import Outcome, Trial

_DESCRIPTION = """\
Run a policy in closed loop on the simulated robot and count what it achieves: frames at the contract's camera rate,
inference delayed by what it takes on this machine, the guard's limits on. It is the decision path of the live graph, in
one process per worker and in simulated time. Worlds are of the test split: no training set has them.
Every episode is written down as it ends: the same command goes on with a run that was cut short.
Leaves evaluation.json, and a table, plots and the episodes in evaluation/, in the checkpoint's folder."""
_EPILOG = """\
suites:
{suites}

examples:
  vla_ros evaluate runs/mt10
  vla_ros evaluate runs/mt10 --suite held_out --suite blank --episodes 5
  vla_ros evaluate --policy oracle --tasks drawer-open-v3,drawer-close-v3 --suite opposites

Exit status: 0 measured, whatever the successes; 2 it cannot be done, and why."""


def add_parsers(subparsers: Any) -> None:
    """The command `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a policy in closed loop on unseen worlds",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(suites="\n".join(f"  {name:16} {text}" for name, text in MEANINGS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help="its folder")
    parser.add_argument("--policy", metavar="NAME", help="instead of a checkpoint: `vla_ros policies` lists them")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="for the policy; repeatable")
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        choices=tuple(MEANINGS),
        metavar="SUITE",
        help="one of those below; repeatable (all)",
    )
    parser.add_argument("--tasks", metavar="TASKS", help="mt10, mt50, or names with commas between (those it learned)")
    parser.add_argument("--episodes", type=_count, metavar="N", help="of each task and suite (20; 10 of other looks)")
    parser.add_argument("--workers", type=_count, metavar="N", help="processes side by side (one per core)")
    parser.add_argument("--horizon", type=_count, default=HORIZON, metavar="N", help=f"steps of 12.5 ms ({HORIZON})")
    parser.add_argument(
        "--latency",
        type=_latency,
        metavar="S",
        help="of inference in seconds, or: measured, under the same load (measured)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="(the checkpoint's folder)")
    parser.add_argument("--fresh", action="store_true", help="forget the episodes that were measured before")
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


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
    from vla_ros.learning.evaluation.log import OutcomeLog
    from vla_ros.learning.evaluation.run import Conditions, run_trials

    subject, output = _subject(args), _output(args)
    trials = _trials(args, subject)
    conditions = Conditions(args.horizon, args.latency)
    identity = {**subject.identity(), **conditions.identity()}
    log = OutcomeLog(output / "evaluation", identity, args.fresh)
    done = sum(trial.key in log for trial in trials)
    _say(f"{len(trials)} episodes, {done} of them measured before: {log.path}")
    run_trials(subject, trials, conditions, args.workers or _cores(), log, _progress, _say)
    _report(output, identity, log)
    return 0


def _subject(args: argparse.Namespace) -> Subject:
    from vla_ros.learning.evaluation.subject import checkpoint_subject, policy_subject

    if (args.checkpoint is None) == (args.policy is None):
        raise VlaRosError(
            "name either a checkpoint's folder or a policy: vla_ros evaluate CHECKPOINT, or --policy NAME"
        )
    options = {}
    for word in args.option:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise VlaRosError(f"policy option {word!r} is not of the form key=value")
        options[key] = value
    return checkpoint_subject(args.checkpoint, options) if args.checkpoint else policy_subject(args.policy, options)


def _output(args: argparse.Namespace) -> Path:
    output: Path = args.output or args.checkpoint or Path("runs") / f"evaluate-{args.policy.replace(':', '-')}"
    (output / "evaluation").mkdir(parents=True, exist_ok=True)
    return output


def _trials(args: argparse.Namespace, subject: Subject) -> Sequence[Trial]:
    from vla_ros.learning.evaluation.suites import trials
    from vla_ros.policy.sentences import load_sentences

    tasks = _tasks(args.tasks, subject)
    found = {suite: trials(suite, tasks, load_sentences(), args.episodes) for suite in args.suite or MEANINGS}
    for suite, asked in found.items():
        if not asked and args.suite:
            raise LearningError(f"the suite {suite} needs both tasks of a drawer or a window; choose them with --tasks")
    return [trial for asked in found.values() for trial in asked]


def _tasks(text: str | None, subject: Subject) -> tuple[str, ...]:
    from vla_ros.learning.evaluation.subject import trained_tasks
    from vla_ros.learning.evaluation.suites import MT10
    from vla_ros.sim.robot import TASKS

    if text is None:
        return (trained_tasks(subject.checkpoint) if subject.checkpoint else ()) or MT10
    if text in ("mt10", "mt50"):
        return MT10 if text == "mt10" else TASKS
    tasks = tuple(dict.fromkeys(text.split(",")))
    for task in tasks:
        if task not in TASKS:
            raise LearningError(f"'{task}' is not a task; choose mt10, mt50, or from {', '.join(TASKS)}")
    return tasks


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _progress(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    from tqdm import tqdm

    yield from tqdm(outcomes, total=total, unit="episode", file=sys.stderr)


def _report(output: Path, identity: Mapping[str, Any], log: OutcomeLog) -> None:
    from vla_ros.data.files import replacing
    from vla_ros.learning.evaluation.summary import summarise
    from vla_ros.learning.evaluation.table import table

    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    summary = {"when": when, "subject": identity, "latency": log.latency, **summarise(log.outcomes)}
    with replacing(output / "evaluation.json") as draft:
        draft.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    text = table(summary)
    with replacing(output / "evaluation" / "table.md") as draft:
        draft.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{text}\nwritten to {output / 'evaluation.json'}\n")


def _say(line: str) -> None:
    """Not on the standard output: that may be a file."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
