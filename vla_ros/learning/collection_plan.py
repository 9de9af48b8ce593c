"""Which demonstrations to collect: one YAML file, strictly read, and the takes that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla_ros.errors import ContractError, LearningError, PolicyError
from vla_ros.learning.demonstration import NOISE, Noise, Take
from vla_ros.learning.teaching import subtask_names
from vla_ros.policy.driving import TASKS, thing_of
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.room import draw_room
from vla_ros.sim.scenes import Kind, Scene
from vla_ros.sim.variations import Variation
from vla_ros.strict import build_or_refuse
from vla_ros.strict_values import Natural
from vla_ros.strict_yaml import read_mapping

_HALF_OPEN_FROM = 1000  # variations: apart from the others, as long as those are fewer
_OPENING = (0.35, 0.65)  # share of the way that they are open at the start


@dataclass(frozen=True)
class Plan:
    """What to collect. tasks: task -> number of episodes; half_open: task -> number of episodes that begin with the
    drawer or window half open and the goal's marker hidden, half of them in the world of the opposite task; redirected:
    task -> number of episodes in which the base, on its way to what the task is about, is told to drive to another
    thing of that room. They begin at that instant, and are of the other task.

    varied: what looks different in each episode. seed: of noise, looks and openings. first: the number of each task's
    first world, so that plans can show different ones. contract: of the simulated robot whose cameras look on and whose
    limits the experts keep, by name or file.
    """

    tasks: Mapping[str, Natural] = field(default_factory=dict)
    half_open: Mapping[str, Natural] = field(default_factory=dict)
    redirected: Mapping[str, Natural] = field(default_factory=dict)
    varied: tuple[Kind, ...] = ()
    seed: Natural = 0
    first: Natural = 0
    noise: Noise = NOISE
    contract: str = "sawyer_sim"

    @property
    def named(self) -> tuple[str, ...]:
        """The tasks that it names, for whatever."""
        return tuple(dict.fromkeys((*self.tasks, *self.half_open, *self.redirected)))


def read_plan(path: Path) -> Plan:
    """Raises LearningError that names every fault by its key's path, and the valid choices."""
    try:
        mapping = read_mapping(path)
    except ContractError as error:
        raise LearningError(str(error)) from error
    plan = build_or_refuse(
        Plan, mapping, lambda faults: LearningError(f"{path} is not a plan of a collection:{faults}")
    )
    check_plan(plan, str(path))
    return plan


def check_plan(plan: Plan, where: str) -> None:
    """Raises LearningError for a plan that cannot be carried out, and names the valid choices. where: named in it."""
    if not any((*plan.tasks.values(), *plan.half_open.values(), *plan.redirected.values())):
        raise LearningError(f"{where}: tasks: name at least one, and how many episodes of it")
    table = load_sentences()
    try:
        for key, tasks in (("tasks", plan.tasks), ("half_open", plan.half_open), ("redirected", plan.redirected)):
            for task in tasks:
                table.usual(task)
                subtask_names(task)
                if key == "half_open":
                    table.opposite(task)
                if key == "redirected":
                    thing_of(task)
    except (PolicyError, LearningError) as error:
        raise LearningError(f"{where}: {key}: {error}") from error


def takes_of(plan: Plan) -> list[Take]:
    """Every episode of a plan, the tasks taking turns."""
    kinds = (_plain, plan.tasks), (_half_open, plan.half_open), (_redirected, plan.redirected)
    queues = [
        [take(plan, task, plan.first + turn) for turn in range(count)]
        for take, counts in kinds
        for task, count in counts.items()
    ]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _plain(plan: Plan, task: str, index: int) -> Take:
    seed = _seed(plan, index)
    return Take(task, task, Variation("train", index), seed, Scene(plan.varied, seed if plan.varied else 0), plan.noise)


def _half_open(plan: Plan, task: str, index: int) -> Take:
    world = task if index % 10 < 5 else load_sentences().opposite(task)
    opening = float(np.random.default_rng(_seed(plan, index)).uniform(*_OPENING))
    seed = _seed(plan, _HALF_OPEN_FROM + index)
    scene = Scene(plan.varied, seed if plan.varied else 0, opening, shows_goal=False)
    return Take(task, world, Variation("train", _HALF_OPEN_FROM + index), seed, scene, plan.noise)


def _redirected(plan: Plan, world: str, index: int) -> Take:
    """In the room of the plain episode of that number: where that is shown too, a room does not tell where to drive."""
    plain = _plain(plan, world, index)
    others = [thing for thing in sorted(draw_room(world, plain.variation).things) if thing != thing_of(world)]
    told = int(np.random.default_rng(plain.seed).integers(len(others)))
    return replace(plain, task=TASKS[others[told]])


def _seed(plan: Plan, index: int) -> int:
    """Of one episode: another for each, and for each plan."""
    return plan.seed * 1_000_003 + index
