"""What a robot does not expect: somebody moves the thing that it is about, it slips out of the fingers, a camera is
covered. Each comes once, at a drawn instant of an episode, or as soon after it as it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import mujoco
import numpy as np

from vla_ros.errors import SimError
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.simulated import SimulatedRobot
from vla_ros.types import FloatArray, ImageArray

DisturbanceKind = Literal["moved", "slipped", "covered"]
DISTURBANCES: tuple[DisturbanceKind, ...] = get_args(DisturbanceKind)
_INSTANT_S = (0.3, 0.9)  # of an episode: the robot is on its way, and nearly always has not arrived
_FARTHEST_M = 0.12
LEAST_MOVED_M = 0.08
_MOVING_STEPS = round(0.2 / CONTROL_DT_S)
_HAND_CLEAR_M = 0.06  # a thing that is moved does not end in the hand
_TABLE_M = ((-0.3, 0.3), (0.45, 0.85))
_TRIES = 64
_FINGERS = ("leftpad", "rightpad", "leftclaw", "rightclaw")
_DARK, _NOISE = 12.0, 3.0  # of 255


@dataclass(frozen=True)
class Disturbance:
    """kind: of `DISTURBANCES`; from_step: of 12.5 ms, before which it does not come; seed: of all else."""

    kind: DisturbanceKind
    from_step: int
    seed: int


def drawn(kind: str, seed: int) -> Disturbance:
    """One at an instant that the seed decides. Raises SimError for a kind that there is not."""
    for index, known in enumerate(DISTURBANCES):
        if kind == known:
            instant_s = np.random.default_rng((seed, index)).uniform(*_INSTANT_S)
            return Disturbance(known, round(instant_s / CONTROL_DT_S), seed)
    raise SimError(f"'{kind}' is not a disturbance; choose from {', '.join(DISTURBANCES)}")


class Intruder(Protocol):
    """Who disturbs an episode. began_step: the first one that is disturbed, None until then."""

    began_step: int | None

    def act(self, robot: SimulatedRobot, step: int) -> None:
        """After the robot has made a step."""
        ...

    def show(self, images: Mapping[str, ImageArray], step: int) -> Mapping[str, ImageArray]:
        """What the cameras show instead. images: view -> (height, width, 3) uint8."""
        ...


class Nobody:
    """Leaves everything as it is."""

    began_step: int | None = None

    def act(self, robot: SimulatedRobot, step: int) -> None:
        """Nothing."""

    def show(self, images: Mapping[str, ImageArray], step: int) -> Mapping[str, ImageArray]:
        """The same."""
        return images


def intruder_of(disturbance: Disturbance | None) -> Intruder:
    """A fresh one for an episode."""
    return Nobody() if disturbance is None else _INTRUDERS[disturbance.kind](disturbance)


class _Intruder(Nobody):
    def __init__(self, disturbance: Disturbance) -> None:
        self._from_step = disturbance.from_step
        self._rng = np.random.default_rng((disturbance.seed, len(DISTURBANCES)))


class _Mover(_Intruder):
    """Moves the thing, while it is not held: one that lies about along the table, one that slides along its rail."""

    _path: tuple[FloatArray, ...] = ()

    def act(self, robot: SimulatedRobot, step: int) -> None:
        model, data = robot.physics
        joint = thing_joint(model)
        if joint is None or step < self._from_step:
            return
        if self.began_step is None and not _arm(robot).held():
            self._path = _path(model, data, joint, self._rng)
            self.began_step = step if self._path else None
        if self.began_step is not None and step - self.began_step < len(self._path):
            address, velocity = joint.qposadr[0], joint.dofadr[0]
            place = self._path[step - self.began_step]
            data.qpos[address : address + len(place)] = place
            data.qvel[velocity : velocity + (6 if len(place) == 3 else 1)] = 0.0
            mujoco.mj_forward(model, data)


class _Slipper(_Intruder):
    """From the first instant at which something loose is held, the fingers have no hold of anything any more."""

    def act(self, robot: SimulatedRobot, step: int) -> None:
        model = robot.physics[0]
        if self.began_step is None and step >= self._from_step and _is_loose(model) and _arm(robot).held():
            for body in map(model.body, _FINGERS):
                geoms = slice(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
                model.geom_contype[geoms] = model.geom_conaffinity[geoms] = 0
            self.began_step = step


class _Coverer(_Intruder):
    """One view is dark from now on. Its pixels have noise, as a real camera's have: it does not look frozen."""

    def show(self, images: Mapping[str, ImageArray], step: int) -> Mapping[str, ImageArray]:
        if step < self._from_step:
            return images
        if self.began_step is None:
            self.began_step = step
            self._view = sorted(images)[int(self._rng.integers(len(images)))]
        noisy = self._rng.normal(_DARK, _NOISE, images[self._view].shape)
        return {**images, self._view: np.clip(noisy, 0.0, 255.0).astype(np.uint8)}


