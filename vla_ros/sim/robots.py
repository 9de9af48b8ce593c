"""The simulated robots, and which of them a contract is of: the one that obeys it and has its joints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.contract import Contract
from vla_ros.errors import SimError
from vla_ros.policy import driving
from vla_ros.sim import base, robot
from vla_ros.sim.scenes import KINDS, Kind
from vla_ros.sim.simulated import SimulatedRobot
from vla_ros.sim.variations import Variation
from vla_ros.sim.views import BASE_VIEWS, VIEWS, check_views
from vla_ros.sim.worlds import TASKS

Make = Callable[[str, Variation, tuple[str, ...], tuple[int, int]], SimulatedRobot]


@dataclass(frozen=True)
class RobotKind:
    """One simulated robot. make: from a task, a variation, the views to draw and their width and height.

    command_interface, joints: of the contracts that are of it. usual_task: what it begins with unless told. looks: what
    can be varied in its scenes. horizon: steps of 12.5 ms that an episode of its tasks has.
    """

    make: Make
    command_interface: str
    joints: tuple[str, ...]
    tasks: tuple[str, ...]
    usual_task: str
    views: tuple[str, ...]
    looks: tuple[Kind, ...]
    horizon: int

    def check_views(self, names: tuple[str, ...]) -> None:
        """Raises SimError for a view that it does not have."""
        check_views(names, dict.fromkeys(self.views, ""))

    def check_task(self, task: str) -> None:
        """Raises SimError for a task that it does not have."""
        if task not in self.tasks:
            raise SimError(f"'{task}' is not a task of this robot; choose from {', '.join(self.tasks)}")


ARM = RobotKind(
    make=robot.SimRobot,
    command_interface="pose",
    joints=robot.JOINT_NAMES,
    tasks=TASKS,
    usual_task="reach-v3",
    views=tuple(VIEWS),
    looks=KINDS,
    horizon=400,
)
BASE = RobotKind(
    make=base.BaseRobot,
    command_interface="twist",
    joints=driving.WHEELS,
    tasks=driving.TASKS,
    usual_task=driving.TASKS[0],
    views=tuple(BASE_VIEWS),
    looks=base.KINDS,
    horizon=1600,
)
ROBOT_KINDS = (ARM, BASE)


def kind_of(contract: Contract) -> RobotKind:
    """The simulated robot that a contract is of. Raises SimError for a contract of a robot that is not simulated."""
    for kind in ROBOT_KINDS:
        if kind.command_interface == contract.command_interface and set(_joints(contract)) <= set(kind.joints):
            return kind
    choices = " or ".join(f"{kind.command_interface} with joints {', '.join(kind.joints)}" for kind in ROBOT_KINDS)
    raise SimError(f"no simulation is of the robot {contract.name}; choose a contract of command_interface {choices}")


def _joints(contract: Contract) -> tuple[str, ...]:
    return contract.feedback.joint_states.joints
