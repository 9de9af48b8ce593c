"""calibrate: when a network's surprise is an alarm, from runs in which nothing went wrong."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.commands.evaluate import chosen_tasks, progress, say
from vla_ros.commands.needed import needed
from vla_ros.commands.values import count, positive
from vla_ros.errors import VlaRosError
from vla_ros.learning.evaluation.names import LATENCY_S
from vla_ros.resources import CHECKPOINT_MEMORY, CHECKPOINT_PARTS, checkpoint_files, checkpoint_path

if TYPE_CHECKING:
    from vla_ros.learning.evaluation.subject import Subject
    from vla_ros.learning.evaluation.trials import Outcome, Trial
    from vla_ros.model.meddling import Meddling
    from vla_ros.model.surprise import Calibration
    from vla_ros.types import FloatArray

_INSTALL = "pip install metaworld packaging tqdm rosbags mcap msgspec"
# Of the training split's worlds: none of those that anything else is learned from, or measured in.
_FIRST, _DISTURBED_FIRST, _LESSONS_FIRST = 300_000, 500_000, 600_000
_CALM_ROUNDS = 0.6  # for each lesson of a kind
_DESCRIPTION = """\
Find the threshold above which a network's surprise is an alarm, and write it into the checkpoint: the lowest one that
promises at most so many false alarms an hour, with a confidence of 95 %. For networks that foresee.

The runs are ones in which nothing goes wrong: simulated episodes that succeed, in worlds that are in no training set
and no test, or recorded bags. Together they must last nearly four times as long as the time between two alarms, 1.9 h
for two an hour, without the first look of each, of which nothing can be expected. Every fifth run gives the units in
which surprise is counted, the others give the threshold. Every simulated episode is written down as it ends, and every
bag that was replayed: the same command goes on with what was cut short, and more hours add to those before.

Where the network is told where things are, it first learns how it looks when somebody meddles with them: from episodes
in which things are moved by hand and slip, and from others in which nothing happens. With --bags it knows what it has
learned before."""
_EPILOG = """\
examples:
  vla_ros calibrate runs/train-mt10-foresight/last                          two alarms an hour, 2.4 simulated hours
  vla_ros calibrate runs/train-mt10-foresight/last --per-hour 15            a quarter of an hour
  vla_ros calibrate runs/train-mt10-foresight/last --hours 4                a lower threshold for the same promise
  vla_ros calibrate runs/mine/best --bags bags/good --per-hour 6

