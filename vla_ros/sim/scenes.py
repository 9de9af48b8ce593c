"""What may differ in a world beside its variation: how it looks, and how far a drawer or window is open at the start.

Everything is drawn from a seed and put into the model before anything is drawn; `restore` takes it out again.
Source of the idea: Tobin et al., "Domain randomization for transferring deep neural networks from simulation to the
real world", 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import mujoco
import numpy as np

from vla_ros.errors import SimError
from vla_ros.sim.views import VIEWS, FreeView
from vla_ros.types import FloatArray

Kind = Literal["light", "colours", "camera", "distractors"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# The joint that opens, and whether its coordinate falls as it does: the share that is open is 0 closed to 1 open.
_OPENING = {"drawer": ("goal_slidey", -0.16), "window": ("window_slide", 0.2)}
_FIELDS = (
    *("light_dir", "light_diffuse", "light_ambient", "mat_rgba", "geom_rgba", "cam_pos", "cam_pos0", "site_rgba"),
    *("geom_contype", "geom_conaffinity"),  # of fingers that something slips from
)
_TABLE_M = ((-0.4, 0.42), (0.4, 0.95))
_CLEAR_OF_M = 0.14
_SHAPES = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CYLINDER)


@dataclass(frozen=True)
class Scene:
    """One look and start. varied: what looks different, drawn from the seed; opening: 0 closed to 1 open, None as the
    task starts it; shows_goal: whether the goal's marker is drawn, which tells a task from its opposite.
    """

    varied: tuple[Kind, ...] = ()
    seed: int = 0
    opening: float | None = None
    shows_goal: bool = True


PLAIN = Scene()


@dataclass(frozen=True, eq=False)
class Distractor:
    """A thing that is drawn and touches nothing. position: (3,) [m] in the base frame; size: (3,) [m]; rgba: (4,)."""

    shape: int
    position: FloatArray
    size: FloatArray
    rgba: FloatArray


@dataclass(frozen=True, eq=False)
class Look:
    """What a renderer needs to know of a scene. views: where each free camera stands."""

    views: Mapping[str, FreeView | str]
    distractors: tuple[Distractor, ...] = ()


PLAIN_LOOK = Look(VIEWS)


@dataclass(frozen=True, eq=False)
class Originals:
    """How a model was, so that one scene leaves nothing behind for the next."""

    fields: Mapping[str, FloatArray]

    @classmethod
    def of(cls, model: Any) -> Originals:
        """A copy of all that a scene may change."""
        return cls({name: getattr(model, name).copy() for name in _FIELDS})

    def restore(self, model: Any) -> None:
        """Put it back."""
        for name, values in self.fields.items():
            getattr(model, name)[:] = values


def check_kinds(names: Sequence[str]) -> None:
    """Raises SimError for what cannot be varied."""
    for name in names:
        if name not in KINDS:
            raise SimError(f"'{name}' cannot be varied; choose from {', '.join(KINDS)}")


def dress(model: Any, scene: Scene, keep_clear: FloatArray, views: Mapping[str, FreeView | str] = VIEWS) -> Look:
    """Make a model look as the scene says. keep_clear: (N, 3) [m], where no distractor may stand; views: the robot's.

    Raises SimError for a kind that there is not.
    """
    check_kinds(scene.varied)
    if not scene.shows_goal:
        hide_goal(model)
    rng = {kind: np.random.default_rng((scene.seed, index)) for index, kind in enumerate(KINDS)}
    if "light" in scene.varied:
        _vary_light(model, rng["light"])
    if "colours" in scene.varied:
        _vary_colours(model, rng["colours"])
    look = Look(views)
    if "camera" in scene.varied:
        look = replace(look, views=_varied_views(model, rng["camera"], views))
    if "distractors" in scene.varied:
        look = replace(look, distractors=_distractors(rng["distractors"], keep_clear))
    return look


def hide_goal(model: Any) -> None:
    """From now on the goal's marker is not drawn."""
    model.site_rgba[model.site("goal").id, 3] = 0.0


