"""The simulated base and its room: real MuJoCo, no pictures but one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.control.intents import Move
from vla_ros.control.safety import Motion
from vla_ros.errors import SimError
from vla_ros.policy.driving import TASKS, THINGS, heading_of, thing_of, things_in
from vla_ros.policy.registry import create_policy
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import config_path
from vla_ros.sim.base import BaseRobot
from vla_ros.sim.episode import run_episode
from vla_ros.sim.robots import ARM, BASE, kind_of
from vla_ros.sim.room import HALF_M, draw_room
from vla_ros.sim.scenes import Scene
from vla_ros.sim.simulated import STEP_NS
from vla_ros.sim.variations import SPLITS, Variation
from vla_ros.types import FloatArray, Pose, Twist

CONTRACT = load_contract(config_path("base_sim"))
TASK, TEST_0 = "drive-red-box", Variation("test", 0)


@pytest.fixture(scope="module")
def shared_robot() -> Iterator[BaseRobot]:
    with BaseRobot(TASK) as robot:
        yield robot


@pytest.fixture
def robot(shared_robot: BaseRobot) -> BaseRobot:
    shared_robot.reset(TASK, TEST_0)
    return shared_robot


def heading(robot: BaseRobot) -> float:
    return heading_of(robot.state().pose.quaternion)


def drive(robot: BaseRobot, linear: tuple[float, float], turning: float, steps: int) -> FloatArray:
    """Returns how far the base got, in its own first heading: ahead and to the left [m]."""
    before, angle = robot.state().pose.position, heading(robot)
    for _ in range(steps):
        robot.step(np.array([*linear, 0.0, 0.0, 0.0, turning]), 0.5)
    moved = robot.state().pose.position - before
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * moved[0] + s * moved[1], c * moved[1] - s * moved[0]])


@pytest.mark.parametrize("task", TASKS[::5])
def test_rooms_hold_four_to_six_things_of_different_colours_far_apart(task: str) -> None:
    for index in range(20):
        room = draw_room(task, Variation("train", index))
        assert thing_of(task) in room.things
        assert 4 <= len(room.things) <= 6
        assert len({THINGS[thing].split()[0] for thing in room.things}) == len(room.things)
        places = np.array([room.start[:2], *(place[:2] for place in room.things.values())])
        gaps = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(len(places), dtype=bool)]
        assert gaps.min() >= 0.85
        assert np.abs(places).max() < HALF_M - 0.5


def test_no_room_of_one_split_is_one_of_the_other_and_each_is_repeated() -> None:
    drawn = {(split, index): draw_room(TASK, Variation(split, index)).start for split in SPLITS for index in range(50)}
    assert len({start.tobytes() for start in drawn.values()}) == 100
    assert np.array_equal(draw_room(TASK, TEST_0).start, drawn["test", 0])


def test_a_reset_puts_the_room_back(robot: BaseRobot) -> None:
    before = robot.state()
    drive(robot, (0.2, 0.0), 1.0, 40)
    robot.reset("drive-blue-ball", Variation("train", 4))
    assert not np.array_equal(robot.state().privileged, before.privileged)
    robot.reset(TASK, TEST_0)
    again = robot.state()
    assert np.array_equal(again.privileged, before.privileged)
    assert np.array_equal(again.joints.positions, before.joints.positions)
    assert again.time_ns == before.time_ns + 40 * STEP_NS


def test_of_a_twist_in_the_fixed_frame_it_obeys_what_lies_along_its_heading(robot: BaseRobot) -> None:
    angle = heading(robot)
    ahead, left = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    forward, sideways = drive(robot, (0.2 * ahead[0], 0.2 * ahead[1]), 0.0, 80)
    assert forward == pytest.approx(0.2 - 0.2 * 0.05, abs=0.005), "a second, less the servo's lag"
    assert sideways == pytest.approx(0.0, abs=1e-3)
    robot.reset(TASK, TEST_0)
    assert drive(robot, (0.5 * left[0], 0.5 * left[1]), 0.0, 80) == pytest.approx([0.0, 0.0], abs=1e-3)
    robot.reset(TASK, TEST_0)
    assert drive(robot, (-0.2 * ahead[0], -0.2 * ahead[1]), 0.0, 80)[0] < -0.17


def test_it_turns_on_the_spot_and_its_wheels_against_each_other(robot: BaseRobot) -> None:
    angle = heading(robot)
    assert drive(robot, (0.0, 0.0), 1.0, 80) == pytest.approx([0.0, 0.0], abs=1e-3)
    assert math.remainder(heading(robot) - angle, 2.0 * math.pi) == pytest.approx(0.95, abs=0.02)
    left, right = robot.state().joints.positions
    assert right == pytest.approx(-left)
    assert right > 0.0


def test_the_twist_is_how_the_pose_changes(robot: BaseRobot) -> None:
    angle = heading(robot)
    drive(robot, (0.3 * math.cos(angle), 0.3 * math.sin(angle)), 0.5, 40)
    before = robot.state()
    drive(robot, (0.3 * math.cos(angle), 0.3 * math.sin(angle)), 0.5, 1)
    after = robot.state()
    moved = (after.pose.position - before.pose.position) / (STEP_NS * 1e-9)
    assert moved == pytest.approx(0.5 * (before.twist.linear + after.twist.linear), abs=0.01)
    assert after.twist.angular[2] == pytest.approx(0.5, abs=0.01)


def test_it_has_arrived_when_it_stands_near_and_not_when_it_turns_or_has_touched(robot: BaseRobot) -> None:
    target = things_in(robot.state().privileged)[thing_of(TASK)]
    x, y, angle = target[0] - target[2] - 0.35, target[1], 0.0
    robot.physics[1].qpos[:] = x, y, angle
    robot.step(robot.holding(), 0.5)
    assert robot.state().success
    drive(robot, (0.0, 0.0), 1.0, 20)
    assert robot.success is False  # what is written down as JSON must be a bool
    drive(robot, (0.0, 0.0), 0.0, 40)
    assert robot.success
    robot.physics[1].qpos[2] = 0.0
    drive(robot, (0.4, 0.0), 0.0, 80)
    assert "red box" in robot.touched
    drive(robot, (-0.1, 0.0), 0.0, 40)
    drive(robot, (0.0, 0.0), 0.0, 40)
    assert not robot.success
    robot.reset(TASK, TEST_0)
    assert not robot.touched


def test_it_can_be_sent_elsewhere_but_only_to_what_is_there(robot: BaseRobot) -> None:
    things = things_in(robot.state().privileged)
    [other, *_] = [thing for thing in np.flatnonzero(things[:, 3]).tolist() if thing != thing_of(TASK)]
    robot.touched = frozenset({"wall"})
    robot.send_to(TASKS[other])
    assert not robot.touched
    robot.physics[1].qpos[:] = *(things[other, :2] - [things[other, 2] + 0.35, 0.0]), 0.0
    robot.step(robot.holding(), 0.5)
    assert robot.success
    absent = TASKS[int(np.flatnonzero(things[:, 3] == 0.0)[0])]
    with pytest.raises(SimError, match=r"there is no .* in this room; there are .*red box"):
        robot.send_to(absent)


def test_walls_hold_it(robot: BaseRobot) -> None:
    robot.physics[1].qpos[:] = 1.9, 1.9, 0.0
    drive(robot, (1.0, 0.0), 0.0, 160)
    assert robot.touched == {"wall"}
    assert robot.state().pose.position[0] < HALF_M - 0.12


@pytest.mark.parametrize("command", [(np.full(6, np.nan), 0.5), (np.zeros(6), math.inf)])
def test_what_is_not_finite_never_reaches_the_physics(robot: BaseRobot, command: tuple[FloatArray, float]) -> None:
    with pytest.raises(SimError, match="finite"):
        robot.step(*command)


def test_it_takes_the_guards_twist(robot: BaseRobot) -> None:
    twist = Twist(np.array([0.1, 0.2, 0.0]), np.array([0.0, 0.0, 0.3]))
    command = robot.command_of(Motion(Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), twist, None))
    assert command.tolist() == [0.1, 0.2, 0.0, 0.0, 0.0, 0.3]
    assert not robot.holding().any()


def test_a_contract_tells_which_robot_is_simulated() -> None:
    assert kind_of(CONTRACT) is BASE
    assert kind_of(load_contract(config_path("sawyer_sim"))) is ARM
    with pytest.raises(SimError, match=r"no simulation is of the robot ur5e_servo; choose a contract of .* left_wheel"):
        kind_of(load_contract(config_path("ur5e_servo")))


def test_what_the_room_does_not_have_is_refused(robot: BaseRobot) -> None:
    with pytest.raises(SimError, match="nothing opens; what can be varied is light, colours, camera"):
        robot.reset(TASK, TEST_0, Scene(varied=("distractors",)))
    with pytest.raises(SimError, match="'wrist' is not a view of the simulated robot; choose from front"):
        BaseRobot(TASK, view_names=("wrist",))


def test_its_camera_sees_the_thing_ahead_in_its_colour(robot: BaseRobot) -> None:
    target = things_in(robot.state().privileged)[thing_of(TASK)]
    robot.physics[1].qpos[:] = target[0] - 0.8, target[1], 0.0
    robot.step(robot.holding(), 0.5)
    assert robot.visible("front")["red box"] > 20
    middle = robot.render()["front"][40:90, 54:74].astype(int)
    redness = middle[..., 0] - middle[..., 1:].max(axis=-1)
    assert (redness > 60).mean() > 0.2
    robot.reset(TASK, TEST_0, Scene(varied=("light",), seed=3))
    assert robot.render()["front"].shape == (128, 128, 3)


@pytest.mark.parametrize("index", range(6))
def test_the_oracle_arrives_through_policy_tick_and_guard(robot: BaseRobot, index: int) -> None:
    task = TASKS[3 * index]
    robot.reset(task, Variation("test", index))
    policy = create_policy("oracle", CONTRACT, {})
    result = run_episode(robot, policy, CONTRACT, load_sentences().usual(task), 1600, inference_ticks=2)
    assert result.success
    assert (result.stops, result.latches) == (0, 0)
    assert not robot.touched
    assert result.max_following_error_m < 0.02


@pytest.mark.parametrize("angle", [0.05, 0.8, 1.5, -2.3, 3.1])
def test_told_to_drive_through_a_side_of_the_workspace_it_stops_at_it(robot: BaseRobot, angle: float) -> None:
    """Also askew, where of a slide along the side a differential drive would obey the part that leads through it."""
    robot.physics[1].qpos[:] = 1.0 * math.cos(angle), -1.0 * math.sin(angle), angle
    for thing in range(len(THINGS)):
        robot.physics[1].mocap_pos[thing] = 0.0, 0.0, -5.0
    wanted = Move(Twist(0.5 * np.array([math.cos(angle), math.sin(angle), 0.0]), np.zeros(3)), None)
    motion = Motion(robot.state().pose, Twist(np.zeros(3), np.zeros(3)), None)
    for _ in range(800):
        motion = wanted.execute(replace(motion, pose=robot.state().pose), STEP_NS * 1e-9, CONTRACT).motion
        robot.step(robot.command_of(motion), 0.5)
    reached = np.abs(robot.state().pose.position[:2]).max()
    assert reached == pytest.approx(CONTRACT.limits.workspace_m.max[0], abs=0.03)
    assert not robot.touched
