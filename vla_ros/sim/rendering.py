"""Pictures of the simulated scene, without a display.

Shadows, reflections and multisampling cost seven eighths of the time on a CPU and are switched off: they are baked
into a rendering context when it is made, so the model is changed before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import mujoco
import numpy as np

from vla_ros.errors import SimError
from vla_ros.sim.objects import thing_of
from vla_ros.sim.scenes import PLAIN_LOOK, Distractor, Look
from vla_ros.sim.views import UPSIDE_DOWN
from vla_ros.types import ImageArray

Backend = Literal["egl", "osmesa"]
BACKENDS: tuple[Backend, ...] = ("egl", "osmesa")
_PROBE_TIMEOUT_S = 60.0
_MAX_GEOMS = 2000
_SMALL = 64


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
    """Draws one model. Belongs to the thread that made it. look: where cameras stand and what is drawn beside it."""

    look: Look = PLAIN_LOOK

    def __init__(self, model: Any, backend: Backend, width: int, height: int) -> None:
        """model: MjModel, made plain for drawing; width and height in pixels. Raises SimError."""
        _make_plain(model)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._gl = _gl_context(backend, width, height)
        self._finalizer = weakref.finalize(self, self._gl.free)
        self._finalizer.atexit = False  # the display may be gone by then, and the process takes the context along
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
        self._update(data, view)
        pixels = self._pixels(self._rect)
        return np.ascontiguousarray(pixels[:, ::-1] if view in UPSIDE_DOWN else pixels[::-1])

    def visible(self, data: Any, view: str, named: Callable[[Any, int, int], str] = thing_of) -> Mapping[str, int]:
        """What can be seen: name of a thing -> pixels, of a picture of 64 x 64. named: as `objects.thing_of`."""
        self._gl.make_current()
        self._update(data, view)
        flags = [mujoco.mjtRndFlag.mjRND_SEGMENT.value, mujoco.mjtRndFlag.mjRND_IDCOLOR.value]
        self._scene.flags[flags] = 1
        colours = self._pixels(mujoco.MjrRect(0, 0, _SMALL, _SMALL)).reshape(-1, 3).astype(np.int64)
        self._scene.flags[flags] = 0
        numbers, counts = np.unique(colours @ np.array([1, 256, 65536]), return_counts=True)
        drawn = {geom.segid + 1: (geom.objtype, geom.objid) for geom in self._scene.geoms[: self._scene.ngeom]}
        seen: dict[str, int] = {}
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number in drawn and number > 0:  # 0 is the background
                name = named(self._model, *drawn[number])
                seen[name] = seen.get(name, 0) + count
        return seen

    def _update(self, data: Any, view: str) -> None:
        """Put everything in its place."""
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._options,
            None,
            _camera(self._model, self.look, view),
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        for distractor in self.look.distractors:
            _add(self._scene, distractor)

    def _pixels(self, rect: Any) -> ImageArray:
        """Last row on top, as OpenGL has it. -> (height, width, 3)"""
        mujoco.mjr_render(rect, self._scene, self._context)
        image = np.empty((rect.height, rect.width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, rect, self._context)
        return image

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


def _add(scene: Any, distractor: Distractor) -> None:
    """One more thing to draw. The next update of the scene forgets it."""
    geom = scene.geoms[scene.ngeom]
    rgba = distractor.rgba.astype(np.float32)
    mujoco.mjv_initGeom(geom, distractor.shape, distractor.size, distractor.position, np.eye(3).ravel(), rgba)
    geom.objtype, geom.objid, geom.segid = mujoco.mjtObj.mjOBJ_UNKNOWN.value, -1, -1
    scene.ngeom += 1


def _camera(model: Any, look: Look, view: str) -> Any:
    place = look.views[view]
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
