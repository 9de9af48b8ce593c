"""A task that needs a memory: its goal is shown, then hidden, and only then the hand may be there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from builders import pose_contract

from vla_ros.errors import LearningError, PolicyError, SimError
from vla_ros.learning.demonstration import FPS, NOISE, Take, demonstrate
from vla_ros.learning.experience import places_of
from vla_ros.learning.remembering import RememberingExpert, expert_of
from vla_ros.policy.metaworld_action import CONTROL_DT_S, GOAL_POSITION
from vla_ros.policy.oracle import OraclePolicy
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.objects import GOAL
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.variations import Variation
from vla_ros.sim.worlds import OURS, world_of
from vla_ros.types import FloatArray, Observation

TASK = "delayed-reach"
TRAIN_0 = Variation("train", 0)
SHOWN_STEPS = world_of(TASK).goal_shown_steps(TRAIN_0) or 0


@pytest.fixture(scope="module")
def shared_robot() -> Iterator[SimRobot]:
    with SimRobot(TASK, TRAIN_0, view_names=("front",), image_size=(64, 64)) as robot:
        yield robot


@pytest.fixture
def robot(shared_robot: SimRobot) -> SimRobot:
    shared_robot.reset(TASK, TRAIN_0)
    return shared_robot


def goal(robot: SimRobot) -> FloatArray:
    """As it is observed, (3,)."""
    return robot.state().privileged[GOAL_POSITION]


def drive(robot: SimRobot, position: FloatArray, steps: int) -> None:
    for _ in range(steps):
        robot.step(position, 0.5)


def test_how_long_the_goal_is_shown_is_the_variations_own() -> None:
    world = OURS[TASK]
    assert world.goal_shown_s is not None
    steps = [world.goal_shown_steps(Variation("test", index)) or 0 for index in range(50)]
    assert steps == [world.goal_shown_steps(Variation("test", index)) for index in range(50)]
    least_s, most_s = world.goal_shown_s
    assert least_s <= min(steps) * CONTROL_DT_S < least_s + 0.2 and most_s - 0.2 < max(steps) * CONTROL_DT_S <= most_s
    assert world_of("reach-v3").goal_shown_steps(TRAIN_0) is None
    with pytest.raises(
        SimError, match=r"'reach' is not a task of the simulated arm; choose one of assembly-v3, .*delayed"
    ):
        world_of("reach")


def test_the_ball_is_seen_until_it_is_hidden_and_again_after_a_reset(robot: SimRobot) -> None:
    for _ in range(2):
        shown_at = goal(robot)
        assert shown_at.any() and robot.visible("front").get(GOAL, 0) > 0
        drive(robot, robot.holding(), SHOWN_STEPS - 1)
        assert np.array_equal(goal(robot), shown_at) and robot.visible("front").get(GOAL, 0) > 0
        drive(robot, robot.holding(), 1)
        assert not goal(robot).any() and GOAL not in robot.visible("front")
        robot.reset(TASK, TRAIN_0)


def test_who_is_there_too_early_has_solved_nothing_yet(robot: SimRobot) -> None:
    there = goal(robot) + np.array([0.0, 0.0, 0.03])
    drive(robot, there, SHOWN_STEPS - 1)
    assert not robot.success
    drive(robot, there, 20)
    assert robot.success


def test_the_expert_watches_and_then_goes_where_the_ball_was(robot: SimRobot) -> None:
    calm = Take(TASK, TASK, TRAIN_0, 0, noise=replace(NOISE, rate_per_s=0.0))
    shown = demonstrate(robot, calm, pose_contract().limits)
    assert shown.success
    assert [name for name, _ in groupby(shown.subtasks)] == ["watch the goal", "move to where the goal was"]
    is_watching = np.array(shown.subtasks) == "watch the goal"
    before = np.flatnonzero(is_watching)[:-1]  # within the last of its frames the ball is hidden
    assert not shown.columns["action"][before, 7:10].any(), "so that the hand tells nothing of the ball"
    assert np.ptp(shown.columns["observation.state"][before, 7:10], axis=0).max() < 1e-6
    before_the_first_frame_s = 0.2  # the hand is moved to where it begins
    assert is_watching.sum() == pytest.approx((SHOWN_STEPS * CONTROL_DT_S - before_the_first_frame_s) * FPS, abs=1.5)
    _, known = places_of(shown.columns["observation.environment_state"], np.ones(len(is_watching), bool))
    assert known[before, 6:9].all() and not known[~is_watching, 6:9].any()


def test_pushed_about_it_still_knows(robot: SimRobot) -> None:
    wild = Take(TASK, TASK, Variation("train", 1), 0, noise=replace(NOISE, rate_per_s=3.0))
    assert demonstrate(robot, wild, pose_contract().limits).success


def test_an_expert_that_has_seen_nothing_says_so(robot: SimRobot) -> None:
    hidden = robot.observed_as(TASK)
    hidden[GOAL_POSITION] = 0.0
    with pytest.raises(LearningError, match="must have seen it"):
        RememberingExpert(TASK).decide(hidden)
    assert expert_of(TASK).subtasks == ("watch the goal", "move to where the goal was")


def test_the_oracle_which_remembers_nothing_does_not_know_the_task(robot: SimRobot) -> None:
    state, sentence = robot.state(), load_sentences().usual(TASK)
    seen = Observation(0, sentence, {}, state.pose, state.commanded, None, 0.5, state.privileged)
    with pytest.raises(PolicyError, match="no task is called 'go to where the ball was'"):
        OraclePolicy(CONTROL_DT_S).predict(seen)