_INTRUDERS: Mapping[DisturbanceKind, type[_Intruder]] = {"moved": _Mover, "slipped": _Slipper, "covered": _Coverer}


def thing_joint(model: Any) -> Any | None:
    """The joint by which the thing of a task moves, free or sliding far enough; None for a task without such a one."""
    for joint in map(model.joint, range(model.njnt)):
        body = model.body(int(model.jnt_bodyid[joint.id]))
        if model.body(int(body.rootid[0])).name == "base":
            continue
        slides = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE.value and np.ptp(joint.range) >= LEAST_MOVED_M
        if _is_free(joint) or slides:
            return joint
    return None


def _is_free(joint: Any) -> bool:
    return bool(joint.type[0] == mujoco.mjtJoint.mjJNT_FREE.value)


def _is_loose(model: Any) -> bool:
    """Whether the thing of the task lies about."""
    joint = thing_joint(model)
    return joint is not None and _is_free(joint)


def _path(model: Any, data: Any, joint: Any, rng: np.random.Generator) -> tuple[FloatArray, ...]:
    """Where the thing is at each step of its way; empty where there is no room. -> (3,) [m], or (1,) along its rail"""
    far_m = rng.uniform(LEAST_MOVED_M, _FARTHEST_M)
    is_free = _is_free(joint)
    address = joint.qposadr[0]
    begin = data.qpos[address : address + (3 if is_free else 1)].copy()
    end = _on_table(begin, far_m, data.body("hand").xpos, rng) if is_free else _on_rail(begin, far_m, joint.range)
    if end is None:
        return ()
    return tuple(begin + (end - begin) * share for share in np.linspace(0.0, 1.0, _MOVING_STEPS + 1)[1:])


def _on_table(begin: FloatArray, far_m: float, hand: FloatArray, rng: np.random.Generator) -> FloatArray | None:
    for angle in rng.uniform(0.0, 2.0 * np.pi, _TRIES):
        end: FloatArray = begin + far_m * np.array([np.cos(angle), np.sin(angle), 0.0])
        is_there = all(low <= value <= high for value, (low, high) in zip(end[:2], _TABLE_M, strict=True))
        if is_there and np.linalg.norm(end[:2] - hand[:2]) > _HAND_CLEAR_M:
            return end
    return None


def _on_rail(begin: FloatArray, far_m: float, limits: FloatArray) -> FloatArray | None:
    """To the side that has more room."""
    low, high = limits
    way = far_m if high - begin[0] > begin[0] - low else -far_m
    end: FloatArray = np.clip(begin + way, low, high)
    return end if abs(end[0] - begin[0]) >= LEAST_MOVED_M - 1e-6 else None


def _arm(robot: SimulatedRobot) -> SimRobot:
    if not isinstance(robot, SimRobot):
        raise SimError("things are moved and slip for the arm alone; another robot's cameras can be covered")
    return robot
