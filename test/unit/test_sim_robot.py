"""The simulated robot as a plain environment: real MuJoCo, real Meta-World, no pictures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.errors import SimError
from vla_ros.learning.evaluation.suites import MT10, MT50
from vla_ros.policy.metaworld_action import PRIVILEGED_WIDTH, REACH_MAX, REACH_MIN
from vla_ros.resources import config_path
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.simulated import STEP_NS
from vla_ros.sim.variations import SPLITS, Variation, parse
from vla_ros.sim.worlds import OURS, TASKS

CONTRACT = load_contract(config_path("sawyer_sim"))
TEST_0 = Variation("test", 0)


@pytest.fixture(scope="module")
def shared_robot() -> Iterator[SimRobot]:
    with SimRobot("reach-v3", TEST_0) as robot:
        yield robot


@pytest.fixture
def robot(shared_robot: SimRobot) -> SimRobot:
    shared_robot.reset("reach-v3", TEST_0)
    return shared_robot


def drive(robot: SimRobot, position: np.ndarray, gripper: float, steps: int) -> None:
    for _ in range(steps):
        robot.step(position, gripper)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_repeats_its_variations_and_tells_them_apart(task: str) -> None:
    robot = SimRobot(task, TEST_0)
    first = robot.state()
    assert first.privileged.shape == (PRIVILEGED_WIDTH,)
    assert np.isfinite(first.privileged).all()
    assert not first.success
    robot.reset(task, Variation("test", 1))
    other = robot.state()
    drive(robot, np.array([0.2, 0.7, 0.1]), 0.0, 20)
    robot.reset(task, TEST_0)
    again = robot.state()
    assert np.array_equal(first.privileged, again.privileged)
    assert np.array_equal(first.joints.positions, again.joints.positions)
    assert np.abs(first.privileged - other.privileged).max() > 1e-4
    box = load_contract(config_path("sawyer_corner2")).limits.workspace_m
    assert (first.privileged[REACH_MIN] >= box.min).all()
    assert (first.privileged[REACH_MAX] <= box.max).all()


@pytest.mark.parametrize("task", MT10)
def test_the_robot_follows_every_command_that_its_contract_allows(task: str) -> None:
    """Or else commands would wind up where it does not follow, and what was learned from it would not know that."""
    reach, box = SimRobot(task, TEST_0).state().privileged, CONTRACT.limits.workspace_m
    assert np.allclose(reach[REACH_MIN], box.min)
    assert np.allclose(reach[REACH_MAX], box.max)


def test_there_are_meta_worlds_fifty_tasks_and_ours() -> None:
    assert (*MT50, *OURS) == TASKS and len(MT50) == 50


def test_the_robot_has_the_contracts_joints(robot: SimRobot) -> None:
    joints = robot.state().joints
    assert joints.names == CONTRACT.feedback.joint_states.joints
    assert joints.positions.shape == (len(joints.names),)


def test_test_variations_are_in_no_training_set(robot: SimRobot) -> None:
    seen = {}
    for split in SPLITS:
        for index in range(10):
            robot.reset("push-v3", Variation(split, index))
            seen[split, index] = robot.state().privileged.tobytes()
    assert len(set(seen.values())) == 20


def test_a_variation_is_the_same_in_another_process(robot: SimRobot) -> None:
    code = (
        "from vla_ros.sim.robot import SimRobot, Variation;"
        "print(SimRobot('reach-v3', Variation('test', 0)).state().privileged.tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == robot.state().privileged.tobytes().hex()
    assert done.stderr == ""


def test_one_step_moves_the_command_by_at_most_a_centimetre_an_axis(robot: SimRobot) -> None:
    before = robot.state().commanded.position
    robot.step(before + np.array([0.5, -0.004, 0.0]), 0.5)
    assert robot.state().commanded.position - before == pytest.approx([0.01, -0.004, 0.0], abs=1e-12)


def test_the_hand_arrives_where_it_is_commanded(robot: SimRobot) -> None:
    goal = np.array([0.1, 0.65, 0.25])
    drive(robot, goal, 0.5, 100)
    state = robot.state()
    assert state.commanded.position == pytest.approx(goal, abs=1e-9)
    assert np.linalg.norm(state.pose.position - goal) < 0.02
    assert np.linalg.norm(state.twist.linear) < 0.01


def test_the_twist_is_how_the_pose_changes(robot: SimRobot) -> None:
    drive(robot, np.array([0.3, 0.6, 0.2]), 0.5, 15)
    before = robot.state()
    robot.step(np.array([0.3, 0.6, 0.2]), 0.5)
    after = robot.state()
    measured = (after.pose.position - before.pose.position) / (STEP_NS * 1e-9)
    assert measured[0] > 0.1
    assert measured == pytest.approx(0.5 * (before.twist.linear + after.twist.linear), abs=0.02)


def test_the_command_stays_within_meta_worlds_box(robot: SimRobot) -> None:
    drive(robot, np.array([0.0, 0.6, -5.0]), 0.5, 40)
    state = robot.state()
    assert state.commanded.position[2] == pytest.approx(state.privileged[REACH_MIN][2])


def test_the_gripper_opens_and_closes(robot: SimRobot) -> None:
    here = robot.state().commanded.position
    drive(robot, here, 1.0, 40)
    opened = robot.state().privileged[3]
    drive(robot, here, 0.0, 40)
    assert robot.state().privileged[3] < opened - 0.3


@pytest.mark.parametrize("command", [(np.array([np.nan, 0.6, 0.2]), 0.5), (np.array([0.0, 0.6, 0.2]), np.inf)])
def test_what_is_not_finite_never_reaches_the_physics(robot: SimRobot, command: tuple[np.ndarray, float]) -> None:
    with pytest.raises(SimError, match="finite"):
        robot.step(*command)


def test_the_robot_runs_for_ever_and_time_never_goes_back(robot: SimRobot) -> None:
    before = robot.state()
    drive(robot, before.commanded.position, 0.5, 600)  # Meta-World itself raises after 500
    after = robot.state()
    assert after.time_ns - before.time_ns == 600 * STEP_NS
    robot.reset("reach-v3", Variation("test", 3))
    assert robot.state().time_ns == after.time_ns


def test_success_is_reported_while_it_lasts(robot: SimRobot) -> None:
    goal = robot.state().privileged[36:39] + np.array([0.0, 0.0, 0.045])  # fingertips reach below the hand
    drive(robot, goal, 0.5, 100)
    assert robot.state().success
    drive(robot, goal + np.array([0.0, -0.2, 0.0]), 0.5, 60)
    assert not robot.state().success


def test_another_task_takes_the_robots_place(robot: SimRobot) -> None:
    robot.reset("drawer-open-v3", TEST_0)
    assert robot.task == "drawer-open-v3"
    assert np.array_equal(robot.state().privileged, SimRobot("drawer-open-v3", TEST_0).state().privileged)


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SimError, match=r"'fold-laundry'.*assembly-v3"):
        SimRobot("fold-laundry")


def test_an_unknown_view_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SimError, match=r"'wirst'.*front, wrist, top"):
        SimRobot("reach-v3", view_names=("front", "wirst"))


def test_variations_are_read_as_they_are_written() -> None:
    assert parse(" train:12 ") == Variation("train", 12)
    assert str(Variation("test", 3)) == "test:3"


@pytest.mark.parametrize("text", ["3", "test", "test:", "test:-1", "validation:1", "test:1.5", "test:²"])
def test_what_is_no_variation_is_refused(text: str) -> None:
    with pytest.raises(SimError, match="such as train:0 or test:3"):
        parse(text)
