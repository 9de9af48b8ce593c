"""What a robot's own driver does with commands: obey the fresh ones, refuse the absurd, hold when they cease.

If the guard dies nothing else stops the robot, so this knows nothing of the guard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from vla_ros.types import NS_PER_S, FloatArray

_NO_FORCE = 0.5


class DriverStatus(Enum):
    """Why the robot moves, or does not."""

    OBEYING = "obeying"
    NEVER_COMMANDED = "holding: no command yet"
    SILENT = "holding: commands have ceased"


@dataclass(frozen=True, eq=False)
class Driver:
    """Immutable: each method returns the next driver or an answer.

    width: how many numbers a command has, 3 of a position [m], 6 of a twist [m/s, rad/s]. refused: how many commands
    were not finite, or not commands.
    """

    timeout_s: float
    width: int
    command: FloatArray | None = None
    received_ns: int = 0
    gripper: float = _NO_FORCE
    refused: int = 0

    def receive(self, command: FloatArray, received_ns: int) -> Driver:
        """A command, (width,) in the contract's base frame, that arrived at a steady instant."""
        if command.shape != (self.width,) or not np.isfinite(command).all():
            return replace(self, refused=self.refused + 1)
        return replace(self, command=command.copy(), received_ns=received_ns)

    def receive_gripper(self, gripper: float) -> Driver:
        """A commanded opening, 0 to 1. It has no timeout: a held object is not dropped because a link broke."""
        if not np.isfinite(gripper):
            return replace(self, refused=self.refused + 1)
        return replace(self, gripper=float(np.clip(gripper, 0.0, 1.0)))

    def forget(self) -> Driver:
        """As at the start, for a world that was put back; only the count stays."""
        return Driver(self.timeout_s, self.width, refused=self.refused)

    def status(self, now_ns: int) -> DriverStatus:
        """Whether the newest command is fresh at a steady instant."""
        if self.command is None:
            return DriverStatus.NEVER_COMMANDED
        silent = now_ns - self.received_ns > self.timeout_s * NS_PER_S
        return DriverStatus.SILENT if silent else DriverStatus.OBEYING

    def obeyed(self, now_ns: int, holding: FloatArray) -> FloatArray:
        """What to do. holding: (width,), the command to stay: the answer while nobody is to be obeyed."""
        if self.command is None or self.status(now_ns) is not DriverStatus.OBEYING:
            return holding
        return self.command
