"""Experts of tasks whose goal is hidden after a while: they watch it until then, and go by what they remember."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.errors import LearningError
from vla_ros.learning.experts import Decider, Decision, Expert, subtask_names
from vla_ros.policy.metaworld_action import GOAL_POSITION
from vla_ros.sim.worlds import OURS, world_of
from vla_ros.types import FloatArray


class RememberingExpert:
    """Stands still where it is as long as the goal is shown, and then is the expert of the task that shows its goal.

    It is for one demonstration, from its beginning.
    """

    def __init__(self, task: str) -> None:
        """Raises LearningError, SimError for a task that has no such expert."""
        self.subtasks = subtask_names(task)
        self._expert = Expert(world_of(task).environment)
        self._goal: FloatArray | None = None

    def decide(self, observation: FloatArray) -> Decision:
        """observation: (39,), Meta-World's. Raises LearningError for a goal that was never shown."""
        if observation[GOAL_POSITION].any():
            self._goal = observation[GOAL_POSITION].copy()
            return Decision(np.zeros(4), 0)
        if self._goal is None:
            raise LearningError("the goal was hidden from the beginning; an expert that remembers must have seen it")
        remembered = observation.copy()
        remembered[GOAL_POSITION] = self._goal
        decision = self._expert.decide(remembered)
        return replace(decision, phase=1 + decision.phase)


def expert_of(task: str) -> Decider:
    """Who shows a task. Raises LearningError, SimError for a task without one."""
    return RememberingExpert(task) if task in OURS else Expert(task)
