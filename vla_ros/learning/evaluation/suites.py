"""Which episodes are run. Everything follows from the tasks and a number: the same question is asked every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.names import BLANK, METAWORLD, ROS
from vla_ros.learning.evaluation.trials import Phrasing, Trial
from vla_ros.policy.sentences import SentenceTable
from vla_ros.sim.robots import RobotKind
from vla_ros.sim.scenes import PLAIN, Kind, Scene
from vla_ros.sim.variations import Variation

MT10: tuple[str, ...] = tuple(MT10_V3)
MT50: tuple[str, ...] = tuple(sorted(ALL_V3_ENVIRONMENTS))
HALF_OPEN = Scene(opening=0.5, shows_goal=False)
# Far from the seeds that a training set draws its looks by.
_LOOK_SEED = 1_000_000_000
# Variations that may be looked at while a network learns, far from those that it learns from.
_VALIDATION = 100_000

Trials = Callable[[str, Sequence[str], int, SentenceTable], tuple[Trial, ...]]


@dataclass(frozen=True)
class Suite:
    """episodes: of each task, unless told otherwise; beside: the suite that asks the same, but for one thing."""

    episodes: int
    trials: Trials
    beside: str = ""


def usual_tasks(kind: RobotKind) -> tuple[str, ...]:
    """What a robot is tried at, unless told: of the arm's tasks MT10."""
    return MT10 if set(MT10) <= set(kind.tasks) else kind.tasks


def trials(suite: str, tasks: Sequence[str], table: SentenceTable, episodes: int | None = None) -> tuple[Trial, ...]:
    """The episodes of a suite, task by task. Raises LearningError for a suite that there is not."""
    if suite not in SUITES:
        raise LearningError(f"'{suite}' is not a suite; choose from {', '.join(SUITES)}")
    asked = SUITES[suite]
    return asked.trials(suite, tasks, asked.episodes if episodes is None else episodes, table)


def validation_trials(tasks: Sequence[str], table: SentenceTable, episodes: int) -> tuple[Trial, ...]:
    """What may be looked at while a network learns: worlds of the training split that it does not learn from."""
    return tuple(
        Trial("validation", task, task, variation, "training", _said(table, task, "training", index))
        for task in tasks
        for index in range(episodes)
        for variation in [Variation("train", _VALIDATION + index)]
    )


def _by_task(
    suite: str,
    tasks: Sequence[str],
    episodes: int,
    table: SentenceTable,
    *,
    phrasing: Phrasing = "training",
    varied: tuple[Kind, ...] = (),
) -> tuple[Trial, ...]:
    """Each task in its own worlds. Suites share worlds and sentences, so that two of them can be compared in pairs."""
    return tuple(
        Trial(suite, task, task, Variation("test", index), phrasing, _said(table, task, phrasing, index), scene)
        for task in tasks
        for index in range(episodes)
        for scene in [Scene(varied, _LOOK_SEED + index) if varied else PLAIN]
    )


def _opposites(
    suite: str, tasks: Sequence[str], episodes: int, table: SentenceTable, *, phrasing: Phrasing = "training"
) -> tuple[Trial, ...]:
    """Half open drawers and windows: each scene is told to be opened, and to be closed. Nothing else differs.

    Scenes come from the worlds of both tasks in turn.
    """
    return tuple(
        Trial(
            suite, task, pair[index % 2], Variation("test", index), phrasing, _said(table, task, phrasing, index), scene
        )
        for pair in table.opposites
        if set(pair) <= set(tasks)
        for task in pair
        for index in range(episodes)
        for scene in [HALF_OPEN]
    )


def _usually(suite: str, tasks: Sequence[str], episodes: int, table: SentenceTable) -> tuple[Trial, ...]:
    """Each task in its own worlds, always called the same."""
    return tuple(
        Trial(suite, task, task, Variation("test", index), "training", table.usual(task))
        for task in tasks
        for index in range(episodes)
    )


def _said(table: SentenceTable, task: str, phrasing: Phrasing, index: int) -> str:
    """In turn, so that every phrasing is said about equally often. Raises LearningError for a task without any."""
    if phrasing == "blank":
        return BLANK
    choices = table.held_out(task) if phrasing == "held out" else table.training(task)
    if not choices:
        raise LearningError(f"there are no sentences of {task} that are held out: {table.path}")
    return choices[index % len(choices)]


SUITES: Mapping[str, Suite] = {
    "seen_phrasings": Suite(20, _by_task),
    "held_out": Suite(20, partial(_by_task, phrasing="held out"), "seen_phrasings"),
    "blank": Suite(20, partial(_by_task, phrasing="blank"), "seen_phrasings"),
    "opposites": Suite(20, _opposites),
    "opposites_blank": Suite(20, partial(_opposites, phrasing="blank"), "opposites"),
    "light": Suite(10, partial(_by_task, varied=("light",)), "seen_phrasings"),
    "cameras": Suite(10, partial(_by_task, varied=("camera",)), "seen_phrasings"),
    "distractors": Suite(10, partial(_by_task, varied=("distractors",)), "seen_phrasings"),
    ROS: Suite(10, _by_task, "seen_phrasings"),
    METAWORLD: Suite(10, _usually),
}
"""See `names.ALL_MEANINGS`."""
