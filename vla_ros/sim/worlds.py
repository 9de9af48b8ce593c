"""The arm's tasks, and the world that each is done in: Meta-World's own, and ours in their environments.

Delayed responses are the oldest test of memory: what is to be done is shown, then hidden, and only then done (Hunter,
"The delayed reaction in animals and children", 1913).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from vla_ros.errors import SimError
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.sim.variations import SPLITS, Variation

_SEED = 20261128


@dataclass(frozen=True)
class World:
    """environment: Meta-World's. goal_shown_s: least and most time for which the goal is shown [s]; None for ever.

    A goal that is no longer shown is neither drawn nor among the observed numbers, where it is zeros; and only then can
    the task be solved.
    """

    environment: str
    goal_shown_s: tuple[float, float] | None = None

    def goal_shown_steps(self, variation: Variation) -> int | None:
        """For how many steps of 12.5 ms it is shown in a variation; None for ever."""
        if self.goal_shown_s is None:
            return None
        rng = np.random.default_rng((_SEED, SPLITS.index(variation.split), variation.index))
        return round(float(rng.uniform(*self.goal_shown_s)) / CONTROL_DT_S)


OURS: Mapping[str, World] = {"delayed-reach": World("reach-v3", (1.0, 2.5))}
"""Those that Meta-World does not have."""
TASKS: tuple[str, ...] = (*sorted(ALL_V3_ENVIRONMENTS), *OURS)


def world_of(task: str) -> World:
    """Raises SimError for a task that there is not."""
    if task not in TASKS:
        raise SimError(f"'{task}' is not a task of the simulated arm; choose one of {', '.join(TASKS)}")
    return OURS.get(task, World(task))
