"""What a simulated robot is to those who drive, show or measure it, whichever one it is.

One step is 12.5 ms. A robot runs for ever: it knows no episode, no reward and no end, only whether its task is solved
at this instant. It belongs to the thread that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from vla_ros.contract import Box
from vla_ros.control.safety import Motion
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.sim.scenes import PLAIN, Look, Scene
from vla_ros.sim.variations import Variation
from vla_ros.types import NS_PER_S, FloatArray, ImageArray, JointState, Pose, Twist

STEP_NS = round(CONTROL_DT_S * NS_PER_S)
DEFAULT_VARIATION = Variation("test", 0)
Robot = TypeVar("Robot", bound="SimulatedRobot")


@dataclass(frozen=True, eq=False)
class SimState:
    """A robot at one instant, in the contract's base frame. twist: of the tool point, at it.

    commanded: where the robot was told to be, which it lags; privileged: (n,), what no real robot knows, as the oracle
    of that robot reads it; time_ns: since the robot was made, never back, not even at a reset.
    """

    time_ns: int
    pose: Pose
    commanded: Pose
    twist: Twist
    joints: JointState
    success: bool
    privileged: FloatArray


class SimulatedRobot(Protocol):
    """A robot and its world. Made for a task, a variation, the views to draw, and the size of their pictures."""

    @property
    def task(self) -> str:
        """The task of the last reset."""
        ...

    @property
    def variation(self) -> Variation:
        """The variation of the last reset."""
        ...

    @property
    def success(self) -> bool:
        """Whether the task is solved at this instant."""
        ...

    @property
    def reach(self) -> Box:
        """Where the robot follows what it is told: a pose contract's commands beyond would wind up."""
        ...

    @property
    def physics(self) -> tuple[Any, Any]:
        """MjModel and MjData, to draw from; nobody else's to change."""
        ...

    @property
    def look(self) -> Look:
        """How it is drawn."""
        ...

    @property
    def opening_m(self) -> float:
        """How far the world's drawer or window is open [m]. Raises SimError where there is none."""
        ...

    def reset(self, task: str, variation: Variation, scene: Scene = PLAIN) -> None:
        """Put the world back, or another one in its place. Time goes on. Raises SimError."""
        ...

    def command_of(self, motion: Motion) -> FloatArray:
        """What of the guard's command the robot's driver takes: (3,) a position, or (6,) a twist."""
        ...

    def holding(self) -> FloatArray:
        """The command to stay, of the same shape."""
        ...

    def step(self, command: FloatArray, gripper: float) -> None:
        """Obey a command for 12.5 ms. Raises SimError for what is not finite, and when the physics breaks."""
        ...

    def state(self) -> SimState:
        """Everything but the pictures."""
        ...

    def render(self) -> Mapping[str, ImageArray]:
        """Draw every view. Returns view -> (height, width, 3) uint8 RGB. Raises SimError where nothing can draw."""
        ...

    def close(self) -> None:
        """Free what drawing holds. May be called twice."""
        ...

    def __enter__(self: Robot) -> Robot: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