Exit status: 0 calibrated; 2 it cannot be done, and why: runs that are too short say what they would suffice for."""


def add_parsers(subparsers: Any) -> None:
    """The command `calibrate`."""
    parser = subparsers.add_parser(
        "calibrate",
        help="find when a network's surprise is an alarm",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a folder")
    add("--per-hour", type=positive, default=2.0, metavar="N", help="false alarms that are allowed (2)")
    add("--hours", type=positive, metavar="H", help="of simulated runs (as many as the promise needs)")
    add("--bags", nargs="+", type=Path, metavar="BAG", help="recordings instead, or folders of them")
    add("--tasks", metavar="TASKS", help="of the simulation: as of evaluate (those that it learned)")
    add("--lessons", type=count, default=100, metavar="N", help="of each way to meddle, simulated (100)")
    add("--workers", type=count, metavar="N", help="processes side by side (one per core)")
    add("--output", type=Path, metavar="DIR", help="of the runs (runs/calibrate-<checkpoint>)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with needed("calibration needs", _INSTALL):
        return _calibrate(args)


def _calibrate(args: argparse.Namespace) -> int:
    from vla_ros.model.calibration_file import write_calibration
    from vla_ros.model.surprise import calibrate

    folder = checkpoint_path(args.checkpoint)
    output = args.output or Path("runs") / f"calibrate-{'-'.join(folder.resolve().parts[-2:])}"
    network = _uncalibrated(folder, output / "network", keeps_lessons=bool(args.bags))
    meddling = None if args.bags else _taught(args, network, output)
    runs, period_s = _replayed(args, network, output) if args.bags else _simulated(args, network, output, meddling)
    if not math.isfinite(period_s):
        raise VlaRosError("nothing was foretold in these runs: they must show two looks at the same task")
    calibration = calibrate(runs, period_s, args.per_hour)
    write_calibration(folder, calibration, meddling)
    sys.stdout.write(_table(runs, period_s, calibration, args.per_hour) + f"written into {folder}\n")
    return 0


def _uncalibrated(folder: Path, copy: Path, keeps_lessons: bool) -> Path:
    """The same network as if it had never been calibrated, and unless that is kept as if it had never been taught: what
    it does in simulation does not depend on either, and the log of it must not.
    """
    from vla_ros.model.calibration_file import write_calibration
    from vla_ros.model.checkpoint import load_checkpoint
    from vla_ros.model.surprise import Calibration

    copy.mkdir(parents=True, exist_ok=True)
    for part in CHECKPOINT_PARTS:
        if not (folder / part).is_file():
            raise VlaRosError(f"{folder} is not a checkpoint: it has no {part}")
    (copy / CHECKPOINT_MEMORY).unlink(missing_ok=True)  # of a run before, when there was one
    for file in checkpoint_files(folder):
        shutil.copyfile(file, copy / file.name)
    for record in folder.glob("training.json"):  # which tasks it learned
        shutil.copyfile(record, copy / record.name)
    meddling = None if keeps_lessons else load_checkpoint(copy).model.reasoning.meddling
    if meddling is not None:
        meddling.forget()
    write_calibration(copy, Calibration(), meddling)
    return copy


def _taught(args: argparse.Namespace, network: Path, output: Path) -> Meddling | None:
    """What it is told by that somebody meddles; None for a network that is not told where things are."""
    from vla_ros.learning.evaluation import calm
    from vla_ros.learning.evaluation.disturbed import MEDDLED, WATCHED_STEPS, disturbed_trials
    from vla_ros.learning.meddled import teach
    from vla_ros.model.checkpoint import load_checkpoint
    from vla_ros.policy.sentences import load_sentences

    meddling = load_checkpoint(network).model.reasoning.meddling
    if meddling is None:
        return None
    subject, table = _watchful(network), load_sentences()
    tasks = chosen_tasks(args.tasks, subject)
    disturbed = [
        trial
        for kind in MEDDLED
        for trial in disturbed_trials(kind, args.lessons, table, "train", _DISTURBED_FIRST, tasks)
    ]
    if not disturbed:
        say("nothing can be moved, or slip, in these tasks: meddling is not learned")
        return meddling
    rounds = math.ceil(_CALM_ROUNDS * args.lessons)
    undisturbed = calm.calm_trials(tasks, table, rounds, "train", _LESSONS_FIRST)
    came_about = _performed(args, subject, disturbed, WATCHED_STEPS, output / "disturbed")
    runs = [
        *(run for run in came_about if run.disturbed_s is not None),  # in the others nobody came, or nobody cared
        *calm.good(_performed(args, subject, undisturbed, calm.LINGER_STEPS, output / "undisturbed")),
    ]
    teach(meddling, runs)
    return meddling


def _watchful(network: Path) -> Subject:
    from vla_ros.learning.evaluation.subject import checkpoint_subject

    return checkpoint_subject(network, {"surprise": "tell"})


def _performed(
    args: argparse.Namespace, subject: Subject, trials: Sequence[Trial], linger_steps: int, folder: Path
) -> Sequence[Outcome]:
    """What came of each, if need be now."""
    from vla_ros.learning.evaluation.log import OutcomeLog, locked
    from vla_ros.learning.evaluation.run import Conditions, run_trials

    conditions = Conditions(subject.kind.horizon, LATENCY_S, linger_steps)
    with locked(folder):
        log = OutcomeLog(folder, {**subject.identity(), **conditions.identity()})
        say(f"{len(trials)} {folder.name} runs to learn from, {sum(one.key in log for one in trials)} done before")
        run_trials(subject, trials, conditions, _workers(args), log, progress, say)
    return log.of(trials)


def _workers(args: argparse.Namespace) -> int:
    return args.workers or len(os.sched_getaffinity(0))


def _simulated(
    args: argparse.Namespace, network: Path, output: Path, meddling: Meddling | None
) -> tuple[Sequence[FloatArray], float]:
    from vla_ros.learning.evaluation import calm
    from vla_ros.learning.evaluation.log import OutcomeLog, locked
    from vla_ros.learning.evaluation.run import Conditions
    from vla_ros.model.surprise import hours_needed
    from vla_ros.policy.sentences import load_sentences

    subject, table = _watchful(network), load_sentences()
    tasks = chosen_tasks(args.tasks, subject)
    conditions = Conditions(subject.kind.horizon, LATENCY_S, calm.LINGER_STEPS)
    hours = args.hours or hours_needed(args.per_hour)
    with locked(output / "runs"):
        log = OutcomeLog(output / "runs", {**subject.identity(), **conditions.identity()})
        say(f"{hours:.3g} h of undisturbed runs, {len(log.outcomes)} episodes of them done before: {log.path}")
        outcomes = calm.run_for(
            hours,
            calm.watched_hours,
            subject,
            lambda rounds: calm.calm_trials(tasks, table, rounds, "train", _FIRST),
            conditions,
            _workers(args),
            log,
            progress,
            say,
        )
    undisturbed = calm.good(outcomes)
    return calm.errors_of(undisturbed, meddling), calm.period_of(undisturbed)


def _replayed(args: argparse.Namespace, network: Path, output: Path) -> tuple[Sequence[FloatArray], float]:
    import numpy as np
    from tqdm import tqdm

    from vla_ros.replay.finding import find_bags
    from vla_ros.replay.subject import checkpoint_subject
    from vla_ros.replay.surprises import errors_at

    subject = checkpoint_subject(network, {"surprise": "tell"}, threads=len(os.sched_getaffinity(0)))
    bags = find_bags(args.bags)
    runs, gaps_s = [], [np.zeros(0)]
    for name, bag in tqdm(bags.items(), unit="bag", file=sys.stderr):
        stamps_s, errors = errors_at(bag, subject, output / "bags" / f"{name}.json")
        if not len(errors):
            say(f"{bag} is left out: nothing was foretold in it")
            continue
        runs.append(errors)
        gaps_s.append(np.diff(stamps_s))
    return runs, float(np.median(between)) if len(between := np.concatenate(gaps_s)) else math.nan


def _table(runs: Sequence[FloatArray], period_s: float, calibration: Calibration, per_hour: float) -> str:
    import numpy as np

    from vla_ros.model.surprise import PARTS

    errors = np.concatenate(runs)
    surprises = (errors / np.array(calibration.scales)).max(axis=1)
    lines = [
        f"{len(errors) * period_s / 3600.0:.2f} h of undisturbed runs, {len(errors)} looks, {period_s:g} s apart",
        f"{'':12}{'median':>9}{'90 %':>9}{'99 %':>9}{'99.9 %':>9}{'most':>9}",
    ]
    for name, found in (*zip(PARTS, errors.T, strict=True), ("surprise", surprises)):
        numbers = np.percentile(found, [50, 90, 99, 99.9, 100])
        lines.append(f"{name:12}" + "".join(f"{number:9.3f}" for number in numbers))
    above = int((surprises > calibration.threshold).sum())
    lines.append(
        f"threshold {calibration.threshold:.3f}, {above} of these looks above it: at most {per_hour:g} false alarms an "
        "hour, with a confidence of 95 %"
    )
    return "".join(f"{line}\n" for line in lines)
