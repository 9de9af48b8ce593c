"""What the simulated robots have in common: the world of the last reset, and its pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

from vla_ros.sim.rendering import Renderer, choose_backend
from vla_ros.sim.scenes import PLAIN_LOOK, Look
from vla_ros.sim.variations import Variation
from vla_ros.types import ImageArray

Drawn = TypeVar("Drawn", bound="DrawnRobot")


class DrawnRobot(ABC):
    """Nothing is drawn before the first `render`. See `simulated.SimulatedRobot`."""

    _task: str
    _variation: Variation

    def __init__(self, view_names: tuple[str, ...], image_size: tuple[int, int]) -> None:
        """view_names: checked; image_size: width, height in pixels."""
        self._view_names = view_names
        self._image_size = image_size
        self._renderer: Renderer | None = None
        self._look: Look = PLAIN_LOOK
        self._time_ns = 0

    @property
    def task(self) -> str:
        """The task of the last reset."""
        return self._task

    @property
    def variation(self) -> Variation:
        """The variation of the last reset."""
        return self._variation

    @property
    def look(self) -> Look:
        """How it is drawn."""
        return self._look

    @property
    @abstractmethod
    def physics(self) -> tuple[Any, Any]:
        """MjModel and MjData, to draw from; nobody else's to change."""

    def render(self) -> Mapping[str, ImageArray]:
        """Draw every view. Returns view -> (height, width, 3) uint8 RGB. Raises SimError where nothing can draw."""
        renderer, data = self._drawing(), self.physics[1]
        return {name: renderer.draw(data, name) for name in self._view_names}

    def close(self) -> None:
        """Free what drawing holds. May be called twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self: Drawn) -> Drawn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drawing(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self.physics[0], choose_backend(), *self._image_size)
        self._renderer.look = self._look
        return self._renderer
