"""The whole loop in one process: robot, oracle, policy tick and guard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.policy.oracle import create
from vla_ros.policy.protocol import Needs
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.episode import run_direct, run_episode
from vla_ros.sim.robot import SimRobot
from vla_ros.types import Chunk, Observation

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
MAX_STEPS = 500


def say(task: str) -> str:
    return load_sentences().usual(task)


@pytest.mark.parametrize("task", ["reach-v3", "drawer-open-v3", "pick-place-v3"])
def test_the_oracle_solves_a_task_behind_the_guard_without_a_stop(task: str) -> None:
    result = run_episode(SimRobot(task), create(CONTRACT, {}), CONTRACT, say(task), MAX_STEPS)
    assert result.success
    assert (result.stops, result.latches) == (0, 0)
    assert 0.0 < result.max_following_error_m < 0.5 * (CONTRACT.limits.max_following_error_m or 0.0)


def test_the_oracle_solves_a_task_on_the_bare_robot() -> None:
    assert run_direct(SimRobot("button-press-v3"), create(CONTRACT, {}), say("button-press-v3"), MAX_STEPS).success


def test_another_sentence_does_not_solve_the_task() -> None:
    result = run_episode(SimRobot("drawer-open-v3"), create(CONTRACT, {}), CONTRACT, say("reach-v3"), 150)
    assert not result.success


def test_stop_as_the_instruction_moves_nothing() -> None:
    robot = SimRobot("reach-v3")
    before = robot.state().pose.position
    run_episode(robot, create(CONTRACT, {}), CONTRACT, "stop", 50)
    after = robot.state()
    assert np.linalg.norm(after.pose.position - before) < 0.02
    assert np.linalg.norm(after.twist.linear) < 0.01


def test_the_guard_limits_what_reaches_the_robot() -> None:
    fast, slow = create(CONTRACT, {}), with_speed_limit(0.1)
    robot = SimRobot("reach-v3")
    limited = run_episode(robot, fast, slow, say("reach-v3"), MAX_STEPS)
    robot.reset("reach-v3", robot.variation)
    unlimited = run_direct(robot, fast, say("reach-v3"), MAX_STEPS)
    assert limited.success
    assert limited.steps > 2 * unlimited.steps
    assert limited.clips["linear velocity"] > 0.5 * limited.steps


def test_a_robot_that_cannot_follow_latches_the_guard() -> None:
    limits = replace(CONTRACT.limits, max_following_error_m=0.01)
    result = run_episode(
        SimRobot("reach-v3"), create(CONTRACT, {}), replace(CONTRACT, limits=limits), say("reach-v3"), 100
    )
    assert not result.success
    assert (result.stops, result.latches) == (1, 1)


def test_a_policy_that_sees_gets_the_frames_of_its_views() -> None:
    policy = Watcher()
    run_episode(SimRobot("reach-v3"), policy, CONTRACT, "watch", 20)
    frame_steps = {0, 8, 16}  # 10 Hz on 80 Hz
    assert {observation.t_obs_ns // 12_500_000 for observation in policy.seen} == frame_steps
    assert all(observation.images["wrist"].shape == (128, 128, 3) for observation in policy.seen)


class Watcher:
    """Holds still and remembers what it saw."""

    needs = Needs(views=("wrist",))

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def predict(self, observation: Observation) -> Chunk:
        self.seen.append(observation)
        pose = observation.commanded_pose
        row = np.concatenate([pose.position, pose.quaternion, np.zeros(6), [0.5]])
        return Chunk(observation.t_obs_ns, 0.1, np.tile(row, (5, 1)))


def with_speed_limit(speed_m_s: float) -> Contract:
    return replace(CONTRACT, limits=replace(CONTRACT.limits, max_linear_velocity_m_s=speed_m_s))
