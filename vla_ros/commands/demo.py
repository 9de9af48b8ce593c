"""demo: three tasks by sentence on the simulated robot, over ROS between separate processes, recorded."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.bringup import BringUp, node_processes
from vla_ros.commands.needed import needed
from vla_ros.contract_file import load_contract
from vla_ros.resources import checkpoint_path, named_file
from vla_ros.supervise import Supervisor, running

if TYPE_CHECKING:
    from vla_ros.ros.sim_client import Episode, Told
    from vla_ros.sim.robots import RobotKind

TASKS = ("window-open-v3", "button-press-topdown-v3", "push-v3")
CHECKPOINT = "mt10"
_VARIATION = "test:0"
# In this task's world something else is said first, and the robot is told better while it is at it.
_RECOMMANDED, _FIRST_TASK, _CHANGED_MIND_AFTER_S = "window-open-v3", "window-close-v3", 0.8
_HORIZON = 500
_UP_TIMEOUT_S = 120.0
_BAG, _SHEET, _SUMMARY, _LOG = "bag", "contact_sheet.png", "summary.md", "nodes.log"

_DESCRIPTION = f"""\
Show the whole loop on the simulated robot: cameras, a sentence, a policy, the guard, and back, as separate processes
that talk over ROS 2. Three tasks are named by sentence, in one of them only after something else was said and begun;
the guard is armed for each and disarmed after it. The policy is the network of the checkpoint {CHECKPOINT}, which comes
with the package; --policy oracle lets Meta-World's scripted experts do it instead.
Leaves a bag, a picture of the cameras ({_SHEET}) and {_SUMMARY} in a folder of runs/. Nothing of it can reach a real
robot: the graph has a ROS domain of its own, on this machine only."""


def add_parsers(subparsers: Any) -> None:
    """The command `demo`."""
    summary = "three tasks by sentence, in simulation, from nothing; results in runs/"
    parser = subparsers.add_parser(
        "demo", help=summary, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="folder of the results (runs/demo-<date>-<time>)")
    parser.add_argument("--policy", default="vla", metavar="NAME", help="`vla_ros policies` lists them (vla)")
    parser.add_argument(
        "--checkpoint", default=CHECKPOINT, help=f"of the policy vla: a folder or a name ({CHECKPOINT})"
    )
    parser.add_argument(
        "--task", action="append", default=[], metavar="TASK", help=f"of the robot; repeatable ({', '.join(TASKS)})"
    )
    parser.add_argument(
        "--contract", default="sawyer_sim", help="which simulated robot: base_sim, or a file (sawyer_sim)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from vla_ros.ros.runtime import isolate

    with needed("the demo needs", "pip install 'vla_ros[sim]'"):
        from vla_ros.sim.robots import kind_of
    contract = named_file(args.contract)
    kind = kind_of(load_contract(contract))
    tasks = args.task or (TASKS if set(TASKS) <= set(kind.tasks) else kind.tasks[:: len(kind.tasks) // 3 + 1])
    options = (f"checkpoint={checkpoint_path(args.checkpoint).resolve()}",) if args.policy == "vla" else ()
    output = args.output or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    output.mkdir(parents=True, exist_ok=True)
    os.environ.update(isolate(os.environ))
    plan = BringUp(
        contract=contract,
        policy=args.policy,
        policy_options=options,
        sim=True,
        use_sim_time=True,
        record=str((output / _BAG).resolve()),
    )
    _say(f"starting the simulated robot, guard, policy '{args.policy}' and a recorder; their words: {output}/{_LOG}")
    with running(node_processes(plan), output / _LOG) as supervisor:
        try:
            episodes = _perform(tasks, kind, supervisor)
        finally:
            _say("ending the processes")
    _report(output, plan.contract, episodes)
    return 0 if all(episode.success for episode in episodes) else 1


def _words(task: str) -> list[Told]:
    """What is said in a task's world."""
    from vla_ros.policy.sentences import load_sentences
    from vla_ros.ros.sim_client import Told

    sentences = load_sentences()
    if task != _RECOMMANDED:
        return [Told(sentences.usual(task))]
    return [Told(sentences.usual(_FIRST_TASK)), Told(sentences.usual(task), _CHANGED_MIND_AFTER_S)]


def _perform(tasks: Sequence[str], kind: RobotKind, supervisor: Supervisor) -> list[Episode]:
    from vla_ros.policy.metaworld_action import CONTROL_DT_S
    from vla_ros.ros.sim_client import SimClient
    from vla_ros.ros.talk import Graph

    episodes = []
    with Graph("", _UP_TIMEOUT_S, supervisor.require_alive) as graph:
        graph.wait_until_up()
        client = SimClient(graph)
        for task in tasks:
            told = _words(task)
            said = f", after {_CHANGED_MIND_AFTER_S:.1f} s ".join(f'"{words.sentence}"' for words in told)
            _say(f"{task}: arming, then saying {said}")
            episode = client.run(task, _VARIATION, told, max(_HORIZON, kind.horizon) * CONTROL_DT_S)
            episodes.append(episode)
            words = "done" if episode.success else "NOT done"
            hindered = f"stops: {_counts(episode.stopped)}; latches: {episode.latches}"
            _say(f"  {words} after {episode.sim_time_s:.1f} s; {hindered}")
    return episodes


def _report(output: Path, contract_path: Path, episodes: Sequence[Episode]) -> None:
    from vla_ros.contact_sheet import Band, contact_sheet
    from vla_ros.ros.recorded_frames import recorded_frames

    _say("drawing the contact sheet from the bag")
    frames = recorded_frames(output / _BAG, load_contract(contract_path))
    bands = []
    for episode in episodes:
        views = {
            view: {stamp: image for stamp, image in taken.items() if episode.began_ns <= stamp <= episode.ended_ns}
            for view, taken in frames.items()
        }
        title = f'"{episode.sentence}"  {"done" if episode.success else "not done"} in {episode.sim_time_s:.1f} s'
        bands.append(Band(title, views))
    contact_sheet(bands).save(output / _SHEET)
    (output / "summary.json").write_text(json.dumps([asdict(episode) for episode in episodes], indent=2) + "\n")
    (output / _SUMMARY).write_text(_summary(episodes))
    done = sum(episode.success for episode in episodes)
    _say(
        f"{done} of {len(episodes)} tasks done; see {output}/{_SHEET}, {output}/{_SUMMARY} and the bag {output}/{_BAG}"
    )


def _summary(episodes: Sequence[Episode]) -> str:
    lines = [
        "| sentence | task | success | robot's time [s] | wall time [s] | stops | latches | clipped ticks |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {episode.sentence} | {episode.task} {episode.variation} | {'yes' if episode.success else 'no'} "
        f"| {episode.sim_time_s:.2f} | {episode.wall_time_s:.2f} | {_counts(episode.stopped)} | {episode.latches} "
        f"| {_counts(episode.clips)} |"
        for episode in episodes
    ]
    return "\n".join(lines) + "\n"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
