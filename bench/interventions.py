"""Whether a policy gets better by being corrected: it fails where it was shown nothing, a human takes over there, what
the human did is learned from the bags, and both policies are tried on fresh worlds.

The task is to press a button. Demonstrations show it on the left; it is to be pressed on the right, too. Every step
leaves its result in a folder and is not done again: a run that was cut short goes on where it was.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.options import Options
from bench.report import Bar, conclude, write_text
from vla_ros.bringup import BringUp, node_processes
from vla_ros.contract_file import load_contract
from vla_ros.data.writer import DatasetWriter
from vla_ros.errors import VlaRosError
from vla_ros.learning.collection import missing, perform, record_of, schema_of
from vla_ros.learning.collection_plan import Plan
from vla_ros.learning.demonstration import Take
from vla_ros.learning.evaluation.log import OutcomeLog, locked
from vla_ros.learning.evaluation.names import LATENCY_S
from vla_ros.learning.evaluation.run import Conditions, run_trials
from vla_ros.learning.evaluation.statistics import Rate, paired
from vla_ros.learning.evaluation.subject import checkpoint_subject
from vla_ros.learning.evaluation.trials import Outcome, Trial
from vla_ros.policy.sentences import load_sentences
from vla_ros.ros.sim_client import SimClient, Told
from vla_ros.ros.talk import Graph
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.variations import Split, Variation
from vla_ros.supervise import Process, running

_TASK = "button-press-topdown-v3"
_THING_X = 4  # where in the privileged state
_SHOWN_BELOW_M, _UNSEEN_ABOVE_M = -0.02, 0.02  # of the button, along x
_CORRECTED_FROM = 10_000  # the training split's worlds that a human sees are none of the demonstrations'
_PATIENCE_S, _EPISODE_S = 0.6, 6.0
_UP_TIMEOUT_S = 120.0
_BAG_WORLDS = 5
_MIN_REALTIME = 0.6  # the guard's time is the wall's: a slower robot would be driven faster than it may be
_HORIZON = 240
_SIGNIFICANT = 0.05
_VIEW, _IMAGE_PX = "front", 96


@dataclass(frozen=True)
class _Sizes:
    """How much of everything. demonstrations, corrections, trials: worlds; trials on each side; steps: of training."""

    demonstrations: int
    corrections: int
    trials: int
    steps: int

    @classmethod
    def of(cls, options: Options) -> _Sizes:
        return cls(3 * options.variations, 2 * options.variations, 4 * options.variations, 80 * options.variations)


@dataclass(frozen=True)
class _Folder:
    """Where everything is."""

    root: Path

    @property
    def contract(self) -> Path:
        """Of the simulated robot with one small camera."""
        return self.root / "one_camera.yaml"

    @property
    def demonstrations(self) -> Path:
        return self.root / "demonstrations"

    @property
    def recipe(self) -> Path:
        """The same before and after."""
        return self.root / "recipe.yaml"

    def bag(self, number: int) -> Path:
        return self.root / f"bag{number}"

    def checkpoint(self, name: str) -> Path:
        return self.root / name / "last"


def run(options: Options) -> bool:
    """Go through all steps, print what came of each, and return whether the bars are met."""
    folder, sizes = _Folder(options.output / "interventions"), _Sizes.of(options)
    if options.fresh:
        shutil.rmtree(folder.root, ignore_errors=True)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_text(folder.contract, yaml.safe_dump(_one_camera(options.contract)))
    write_text(folder.recipe, yaml.safe_dump(_recipe(folder, sizes)))
    _demonstrate(folder, sizes)
    _train(folder, "before", [])
    bags = _correct(folder, sizes)
    _train(folder, "after", bags)
    return _report(options.output, sizes, {name: _try(folder, name, sizes) for name in ("before", "after")})


def _one_camera(contract: Path) -> dict[str, object]:
    mapping = yaml.safe_load(contract.read_text(encoding="utf-8"))
    camera = {**mapping["cameras"][_VIEW], "width": _IMAGE_PX, "height": _IMAGE_PX}
    return {**mapping, "name": "sawyer_one_camera", "cameras": {_VIEW: camera}}


def _recipe(folder: _Folder, sizes: _Sizes) -> dict[str, object]:
    """A small network that looks through one camera. Of what a policy did in recordings nothing is learned."""
    return {
        "data": [str(folder.demonstrations)],
        "contract": str(folder.contract),
        "steps": sizes.steps,
        "batch_size": 32,
        "learning_rate": 6.0e-4,
        "warmup_steps": sizes.steps // 10,
        "ema": 0.99,
        "alignment": 0.0,
        "checkpoint_steps": max(1, sizes.steps // 8),
        "policy_weight": 0.0,
        "augmentation": {"shift_px": 2, "colour": 0.2, "view_dropout": 0.0, "state_noise_m": 0.005},
        "validation": {"every_steps": max(1, sizes.steps // 4), "share": 0.1},
        "model": {
            "views": [_VIEW],
            "width": 128,
            "heads": 4,
            "dropout": 0.0,
            "vision": {"backbone": "film_conv", "image_size": _IMAGE_PX, "trainable_from": 0, "cross_view_layers": 1},
            "fusion": {"layers": 1},
            "decoder": {"kind": "regression", "horizon": 16, "dt_s": 0.05, "layers": 2, "max_prefix": 0},
            "places": 3,
        },
    }


def _is_shown(x_m: float) -> bool:
    return x_m < _SHOWN_BELOW_M


def _is_unseen(x_m: float) -> bool:
    return x_m > _UNSEEN_ABOVE_M


def _worlds(split: Split, first: int, is_wanted: Callable[[float], bool], count: int) -> tuple[Variation, ...]:
    """The first so many variations whose button is on a side."""
    found: list[Variation] = []
    with SimRobot(_TASK) as robot:
        index = first
        while len(found) < count:
            variation = Variation(split, index)
            robot.reset(_TASK, variation)
            if is_wanted(float(robot.state().privileged[_THING_X])):
                found.append(variation)
            index += 1
    return tuple(found)


def _demonstrate(folder: _Folder, sizes: _Sizes) -> None:
    """What `vla_ros collect` does, on one side."""
    contract = load_contract(folder.contract)
    worlds = _worlds("train", 0, _is_shown, sizes.demonstrations)
    schema = schema_of(contract, Plan({_TASK: len(worlds)}), is_video=False)
    with DatasetWriter(folder.demonstrations, schema) as writer:
        takes = missing([Take(_TASK, _TASK, world, world.index) for world in worlds], writer.facts)
        for demonstration in perform(takes, contract, 1) if takes else ():
            writer.add(record_of(demonstration, schema))
        good = sum(bool(facts["success"]) for facts in writer.facts)
    _say(f"{good} of {len(worlds)} demonstrations succeed, the button on the left")


def _train(folder: _Folder, name: str, bags: Sequence[Path]) -> None:
    """The one command, as a user gives it."""
    if folder.checkpoint(name).exists() and _is_trained(folder, name):
        return
    words = ["train", str(folder.recipe), *(["--bags", *map(str, bags)] if bags else [])]
    _say(f"vla_ros {' '.join(words)}")
    command = [sys.executable, "-m", "vla_ros.cli", *words, "--output", str(folder.root / name)]
    if subprocess.run(command, check=False).returncode != 0:
        raise VlaRosError(f"training '{name}' failed")


def _is_trained(folder: _Folder, name: str) -> bool:
    record = yaml.safe_load((folder.checkpoint(name) / "training.json").read_text(encoding="utf-8"))
    return bool(record["step"] == record["recipe"]["steps"])


def _correct(folder: _Folder, sizes: _Sizes) -> list[Path]:
    """The policy tries over ROS, in real time, on the other side; the human takes over. -> the recordings"""
    worlds = _worlds("train", _CORRECTED_FROM, _is_unseen, sizes.corrections)
    bags = []
    for number, start in enumerate(range(0, len(worlds), _BAG_WORLDS)):
        bags.append(folder.bag(number))
        if not bags[-1].exists():
            _record(folder, bags[-1], worlds[start : start + _BAG_WORLDS])
    return bags


def _record(folder: _Folder, bag: Path, worlds: Sequence[Variation]) -> None:
    """Raises VlaRosError, with nothing recorded, where this machine cannot keep pace with the robot."""
    checkpoint = folder.checkpoint("before").resolve()
    options = (f"checkpoint={checkpoint}", "threads=1")
    plan = BringUp(folder.contract, "vla", options, sim=True, task=_TASK, record=str(bag), use_sim_time=True)
    human = Process("human", (sys.executable, "-m", "bench.human", _TASK, str(_PATIENCE_S)))
    with (
        running((*node_processes(plan), human), folder.root / "nodes.log") as supervisor,
        Graph("", _UP_TIMEOUT_S, supervisor.require_alive) as graph,
    ):
        graph.wait_until_up()
        client = SimClient(graph)
        times = [_help_out(graph, client, world, bag.name) for world in worlds]
    if sum(sim_s for sim_s, _ in times) < _MIN_REALTIME * sum(wall_s for _, wall_s in times):
        shutil.rmtree(bag)
        raise VlaRosError(f"{bag.name} is dropped: this machine is too busy; the same command goes on from here")


def _help_out(graph: Graph, client: SimClient, world: Variation, bag: str) -> tuple[float, float]:
    """One world. -> seconds of simulation, and by the wall's clock"""
    graph.reset()
    done = client.run(_TASK, str(world), [Told(load_sentences().usual(_TASK))], _EPISODE_S)
    verdict, speed = "done" if done.success else "NOT DONE", done.sim_time_s / done.wall_time_s
    _say(f"{bag}: {world}, {verdict} after {done.sim_time_s:.1f} s, real time x {speed:.2f}")
    return done.sim_time_s, done.wall_time_s


