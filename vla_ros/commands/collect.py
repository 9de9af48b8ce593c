"""collect: demonstrations by scripted experts, as a dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from vla_ros.commands.needed import needed
from vla_ros.commands.values import count, natural
from vla_ros.errors import LearningError
from vla_ros.resources import named_file

_INSTALL = "pip install metaworld packaging pyarrow tqdm"
_DESCRIPTION = """\
Let scripted experts show tasks on the simulated robot, and record cameras, robot, actions and labels as a
dataset in LeRobot's format v3.0. Experts are pushed off their way now and then; what is recorded is what they would
have done. Failed episodes are kept and marked. The same plan gives the same episodes, with any number of workers; a
run that was cut short goes on where it was."""
_EPILOG = """\
examples:
  vla_ros collect mt10                                   what config/collection/mt10.yaml says, into data/mt10
  vla_ros collect mt10 --varied light --varied colours   the same, looking different in every episode
  vla_ros collect --task push-v3 --task reach-v3 --episodes 60 --output data/two

Exit status: 0 done, 2 wrong arguments, or the folder holds something else."""


def add_parsers(subparsers: Any) -> None:
    """The command `collect`."""
    parser = subparsers.add_parser(
        "collect",
        help="record demonstrations by scripted experts, in simulation",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", nargs="?", help="a YAML file, or the name of one in config/collection/")
    parser.add_argument(
        "--task", action="append", default=[], help="instead of a plan: a task of the robot; repeatable"
    )
    parser.add_argument("--episodes", type=count, default=50, metavar="N", help="of each --task (50)")
    parser.add_argument("--varied", action="append", help="light, colours, camera or distractors; repeatable")
    parser.add_argument("--seed", type=natural, metavar="N", help="of noise and looks (the plan's, or 0)")
    parser.add_argument("--output", type=Path, help="folder of the dataset (data/<plan>)")
    parser.add_argument("--contract", help="whose cameras and limits they are (the plan's, or sawyer_sim)")
    parser.add_argument("--workers", type=count, metavar="N", help="processes (one for each core)")
    parser.add_argument("--video", action="store_true", help="cameras as videos instead of images in the table")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with needed("collecting needs", _INSTALL):
        return _collect(args)


def _collect(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from vla_ros.contract_file import load_contract
    from vla_ros.data.writer import DatasetWriter
    from vla_ros.learning.collection import default_workers, missing, perform, record_of, schema_of
    from vla_ros.learning.collection_plan import takes_of
    from vla_ros.sim.robots import kind_of
    from vla_ros.sim.scenes import check_kinds

    check_kinds(args.varied or ())
    plan, name = _plan(args)
    plan = replace(plan, seed=plan.seed if args.seed is None else args.seed, varied=tuple(args.varied or plan.varied))
    output: Path = args.output or Path("data") / name
    contract = load_contract(named_file(args.contract or plan.contract))
    kind = kind_of(contract)
    kind.check_views(tuple(contract.cameras))
    for task in plan.named:
        kind.check_task(task)
    schema = schema_of(contract, plan, args.video)
    takes, failed = takes_of(plan), 0
    with DatasetWriter(output, schema) as writer:
        todo = missing(takes, writer.facts)
        bar = tqdm(total=len(takes), initial=len(takes) - len(todo), desc=f"collecting {output}", unit="episode")
        for demonstration in perform(todo, contract, args.workers or default_workers()):
            writer.add(record_of(demonstration, schema))
            failed += not demonstration.success
            bar.update()
            bar.set_postfix(frames=writer.frames, failed=failed)
        bar.close()
        failures = sum(not facts["success"] for facts in writer.facts)
        sys.stdout.write(f"{output}: {len(writer.facts)} episodes, {failures} of them failed, {writer.frames} frames\n")
    return 0


def _plan(args: argparse.Namespace) -> tuple[Any, str]:
    """The plan, and what its dataset is called. Raises LearningError."""
    from vla_ros.learning.collection_plan import Plan, check_plan, read_plan

    if bool(args.plan) == bool(args.task):
        raise LearningError("name a plan, such as mt10, or the tasks with --task")
    if args.plan:
        path = named_file(args.plan, "collection")
        return read_plan(path), path.stem
    plan = Plan(dict.fromkeys(args.task, args.episodes))
    check_plan(plan, "--task")
    return plan, "-".join(task.removesuffix("-v3") for task in args.task)