def open_to(environment: Any, task: str, opening: float) -> None:
    """Open a drawer or window to a share of its way, in the joint alone. Raises SimError for a task without one."""
    name, full_m = _joint(task)
    if not 0.0 <= opening <= 1.0:
        raise SimError(f"an opening of {opening} is not a share of the way; choose 0 (closed) to 1 (open)")
    environment.data.joint(name).qpos = opening * full_m
    environment.data.joint(name).qvel = 0.0


def opening_m(data: Any, task: str) -> float:
    """How far a drawer or window is open [m]. Raises SimError for a task without one."""
    name, full_m = _joint(task)
    return float(data.joint(name).qpos[0] * np.sign(full_m))


def _joint(task: str) -> tuple[str, float]:
    for thing, joint in _OPENING.items():
        if task.startswith(f"{thing}-"):
            return joint
    raise SimError(f"nothing of {task} can be half open; choose a task of a {' or a '.join(_OPENING)}")


def _vary_light(model: Any, rng: np.random.Generator) -> None:
    model.light_diffuse[:] *= rng.uniform(0.5, 1.3) * rng.uniform(0.9, 1.1, 3)
    model.light_ambient[:] *= rng.uniform(0.5, 1.5)
    # Meta-World's lights are directional: where they stand makes no difference.
    turned = model.light_dir + rng.uniform(-0.3, 0.3, model.light_dir.shape)
    model.light_dir[:] = turned / np.linalg.norm(turned, axis=1, keepdims=True)


def _vary_colours(model: Any, rng: np.random.Generator) -> None:
    """A tint for each material and each bare geom, never so strong that a red thing is not red any more."""
    model.mat_rgba[:, :3] *= rng.uniform(0.7, 1.3, (model.nmat, 3))
    model.geom_rgba[:, :3] *= rng.uniform(0.8, 1.2, (model.ngeom, 3))
    np.clip(model.mat_rgba, 0.0, 1.0, out=model.mat_rgba)
    np.clip(model.geom_rgba, 0.0, 1.0, out=model.geom_rgba)


def _varied_views(
    model: Any, rng: np.random.Generator, places: Mapping[str, FreeView | str]
) -> Mapping[str, FreeView | str]:
    """Cameras bumped by a few centimetres and degrees."""
    views: dict[str, FreeView | str] = {}
    for name, place in places.items():
        if isinstance(place, str):
            bump = rng.uniform(-0.005, 0.005, 3)
            for positions in (model.cam_pos, model.cam_pos0):  # a camera that stands, and one that follows the hand
                positions[model.camera(place).id] += bump
            views[name] = place
            continue
        x, y, z = np.asarray(place.look_at) + rng.uniform(-0.02, 0.02, 3)
        views[name] = FreeView(
            (float(x), float(y), float(z)),
            place.distance_m * float(rng.uniform(0.96, 1.04)),
            place.azimuth_deg + float(rng.uniform(-3.0, 3.0)),
            place.elevation_deg + float(rng.uniform(-2.0, 2.0)),
        )
    return views


def _distractors(rng: np.random.Generator, keep_clear: FloatArray) -> tuple[Distractor, ...]:
    """One to four, standing on the table, away from what the task is about."""
    things = []
    for _ in range(int(rng.integers(1, 5))):
        size = rng.uniform(0.015, 0.04, 3)
        for _try in range(20):
            (left, right), (near, far) = _TABLE_M
            position = np.array([rng.uniform(left, right), rng.uniform(near, far), size[2]])
            if np.linalg.norm(keep_clear[:, :2] - position[:2], axis=1).min() > _CLEAR_OF_M:
                rgba = np.append(rng.uniform(0.1, 0.9, 3), 1.0)
                things.append(Distractor(int(rng.choice(_SHAPES)), position, size, rgba))
                break
    return tuple(things)
