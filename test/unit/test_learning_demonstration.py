"""Experts that show a task within the robot's limits, pushed off their way in bursts that are marked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from builders import pose_contract
from metaworld.env_dict import MT10_V3

from vla_ros.learning.demonstration import FPS, NOISE, Demonstration, Limiter, Noise, Take, demonstrate
from vla_ros.learning.experts import subtask_names
from vla_ros.policy.metaworld_action import REACH_MAX, REACH_MIN
from vla_ros.sim.objects import THINGS
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.scenes import Scene
from vla_ros.sim.variations import Variation

LIMITS = pose_contract().limits
CALM = Noise(rate_per_s=0.0)
WILD = replace(NOISE, rate_per_s=3.0)
VARIATION = Variation("train", 0)
DRAWER = "drawer-open-v3"


@pytest.fixture(scope="module")
def robot() -> Iterator[SimRobot]:
    with SimRobot(DRAWER, VARIATION, view_names=("front",), image_size=(64, 64)) as robot:
        yield robot


@pytest.fixture(scope="module")
def calm(robot: SimRobot) -> Demonstration:
    return demonstrate(robot, Take(DRAWER, DRAWER, VARIATION, 1, noise=CALM), LIMITS)


@pytest.fixture(scope="module")
def wild(robot: SimRobot) -> Demonstration:
    return demonstrate(robot, Take(DRAWER, DRAWER, VARIATION, 1, noise=WILD), LIMITS)


def pictures(demonstration: Demonstration) -> np.ndarray:
    files = demonstration.images["front"]
    return np.stack([cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in files]).astype(int)


@pytest.mark.parametrize("task", MT10_V3)
def test_experts_succeed_within_the_limits_though_pushed(task: str) -> None:
    with SimRobot(task, VARIATION, view_names=("front",), image_size=(32, 32)) as robot:
        shown = demonstrate(robot, Take(task, task, VARIATION, 0), LIMITS)
    assert shown.success
    assert shown.columns["next.success"][-1]
    assert set(shown.subtasks) <= set(subtask_names(task))
    speeds = np.linalg.norm(shown.columns["action"][:, 7:10], axis=1)
    assert speeds.max() <= LIMITS.max_linear_velocity_m_s + 1e-6


def test_every_column_has_a_row_for_each_picture(wild: Demonstration) -> None:
    frames = len(wild.images["front"])
    assert {len(values) for values in wild.columns.values()} == {len(wild.subtasks)} == {frames}
    assert wild.columns["observation.state"].shape == (frames, 15 + 9)
    assert wild.columns["label.visible"].shape == (frames, len(THINGS))
    assert wild.columns["label.visible"][:, THINGS.index("drawer")].all()


def test_what_is_recorded_is_where_the_robot_is_told_to_go_next(
    robot: SimRobot, calm: Demonstration, wild: Demonstration
) -> None:
    privileged = robot.state().privileged
    for shown in (calm, wild):
        states, actions = shown.columns["observation.state"], shown.columns["action"]
        told = np.linalg.norm(states[1:, 7:10] - actions[:-1, 0:3], axis=1)
        # An expert may ask for more than Meta-World's box, at whose walls the robot stops.
        inside = (actions[:-1, 0:3] > privileged[REACH_MIN]) & (actions[:-1, 0:3] < privileged[REACH_MAX])
        undisturbed = ~shown.columns["is_perturbed"][:-1, 0] & inside.all(axis=1)
        assert undisturbed.mean() > 0.3
        assert told[undisturbed].max() < 1e-5
        assert actions[:, 0:3] - states[:, 7:10] == pytest.approx(actions[:, 7:10] / FPS, abs=1e-6)
        assert np.array_equal(actions[:, 3:7], states[:, 10:14])
        pushed = shown.columns["is_perturbed"][:-1, 0]
        assert not pushed.any() or told[pushed].max() > 0.002


def test_bursts_are_marked(calm: Demonstration, wild: Demonstration) -> None:
    assert not calm.columns["is_perturbed"].any()
    assert 0.1 < wild.columns["is_perturbed"].mean() < 0.9


def test_neither_expert_nor_push_is_faster_than_the_guard_lets_pass(wild: Demonstration) -> None:
    told = wild.columns["observation.state"][:, 7:10]
    assert np.linalg.norm(np.diff(told, axis=0), axis=1).max() * FPS <= LIMITS.max_linear_velocity_m_s + 1e-4


def test_a_limiter_bounds_speed_and_change_of_speed() -> None:
    limiter, rng, velocity = Limiter(LIMITS), np.random.default_rng(0), np.zeros(3)
    for _ in range(500):
        changed = limiter.limit(rng.normal(size=3), velocity)
        assert np.linalg.norm(changed) <= LIMITS.max_linear_velocity_m_s + 1e-9
        assert np.linalg.norm(changed - velocity) <= LIMITS.max_linear_acceleration_m_s2 * 0.0125 + 1e-9
        velocity = changed
    assert limiter.limit(np.array([0.01, 0.0, 0.0]), np.zeros(3)) == pytest.approx([0.01, 0.0, 0.0])


def test_a_take_is_the_same_each_time_whatever_the_robot_did_before(robot: SimRobot, wild: Demonstration) -> None:
    again = demonstrate(robot, wild.take, LIMITS)
    with SimRobot(DRAWER, VARIATION, view_names=("front",), image_size=(64, 64)) as other:
        anew = demonstrate(other, wild.take, LIMITS)
    for shown in (again, anew):
        for name, values in wild.columns.items():
            assert np.array_equal(shown.columns[name], values), name
        assert shown.subtasks == wild.subtasks
        assert np.abs(pictures(shown) - pictures(wild)).max() <= 1


def test_another_seed_is_another_take(robot: SimRobot, wild: Demonstration) -> None:
    other = demonstrate(robot, replace(wild.take, seed=2), LIMITS)
    assert not np.array_equal(other.columns["observation.state"][0], wild.columns["observation.state"][0])


@cache
def half_open(task: str, world: str) -> Demonstration:
    take = Take(task, world, VARIATION, 0, Scene(opening=0.5, shows_goal=False), CALM)
    with SimRobot(world, VARIATION, view_names=("front",), image_size=(64, 64)) as robot:
        return demonstrate(robot, take, LIMITS)


@pytest.mark.parametrize("world", [DRAWER, "drawer-close-v3", "window-open-v3", "window-close-v3"])
def test_from_half_open_both_tasks_are_shown_and_begin_with_the_same_picture(world: str) -> None:
    thing = world.partition("-")[0]
    opened, closed = (half_open(f"{thing}-{what}-v3", world) for what in ("open", "close"))
    assert opened.success
    assert closed.success
    assert opened.images["front"][0] == closed.images["front"][0]
    assert np.array_equal(opened.columns["observation.state"][0], closed.columns["observation.state"][0])
    assert not opened.columns["label.visible"][:, THINGS.index("goal marker")].any()


def test_where_a_thing_was_grasped_is_told_on_all_frames_up_to_then() -> None:
    task = "pick-place-v3"
    with SimRobot(task, VARIATION, view_names=("front",), image_size=(32, 32)) as robot:
        shown = demonstrate(robot, Take(task, task, VARIATION, 0, noise=CALM), LIMITS)
    has_grasp, poses = shown.columns["label.has_grasp"][:, 0], shown.columns["label.grasp_pose"]
    grasped = int(np.flatnonzero(has_grasp)[-1])
    assert has_grasp[: grasped + 1].all()
    assert 0 < grasped < len(has_grasp) - 1
    assert (poses[: grasped + 1] == poses[0]).all()
    thing = shown.columns["observation.environment_state"][grasped, 4:7]
    assert np.linalg.norm(poses[0, :2] - thing[:2]) < 0.02
    assert (poses[grasped + 1 :] == [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).all()
