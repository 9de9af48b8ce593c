"""Runs in which something happens that nobody tells the robot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vla_ros.learning.evaluation.suites import MT10
from vla_ros.learning.evaluation.trials import Trial
from vla_ros.policy.sentences import SentenceTable
from vla_ros.sim.disturbances import drawn
from vla_ros.sim.variations import Split, Variation

WATCHED_STEPS = 88
"""Of 12.5 ms, after a disturbance: a second, and until the last answer that counts has come."""
# Where it can happen: the task is about a thing that lies about or slides; about one that is held and lay about.
TASKS: Mapping[str, Sequence[str]] = {
    "moved": (
        *("push-v3", "pick-place-v3", "peg-insert-side-v3", "drawer-open-v3", "drawer-close-v3"),
        *("window-open-v3", "window-close-v3"),
    ),
    "slipped": ("push-v3", "pick-place-v3", "peg-insert-side-v3"),
    "covered": MT10,
}
MEDDLED = ("moved", "slipped")
"""Kinds that are seen by where things are."""


def disturbed_trials(
    kind: str, count: int, table: SentenceTable, split: Split, first: int, among: Collection[str] = MT10
) -> tuple[Trial, ...]:
    """The tasks of a kind in turn, each in another world, from the variation `first` of the split on.

    among: tasks that may be meant. None where it can happen in none of them.
    """
    tasks = [task for task in TASKS[kind] if task in among]
    if not tasks:
        return ()
    return tuple(_trial(kind, tasks[number % len(tasks)], table, split, first + number) for number in range(count))


def _trial(kind: str, task: str, table: SentenceTable, split: Split, index: int) -> Trial:
    said = table.training(task)
    world = Variation(split, index)
    return Trial(kind, task, task, world, "training", said[index % len(said)], disturbance=drawn(kind, index))