def _try(folder: _Folder, name: str, sizes: _Sizes) -> dict[str, tuple[Outcome, ...]]:
    """On worlds that neither training has seen, by side."""
    subject, conditions = checkpoint_subject(folder.checkpoint(name)), Conditions(_HORIZON, LATENCY_S)
    sides = {"unseen": _is_unseen, "shown": _is_shown}
    trials = {
        side: [_trial(side, w) for w in _worlds("test", 0, wanted, sizes.trials)] for side, wanted in sides.items()
    }
    with locked(log_folder := folder.root / name / "trials"):
        log = OutcomeLog(log_folder, {**subject.identity(), **conditions.identity()})
        wanted_trials = [trial for found in trials.values() for trial in found]
        run_trials(subject, wanted_trials, conditions, 1, log, _quietly, _say)
    return {side: log.of(found) for side, found in trials.items()}


def _trial(side: str, world: Variation) -> Trial:
    return Trial(side, _TASK, _TASK, world, "training", load_sentences().usual(_TASK))


def _quietly(outcomes: Iterable[Outcome], _total: int) -> Iterator[Outcome]:
    yield from outcomes


def _report(output: Path, sizes: _Sizes, tried: dict[str, dict[str, tuple[Outcome, ...]]]) -> bool:
    numbers: dict[str, object] = {"corrections": sizes.corrections, "demonstrations": sizes.demonstrations}
    for side in ("unseen", "shown"):
        for name, found in tried.items():
            rate = Rate(sum(outcome.success for outcome in found[side]), len(found[side]))
            low, high = rate.interval
            numbers[f"{side} {name}"] = {"successes": rate.successes, "episodes": rate.episodes, "95": [low, high]}
            _say(f"{side:6} side, {name:6}: {rate} ({low:.0%} to {high:.0%})")
    result = paired(_by_world(tried["after"]["unseen"]), _by_world(tried["before"]["unseen"]))
    numbers["paired"] = {"only after": result.only_first, "only before": result.only_second, "p": result.p}
    return conclude(
        output,
        "interventions",
        numbers,
        [
            Bar("worlds that only the corrected policy solves", result.only_first, result.only_second + 1, "", True),
            Bar("chance of so uneven a split", result.p, _SIGNIFICANT, ""),
        ],
    )


def _by_world(outcomes: Iterable[Outcome]) -> Mapping[Hashable, bool]:
    return {outcome.variation: outcome.success for outcome in outcomes}


def _say(line: str) -> None:
    print(f"  {line}", flush=True)
