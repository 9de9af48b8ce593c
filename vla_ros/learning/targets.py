"""What each frame of a recording tells of the tasks beside the chunk: where to grasp, what is in view, where to drive.

Grasps are known in hindsight, from the simulator's contacts; things in view by the renderer's own segmentation; goals
from the simulator's state. What a recording does not tell is marked as not known, and teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vla_ros.policy.driving import PRIVILEGED_WIDTH, TASKS, THINGS, goal_of, thing_of

if TYPE_CHECKING:
    from vla_ros.data.reader import Dataset

VIEW = "front"
"""The camera that what is in view is told of."""
VISIBLE_PX = 4  # of 64 x 64: with fewer a thing is not in view
IN_THE_PICTURE = ("detection", "navigation")
"""Told by where things are in that picture alone: moved, it would tell otherwise. A grasp is seen beside the tool."""
_GRASP, _HAS_GRASP, _VISIBLE = "label.grasp_pose", "label.has_grasp", "label.visible"


@dataclass(frozen=True, eq=False)
class Labels:
    """N frames. grasps: (N, 7), where the tool will have hold of the thing, position [m] and quaternion in the base
    frame. visible: (N, T) bool, of things, by name. goals: (N, 3), where to drive, seen from the base: x ahead, y left
    [m], how far to turn [rad]. grasps_known, goals_known: (N,) bool; visible_known: (N, T) bool. topics: (N,), the task
    that a frame is about: navigation, grasping until there is a hold, or manipulation; "" where nobody knows.
    """

    grasps: NDArray[np.float32]
    grasps_known: NDArray[np.bool_]
    things: tuple[str, ...]
    visible: NDArray[np.bool_]
    visible_known: NDArray[np.bool_]
    goals: NDArray[np.float32]
    goals_known: NDArray[np.bool_]
    topics: NDArray[np.str_]


def no_labels(frames: int) -> Labels:
    """Of so many frames nobody knows anything."""
    unknown, nothing = np.zeros(frames, bool), np.zeros((frames, 0), bool)
    poses = np.zeros((frames, 7), np.float32)
    poses[:, 6] = 1.0
    return Labels(poses, unknown, (), nothing, nothing, np.zeros((frames, 3), np.float32), unknown, np.full(frames, ""))


def labels_of(dataset: Dataset, tasks: NDArray[np.str_]) -> Labels:
    """Of a dataset of demonstrations. tasks: (N,), of each frame."""
    columns = dataset.schema.columns
    told = vars(no_labels(len(tasks)))
    if _HAS_GRASP in columns:
        has_grasp = dataset.column(_HAS_GRASP)
        told |= {"grasps": dataset.column(_GRASP), "grasps_known": has_grasp}
        is_driving = np.isin(tasks, TASKS)
        told["topics"] = np.where(is_driving, "navigation", np.where(has_grasp, "grasping", "manipulation"))
    if _VISIBLE in columns:
        visible = dataset.column(_VISIBLE)
        told |= {"things": tuple(columns[_VISIBLE].names or ()), "visible": visible}
        told["visible_known"] = np.ones_like(visible)
        goals, goals_known = _goals(dataset.column("observation.environment_state"), visible, tasks)
        told |= {"goals": goals, "goals_known": goals_known}
    return Labels(**told)


def _goals(
    privileged: NDArray[np.float32], visible: NDArray[np.bool_], tasks: NDArray[np.str_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where each frame's task leads to, known while the thing is in view: no picture else tells. -> (N, 3), (N,)"""
    goals, known = np.zeros((len(tasks), 3), np.float32), np.zeros(len(tasks), bool)
    if privileged.shape[1] != PRIVILEGED_WIDTH or visible.shape[1] != len(THINGS):
        return goals, known
    for task in set(tasks.tolist()) & set(TASKS):
        thing = thing_of(task)
        frames = np.flatnonzero((tasks == task) & visible[:, thing])
        known[frames] = True
        goals[frames] = [goal_of(row, thing) for row in privileged[frames].astype(np.float64)]
    return goals, known


def labels_at(labels: Labels, frames: NDArray[np.int64]) -> Labels:
    """Of some of the frames."""
    return Labels(**{name: value if name == "things" else value[frames] for name, value in vars(labels).items()})


def joined_labels(parts: Sequence[Labels]) -> Labels:
    """Several behind one another. Of a thing that another part does not speak of nothing is known."""
    things = tuple(dict.fromkeys(name for part in parts for name in part.things))
    plain = ("grasps", "grasps_known", "goals", "goals_known", "topics")
    return Labels(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in plain},
        things=things,
        visible=np.concatenate([columns_of(part.things, part.visible, things) for part in parts]),
        visible_known=np.concatenate([columns_of(part.things, part.visible_known, things) for part in parts]),
    )


def columns_of(there: tuple[str, ...], values: NDArray[np.bool_], wanted: tuple[str, ...]) -> NDArray[np.bool_]:
    """The columns of some names, False where there is none. (N, there) -> (N, wanted)"""
    picked = np.zeros((len(values), len(wanted)), bool)
    for place, name in enumerate(wanted):
        if name in there:
            picked[:, place] = values[:, there.index(name)]
    return picked
