"""What frames teach the tasks beside the chunk, as tensors for one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.errors import LearningError
from vla_ros.learning.experience import Experience
from vla_ros.learning.recipe import AugmentationConfig
from vla_ros.learning.targets import IN_THE_PICTURE, VIEW, Labels, columns_of
from vla_ros.model.config import Task, VLAConfig
from vla_ros.model.multi_task import MANIPULATION, SELECTOR, Target
from vla_ros.model.relative import to_relative
from vla_ros.types import ACTION_WIDTH, POSITION, QUATERNION


class TargetMaker:
    """Makes targets for one network. Raises LearningError for tasks and classes that the data tells nothing of."""

    def __init__(self, experience: Experience, config: VLAConfig) -> None:
        labels = self._labels = experience.labels
        self._experience, self._tasks, self._axes = experience, config.tasks, config.axes
        _check_tasks(config.tasks, labels)
        unknown = [name for name in config.classes if name not in labels.things]
        if unknown:
            there = ", ".join(labels.things) or "none"
            raise LearningError(f"model.classes: the data has no labels of {', '.join(unknown)}; it has {there}")
        self._visible, self._visible_known = (
            columns_of(labels.things, values, config.classes) for values in (labels.visible, labels.visible_known)
        )
        makers: Mapping[str, Callable[[NDArray[np.int64], Tensor], Target]] = {
            "grasping": self._grasping,
            "detection": self._detection,
            "navigation": self._navigation,
            SELECTOR: self._selector,
        }
        asked = (*config.tasks, SELECTOR) if config.tasks else ()
        self._makers = {name: makers[name] for name in asked if name in makers}

    def still(self, samples: int, augmentation: AugmentationConfig) -> Tensor | None:
        """Which images must not be moved: every second one, where a task could not bear it. -> (B,) bool"""
        if not set(IN_THE_PICTURE) & set(self._tasks):
            return None
        return torch.arange(samples) % 2 == 0 if augmentation.shift_px else torch.ones(samples, dtype=torch.bool)

    def make(self, frames: NDArray[np.int64], present: Mapping[str, Tensor], still: Tensor | None) -> dict[str, Target]:
        """By name, for each task but the chunk. frames: (B,). present: which views they are shown; still: as above."""
        seen = torch.ones(len(frames), dtype=torch.bool) if still is None else still & present[VIEW]
        return {name: make(frames, seen) for name, make in self._makers.items()}

    def _grasping(self, frames: NDArray[np.int64], seen: Tensor) -> Target:
        values, known = np.zeros((len(frames), 7), np.float32), self._labels.grasps_known[frames]
        for row in np.flatnonzero(known).tolist():
            values[row] = self._grasp_seen_from(int(frames[row]))
        return Target(torch.from_numpy(values), torch.from_numpy(known))

    def _grasp_seen_from(self, frame: int) -> NDArray[np.float32]:
        """Relative to the commanded pose, as rows are. -> (7,)"""
        pose = np.zeros((1, ACTION_WIDTH))
        pose[0, : QUATERNION.stop] = self._labels.grasps[frame]
        relative = to_relative(pose, self._experience.commanded_at(frame), self._axes)[0]
        return np.concatenate([relative[POSITION], relative[QUATERNION]]).astype(np.float32)

    def _detection(self, frames: NDArray[np.int64], seen: Tensor) -> Target:
        known = torch.from_numpy(self._visible_known[frames]) & seen[:, None]
        return Target(torch.from_numpy(self._visible[frames]), known)

    def _navigation(self, frames: NDArray[np.int64], seen: Tensor) -> Target:
        known = torch.from_numpy(self._labels.goals_known[frames]) & seen
        return Target(torch.from_numpy(self._labels.goals[frames]), known)

    def _selector(self, frames: NDArray[np.int64], seen: Tensor) -> Target:
        """A topic that the network has no task for is one of manipulation."""
        topics = self._labels.topics[frames].tolist()
        tasks: tuple[str, ...] = self._tasks
        places = [tasks.index(topic if topic in tasks else MANIPULATION) for topic in topics]
        return Target(torch.tensor(places), torch.tensor([bool(topic) for topic in topics]))


def _check_tasks(tasks: Sequence[Task], labels: Labels) -> None:
    is_known: Mapping[Task, bool] = {
        MANIPULATION: True,
        "grasping": bool(labels.grasps_known.any()),
        "detection": bool(labels.visible_known.any()),
        "navigation": bool(labels.goals_known.any()),
    }
    unknown = [task for task in tasks if not is_known[task]]
    if unknown:
        there = ", ".join(task for task, known in is_known.items() if known)
        raise LearningError(f"model.tasks: the data tells nothing of {', '.join(unknown)}; it tells of {there}")
