"""Cameras that do not hold up the robot: pictures are drawn in a thread of their own, from copies of the physics.

MuJoCo releases the interpreter's lock while it draws, so the robot steps on meanwhile. It does not while it prepares to
draw another model, for a third of a second: that is done when the world is changed, with `prepare`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import mujoco
import numpy as np

from vla_ros.errors import SimError, in_one_line
from vla_ros.sim.rendering import Backend, Renderer, choose_backend
from vla_ros.sim.scenes import PLAIN_LOOK, Look
from vla_ros.sim.views import check_views
from vla_ros.types import FloatArray, ImageArray

# All that decides where things are, mocap bodies included.
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value

_POLL_S = 0.1

OnPictures = Callable[[int, Mapping[str, ImageArray]], None]


class Photographer:
    """Draws every view of one instant at a time. All methods belong to the robot's thread."""

    def __init__(
        self,
        view_names: tuple[str, ...],
        image_size: tuple[int, int],
        on_pictures: OnPictures,
        look: Look = PLAIN_LOOK,
    ) -> None:
        """image_size: width, height. on_pictures: called in the drawing thread with the stamp and view -> picture.

        look: the robot's. Raises SimError where nothing can draw.
        """
        check_views(view_names, look.views)
        self._look = look
        self._views = view_names
        self._size = image_size
        self._on_pictures = on_pictures
        self._backend = choose_backend()
        self._orders: queue.Queue[tuple[int, Any, FloatArray | None, tuple[str, ...]] | None] = queue.Queue(maxsize=1)
        self._idle = threading.Event()
        self._idle.set()
        self.missed = 0
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._work, name="photographer", daemon=True)
        self._thread.start()

    def shoot(self, stamp_ns: int, model: Any, data: Any, views: tuple[str, ...] | None = None) -> None:
        """Take a picture of this instant, unless the last one is still being drawn: then it is missed, and counted.

        model, data: MjModel and MjData of the robot. views: which of its views, None for all. Raises SimError if
        drawing, or on_pictures, has failed before.
        """
        if self.failure is not None:
            raise SimError(self.failure)
        if not self._idle.is_set():
            self.missed += 1
            return
        state = np.empty(mujoco.mj_stateSize(model, _STATE))
        mujoco.mj_getState(model, data, state, _STATE)
        self._idle.clear()
        self._orders.put((stamp_ns, model, state, self._views if views is None else views))

    def prepare(self, model: Any) -> None:
        """Wait until this model can be drawn without holding anybody up. A failure is told by the next `shoot`."""
        self._wait_until_idle()
        self._idle.clear()
        with suppress(queue.Full):  # nobody takes orders any more
            self._orders.put((0, model, None, ()), timeout=_POLL_S)
        self._wait_until_idle()

    def _wait_until_idle(self) -> None:
        while self.failure is None and not self._idle.wait(_POLL_S):
            pass

    def close(self) -> None:
        """End the thread and free what drawing holds."""
        while self._thread.is_alive():
            # Full for as long as an order waits; and nobody takes it any more where the thread has failed.
            with suppress(queue.Full):
                self._orders.put(None, timeout=_POLL_S)
            self._thread.join(_POLL_S)

    def _work(self) -> None:
        """Whatever ends the drawing is told by the next `shoot`: a thread dies silently otherwise."""
        try:
            self._draw_all()
        except SimError as error:
            self.failure = str(error)
        except Exception as error:  # on_pictures is the caller's, and drawing is OpenGL's
            self.failure = f"the cameras ended: {in_one_line(error)}"

    def _draw_all(self) -> None:
        studio: _Studio | None = None
        try:
            while (order := self._orders.get()) is not None:
                stamp_ns, model, state, views = order
                if studio is None or studio.model is not model:
                    if studio is not None:
                        studio.close()
                    studio = _Studio(model, self._backend, self._size, self._look)
                if state is None:
                    self._idle.set()
                    continue
                pictures = studio.draw(state, views)
                self._idle.set()
                self._on_pictures(stamp_ns, pictures)
        finally:
            if studio is not None:
                studio.close()


class _Studio:
    """One model's renderer and a second MjData to pose it in. Belongs to the drawing thread."""

    def __init__(self, model: Any, backend: Backend, size: tuple[int, int], look: Look) -> None:
        self.model = model
        self._data = mujoco.MjData(model)
        self._renderer = Renderer(model, backend, *size)
        self._renderer.look = look

    def draw(self, state: FloatArray, views: tuple[str, ...]) -> Mapping[str, ImageArray]:
        mujoco.mj_setState(self.model, self._data, state, _STATE)
        mujoco.mj_forward(self.model, self._data)
        return {view: self._renderer.draw(self._data, view) for view in views}

    def close(self) -> None:
        self._renderer.close()
