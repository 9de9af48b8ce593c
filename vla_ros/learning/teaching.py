"""How the tasks of each simulated robot are shown: by whom, and what is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.contract import Contract, Limits
from vla_ros.learning import demonstration, driving, experts
from vla_ros.learning.demonstration import Demonstration, Take
from vla_ros.policy.driving import PRIVILEGED_WIDTH
from vla_ros.policy.driving import TASKS as DRIVING_TASKS
from vla_ros.policy.driving import THINGS as ROOM_THINGS
from vla_ros.policy.metaworld_action import OBSERVATION
from vla_ros.sim.base import BaseRobot
from vla_ros.sim.objects import THINGS
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.robots import ARM, BASE, RobotKind, kind_of
from vla_ros.sim.simulated import SimulatedRobot


@dataclass(frozen=True)
class Teaching:
    """fps: frames per second; things: what the label of things in view is about; privileged: how many numbers of the
    simulator's are recorded; demonstrate: raises SimError, LearningError, PolicyError; kept_for: takes that share it
    are shown by one robot, since to make one takes long.
    """

    kind: RobotKind
    fps: int
    things: tuple[str, ...]
    privileged: int
    demonstrate: Callable[[SimulatedRobot, Take, Limits], Demonstration]
    kept_for: Callable[[Take], str]


def teaching_of(contract: Contract) -> Teaching:
    """Of the robot that a contract is of. Raises SimError for one that is not simulated."""
    return _TEACHINGS[kind_of(contract)]


def subtask_names(task: str) -> tuple[str, ...]:
    """What a task's phases are called, in words. Raises LearningError for a task that has none."""
    return driving.SUBTASKS if task in DRIVING_TASKS else experts.subtask_names(task)


def _by_arm(robot: SimulatedRobot, take: Take, limits: Limits) -> Demonstration:
    assert isinstance(robot, SimRobot)
    return demonstration.demonstrate(robot, take, limits)


def _by_base(robot: SimulatedRobot, take: Take, limits: Limits) -> Demonstration:
    assert isinstance(robot, BaseRobot)
    return driving.demonstrate_driving(robot, take, limits)


_TEACHINGS = {
    ARM: Teaching(ARM, demonstration.FPS, THINGS, OBSERVATION.stop, _by_arm, lambda take: take.world),
    BASE: Teaching(BASE, driving.FPS, ROOM_THINGS, PRIVILEGED_WIDTH, _by_base, lambda _: "room"),
}
