"""The simulated arm: Meta-World's Sawyer as a robot that is told where its hand should be."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.contract import Box, Vector3
from vla_ros.control.safety import Motion
from vla_ros.errors import SimError
from vla_ros.policy.metaworld_action import GOAL_POSITION, PLACE_COLUMNS, to_effort
from vla_ros.sim.variations import Variation, draw
from vla_ros.types import FloatArray, JointState, Pose, Twist

try:
    import mujoco

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
except ImportError as _error:
    raise SimError(f"the simulated robot needs Meta-World: pip install metaworld packaging ({_error})") from _error

from vla_ros.sim.drawn import DrawnRobot
from vla_ros.sim.objects import things_touched_by_both_fingers
from vla_ros.sim.scenes import PLAIN, Originals, Scene, dress, hide_goal, open_to, opening_m
from vla_ros.sim.simulated import DEFAULT_VARIATION, STEP_NS, SimState
from vla_ros.sim.views import DEFAULT_VIEWS, check_views
from vla_ros.sim.worlds import world_of

JOINT_NAMES = (*(f"right_j{i}" for i in range(7)), "r_close", "l_close")
_FINGERS_APART, _FIST = 3, 0.25  # where in Meta-World's observation; share of the widest opening


class SimRobot(DrawnRobot):
    """One Sawyer at one of the tasks of `worlds.TASKS`. See `simulated.SimulatedRobot`."""

    def __init__(
        self,
        task: str,
        variation: Variation = DEFAULT_VARIATION,
        view_names: tuple[str, ...] = DEFAULT_VIEWS,
        image_size: tuple[int, int] = (128, 128),
    ) -> None:
        """image_size: width, height in pixels. Nothing is drawn before the first `render`. Raises SimError."""
        check_views(view_names)
        super().__init__(view_names, image_size)
        self._task = ""
        self._environment: Any = None
        self.reset(task, variation)

    @property
    def success(self) -> bool:
        """Whether the task is solved at this instant."""
        return self._success

    @property
    def reach(self) -> Box:
        """The box that Meta-World holds the commanded hand in, which is each task's own."""
        return Box(_vector(self._environment.mocap_low), _vector(self._environment.mocap_high))

    @property
    def physics(self) -> tuple[Any, Any]:
        """MjModel and MjData, to draw from; nobody else's to change."""
        return self._environment.model, self._environment.data

    def reset(self, task: str, variation: Variation, scene: Scene = PLAIN) -> None:
        """Put the world back, or another one in its place. Time goes on. Raises SimError."""
        world = world_of(task)
        if task != self._task:
            self.close()
            self._environment = _make_environment(world.environment)
            self._originals = Originals.of(self._environment.model)
            self._task = task
        self._originals.restore(self._environment.model)
        draw(self._environment, task, variation)
        self._variation = variation
        self._observation, _ = self._environment.reset()
        if scene.opening is not None:
            open_to(self._environment, task, scene.opening)
        # Some tasks move things last of all: without this the first picture and observation would show them before.
        mujoco.mj_forward(self._environment.model, self._environment.data)
        self._observation = self._environment._get_obs()
        self._look = dress(self._environment.model, scene, self._observation[list(PLACE_COLUMNS)].reshape(3, 3))
        mujoco.mj_camlight(self._environment.model, self._environment.data)  # where cameras and lights are now
        self._success = False
        self._goal_shown_steps = world.goal_shown_steps(variation)

    def command_of(self, motion: Motion) -> FloatArray:
        """The position. -> (3,) [m]"""
        return motion.pose.position

    def holding(self) -> FloatArray:
        """Where it was last told to be. -> (3,) [m]"""
        position: FloatArray = self._environment.data.mocap_pos[0].copy()
        return position

    def step(self, command: FloatArray, gripper: float) -> None:
        """Drive for 12.5 ms towards a commanded position, at most 1 cm along each axis and within Meta-World's box.

        command: (3,) [m] in the base frame; gripper: 0 closed to 1 open. Raises SimError for what is not finite, and
        when the physics breaks.
        """
        if not np.isfinite(command).all() or not np.isfinite(gripper):
            raise SimError("a commanded position or gripper is not finite")
        environment = self._environment
        move = (command - environment.data.mocap_pos[0]) / environment.action_scale
        effort = to_effort(float(np.clip(gripper, 0.0, 1.0)))
        self._observation, _, _, _, info = environment.step(np.append(np.clip(move, -1.0, 1.0), effort))
        self._success = bool(info["success"])
        self._time_ns += STEP_NS
        if self._goal_shown_steps is not None:
            self._show_goal_for(self._goal_shown_steps - 1)
        if any(environment.data.warning[kind].number for kind in _BROKEN):
            raise SimError(f"the physics of {self._task} broke; reset the robot")

    def state(self) -> SimState:
        """Everything but the pictures. privileged: (45,), see metaworld_action."""
        environment = self._environment
        data = environment.data
        return SimState(
            time_ns=self._time_ns,
            pose=_body_pose(data, "hand"),
            commanded=Pose(self.holding(), _xyzw(data.mocap_quat[0])),
            twist=_hand_twist(environment.model, data),
            joints=JointState(JOINT_NAMES, np.array([data.joint(name).qpos[0] for name in JOINT_NAMES])),
            success=self._success,
            privileged=np.concatenate([self._observation, environment.mocap_low, environment.mocap_high]),
        )

    def visible(self, view: str) -> Mapping[str, int]:
        """What a camera sees: name of a thing -> pixels, see `Renderer.visible`. Raises SimError."""
        return self._drawing().visible(self._environment.data, view)

    def held(self) -> frozenset[str]:
        """Names of the things that are between the fingers and touched by both; a closed fist holds nothing."""
        if self._observation[_FINGERS_APART] < _FIST:
            return frozenset()
        return things_touched_by_both_fingers(self._environment.model, self._environment.data)

    @property
    def opening_m(self) -> float:
        """How far the task's drawer or window is open [m]. Raises SimError for a task without one."""
        return opening_m(self._environment.data, self._task)

    def observed_as(self, task: str) -> FloatArray:
        """Meta-World's observation, (39,), as if this world were that of another task with the same things."""
        observed: FloatArray = self._observation.copy()
        if task != self._task:
            observed[4:7] = ALL_V3_ENVIRONMENTS[task]._get_pos_objects(self._environment)
        return observed

    def _show_goal_for(self, steps: int) -> None:
        """See `worlds.World`. steps: that are left; the task is not solved before they are over."""
        self._goal_shown_steps = max(0, steps)
        self._success &= self._goal_shown_steps == 0
        if self._goal_shown_steps == 0:
            self._observation[GOAL_POSITION] = 0.0
            hide_goal(self._environment.model)


_BROKEN = (
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
)


def _make_environment(task: str) -> Any:
    """Meta-World's environment with the goal in its observation and without its limit of 500 steps."""
    environment = ALL_V3_ENVIRONMENTS[task]()
    environment._partially_observable = False
    del environment.sawyer_observation_space  # computed for a hidden goal; the next use computes it again
    environment._set_task_called = True
    environment.max_path_length = sys.maxsize
    return environment


def _vector(values: FloatArray) -> Vector3:
    x, y, z = values.tolist()
    return x, y, z


def _body_pose(data: Any, name: str) -> Pose:
    body = data.body(name)
    return Pose(body.xpos.copy(), _xyzw(body.xquat))


def _xyzw(wxyz: FloatArray) -> FloatArray:
    """MuJoCo's quaternion, scalar first and not always unit, as ours."""
    unit: FloatArray = np.roll(wxyz, -1) / np.linalg.norm(wxyz)
    return unit


def _hand_twist(model: Any, data: Any) -> Twist:
    velocity = np.zeros(6)
    kind = mujoco.mjtObj.mjOBJ_XBODY.value
    mujoco.mj_objectVelocity(model, data, kind, model.body("hand").id, velocity, 0)
    return Twist(velocity[3:], velocity[:3])
