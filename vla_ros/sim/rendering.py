"""Pictures of the simulated scene, without a display.

Shadows, reflections and multisampling cost seven eighths of the time on a CPU and are switched off: they are baked
into a rendering context when it is made, so the model is changed before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import mujoco
import numpy as np

from vla_ros.errors import SimError
from vla_ros.types import ImageArray

Backend = Literal["egl", "osmesa"]
BACKENDS: tuple[Backend, ...] = ("egl", "osmesa")
_PROBE_TIMEOUT_S = 60.0
_MAX_GEOMS = 2000


@dataclass(frozen=True)
class FreeView:
    """A camera that looks at a point. look_at: [m] in the base frame; azimuth 90 looks along +y; angles in degrees."""

    look_at: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    elevation_deg: float


# front: from behind the robot's right side, since handles and buttons face the robot; top: straight down;
# wrist: the model's own between the fingers. All see the goal's marker: it is part of Meta-World's scenes.
VIEWS: Mapping[str, FreeView | str] = {
    "front": FreeView((0.0, 0.67, 0.1), 1.05, 140.0, -32.0),
    "wrist": "gripperPOV",
    "top": FreeView((0.0, 0.65, 0.0), 1.3, 90.0, -89.0),
}


def check_views(names: tuple[str, ...]) -> None:
    """Raises SimError for a view that the simulated robot does not have."""
    for name in names:
        if name not in VIEWS:
            raise SimError(f"'{name}' is not a view of the simulated robot; choose from {', '.join(VIEWS)}")


@cache
def choose_backend() -> Backend:
    """The first of egl and osmesa that can draw here; MUJOCO_GL, where it names one of them, decides alone.

    Each is tried in a process of its own, since a failed try leaves its OpenGL loaded. Raises SimError.
    """
    wish = os.environ.get("MUJOCO_GL", "").lower()
    candidates = tuple(backend for backend in BACKENDS if wish in (backend, "")) or BACKENDS
    for backend in candidates:
        if _works(backend):
            return backend
    raise SimError(
        f"no OpenGL for rendering without a display (tried {', '.join(candidates)}): "
        "sudo apt-get install -y libegl1 libgl1 libgl1-mesa-dri"
    )


def _works(backend: Backend) -> bool:
    """Whether a context of this kind can be made and made current."""
    code = f"from mujoco.{backend} import GLContext; c = GLContext(8, 8); c.make_current(); c.free()"
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = backend
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class Renderer:
    """Draws one model. Belongs to the thread that made it."""

    def __init__(self, model: Any, backend: Backend, width: int, height: int) -> None:
        """model: MjModel, made plain for drawing; width and height in pixels. Raises SimError."""
        _make_plain(model)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._gl = _gl_context(backend, width, height)
        self._finalizer = weakref.finalize(self, self._gl.free)
        self._gl.make_current()
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._options = mujoco.MjvOption()
        self._rect = mujoco.MjrRect(0, 0, width, height)

    def draw(self, data: Any, view: str) -> ImageArray:
        """One picture. data: MjData; returns (height, width, 3) uint8 RGB, first row on top."""
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._options,
            None,
            _camera(self._model, view),
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        image = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, self._rect, self._context)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Free the context. May be called twice."""
        if self._finalizer.alive:
            self._gl.make_current()
            self._context.free()
            self._finalizer()


def _gl_context(backend: Backend, width: int, height: int) -> Any:
    """An OpenGL context that needs no display."""
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        return GLContext(width, height)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise SimError(f"cannot render with {backend}: {error}") from error


def _make_plain(model: Any) -> None:
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0.0
    model.vis.quality.offsamples = 0


def _camera(model: Any, view: str) -> Any:
    place = VIEWS[view]
    camera = mujoco.MjvCamera()
    if isinstance(place, str):
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        camera.fixedcamid = model.camera(place).id
        return camera
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
    camera.lookat[:] = place.look_at
    camera.distance = place.distance_m
    camera.azimuth = place.azimuth_deg
    camera.elevation = place.elevation_deg
    return camera
