"""The simulated base: a differential drive in a room, told how to move by a twist in the fixed frame.

A twist of the contract's base frame has three numbers that a robot on the floor could obey: along x, along y, and about
z. A differential drive cannot move sideways: its driver obeys the part of the linear velocity that lies along its
heading, and drops the rest. That is what a small adapter would do in front of a real base, which takes `cmd_vel` in its
own frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from vla_ros.contract import Box
from vla_ros.control.safety import Motion
from vla_ros.errors import SimError
from vla_ros.geometry import integrate
from vla_ros.policy.driving import (
    BASE_RADIUS_M,
    PRIVILEGED_WIDTH,
    REACH_M,
    THING_WIDTH,
    THINGS,
    WHEELS,
    quaternion_of,
    thing_of,
)
from vla_ros.policy.metaworld_action import CONTROL_DT_S

try:
    import mujoco
except ImportError as _error:
    raise SimError(f"the simulated robot needs MuJoCo: pip install mujoco ({_error})") from _error

from vla_ros.sim.drawn import DrawnRobot
from vla_ros.sim.objects import body_of
from vla_ros.sim.room import BELOW_M, HALF_M, Room, draw_room, model_xml, radius_m
from vla_ros.sim.scenes import PLAIN, Kind, Originals, Scene, dress
from vla_ros.sim.simulated import DEFAULT_VARIATION, STEP_NS, SimState
from vla_ros.sim.variations import Variation
from vla_ros.sim.views import BASE_VIEWS, check_views
from vla_ros.types import FloatArray, JointState, Pose, Twist

KINDS: tuple[Kind, ...] = ("light", "colours", "camera")
TRACK_M = 0.26
"""From wheel to wheel."""
_WHEEL_RADIUS_M = 0.05
_AWAY = np.array([0.0, 0.0, 0.0, BELOW_M])
_AT_REST_M_S, _AT_REST_RAD_S = 0.03, 0.1
_SUBSTEPS = 5
_WALL = "wall"
_NAMES = frozenset(THINGS)


class BaseRobot(DrawnRobot):
    """One base in a room that changes with the task and its variation. See `simulated.SimulatedRobot`."""

    def __init__(
        self,
        task: str,
        variation: Variation = DEFAULT_VARIATION,
        view_names: tuple[str, ...] = tuple(BASE_VIEWS),
        image_size: tuple[int, int] = (128, 128),
    ) -> None:
        """image_size: width, height in pixels. Nothing is drawn before the first `render`. Raises SimError."""
        check_views(view_names, BASE_VIEWS)
        super().__init__(view_names, image_size)
        self._model: Any = mujoco.MjModel.from_xml_string(model_xml())
        self._data: Any = mujoco.MjData(self._model)
        self._originals = Originals.of(self._model)
        self.reset(task, variation)

    @property
    def success(self) -> bool:
        """Whether it stands within reach of the thing that it was sent to, and has touched nothing on its way."""
        distance_m = math.dist(self._place[:2], self._room.things[self._goal][:2]) - radius_m(self._goal)
        speeds = self._data.qvel
        is_at_rest = math.hypot(speeds[0], speeds[1]) < _AT_REST_M_S and abs(float(speeds[2])) < _AT_REST_RAD_S
        return distance_m <= REACH_M and is_at_rest and not self.touched

    @property
    def reach(self) -> Box:
        """Up to the walls."""
        side = HALF_M - BASE_RADIUS_M
        return Box((-side, -side, -side), (side, side, side))

    @property
    def physics(self) -> tuple[Any, Any]:
        """MjModel and MjData, to draw from; nobody else's to change."""
        return self._model, self._data

    @property
    def opening_m(self) -> float:
        """There is nothing that opens. Raises SimError."""
        raise SimError("nothing in this room can be open")

    def reset(self, task: str, variation: Variation, scene: Scene = PLAIN) -> None:
        """Put the room back, or another one in its place. Time goes on. Raises SimError."""
        if scene.opening is not None or "distractors" in scene.varied:
            raise SimError(f"in the room nothing opens; what can be varied is {', '.join(KINDS)}")
        self._room = draw_room(task, variation)
        self._task, self._variation, self._goal = task, variation, thing_of(task)
        self._originals.restore(self._model)
        self._look = dress(self._model, replace(scene, shows_goal=True), np.zeros((0, 3)), BASE_VIEWS)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = self._room.start
        _furnish(self._data, self._room)
        mujoco.mj_forward(self._model, self._data)
        self._commanded = self._pose()
        self._wheels_rad = np.zeros(len(WHEELS))
        self.touched: frozenset[str] = frozenset()

    def send_to(self, task: str) -> None:
        """From now on it is about another thing of this room, on a way that begins here.

        Raises SimError where the room has no such thing, and PolicyError for what is no task.
        """
        thing = thing_of(task)
        if thing not in self._room.things:
            there = ", ".join(THINGS[other] for other in sorted(self._room.things))
            raise SimError(f"there is no {THINGS[thing]} in this room; there are {there}")
        self._goal, self.touched = thing, frozenset()

    def command_of(self, motion: Motion) -> FloatArray:
        """The twist. -> (6,) [m/s, rad/s]"""
        return np.concatenate([motion.twist.linear, motion.twist.angular])

    def holding(self) -> FloatArray:
        """No motion."""
        return np.zeros(6)

    def step(self, command: FloatArray, gripper: float) -> None:
        """Obey a twist for 12.5 ms: what of it lies along the heading, and what turns about z.

        command: (6,) [m/s, rad/s] in the fixed frame; gripper: nobody's. Raises SimError for what is not finite, and
        when the physics breaks.
        """
        if not np.isfinite(command).all() or not np.isfinite(gripper):
            raise SimError("a commanded twist or gripper is not finite")
        self._commanded = integrate(self._pose(), Twist(command[:3], command[3:]), CONTROL_DT_S)
        for _ in range(_SUBSTEPS):
            ahead = _ahead(self._place[2])
            forward_m_s = float(command[:2] @ ahead)
            self._data.ctrl[:] = [*(forward_m_s * ahead), command[5]]
            mujoco.mj_step(self._model, self._data)
            self.touched |= self._touching()
        self._roll()
        self._time_ns += STEP_NS
        if self._data.warning.number.any():
            raise SimError("the physics of the room broke; reset the robot")

    def state(self) -> SimState:
        """Everything but the pictures. privileged: as `policy.driving` has it."""
        return SimState(
            time_ns=self._time_ns,
            pose=self._pose(),
            commanded=self._commanded,
            twist=self._twist(),
            joints=JointState(WHEELS, self._wheels_rad.copy()),
            success=self.success,
            privileged=self._privileged(),
        )

    def visible(self, view: str) -> Mapping[str, int]:
        """What a camera sees: name of a thing -> pixels, see `Renderer.visible`. Raises SimError."""
        seen = self._drawing().visible(self._data, view, body_of)
        return {name: pixels for name, pixels in seen.items() if name in _NAMES}

    @property
    def _place(self) -> FloatArray:
        """x, y [m] and heading [rad], which counts whole turns. -> (3,)"""
        return cast(FloatArray, self._data.qpos)

    def _pose(self) -> Pose:
        x, y, heading = self._place.tolist()
        return Pose(np.array([x, y, 0.0]), quaternion_of(heading))

    def _twist(self) -> Twist:
        x, y, turning = self._data.qvel.tolist()
        return Twist(np.array([x, y, 0.0]), np.array([0.0, 0.0, turning]))

    def _forward_m_s(self) -> float:
        return float(self._data.qvel[:2] @ _ahead(self._place[2]))

    def _roll(self) -> None:
        forward_m_s, turning_rad_s = self._forward_m_s(), float(self._data.qvel[2])
        sides_m = np.array([-0.5, 0.5]) * TRACK_M  # turning left, the left wheel goes back
        self._wheels_rad = self._wheels_rad + (forward_m_s + turning_rad_s * sides_m) / _WHEEL_RADIUS_M * CONTROL_DT_S

    def _privileged(self) -> FloatArray:
        privileged = np.zeros(PRIVILEGED_WIDTH)
        x, y, heading = self._place.tolist()
        privileged[:5] = x, y, math.remainder(heading, 2.0 * math.pi), self._forward_m_s(), self._data.qvel[2]
        for thing, place in self._room.things.items():
            start = 5 + THING_WIDTH * thing
            privileged[start : start + THING_WIDTH] = place[0], place[1], radius_m(thing), 1.0
        return privileged

    def _touching(self) -> frozenset[str]:
        """Names of what the base is in contact with at this instant."""
        if not self._data.ncon:
            return frozenset()
        # Only the base moves, so that it is one of the two in every contact.
        bodies = self._model.geom_bodyid[self._data.contact.geom]  # (N, 2)
        names = {self._model.body(int(body)).name for body in bodies[self._data.contact.dist <= 0.0].ravel()}
        return frozenset(name if name in _NAMES else _WALL for name in names - {"base"})


def _ahead(heading_rad: float) -> FloatArray:
    """-> (2,) unit"""
    return np.array([math.cos(heading_rad), math.sin(heading_rad)])


def _furnish(data: Any, room: Room) -> None:
    """Put this room's things in it, and all others below the floor."""
    for thing in range(len(THINGS)):
        x, y, turned_rad, height_m = room.things.get(thing, _AWAY)
        data.mocap_pos[thing] = x, y, height_m
        data.mocap_quat[thing] = math.cos(0.5 * turned_rad), 0.0, 0.0, math.sin(0.5 * turned_rad)
