"""Meta-World's experts and the names of their phases: the real experts in the real simulator, without pictures."""

from __future__ import annotations

import sys
from itertools import groupby
from types import FrameType
from typing import Any

import numpy as np
import pytest
import yaml
from metaworld.policies import ENV_POLICY_MAP

from vla_ros.errors import LearningError
from vla_ros.learning import experts
from vla_ros.learning.experts import SUBTASKS_FILE, Expert, subtask_names
from vla_ros.policy.metaworld_action import CONTROL_DT_S, to_gripper, to_velocity
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.worlds import OURS, TASKS

MAX_STEPS = 200
METAWORLD = [task for task in TASKS if task not in OURS]


def observed(robot: SimRobot) -> np.ndarray:
    """Meta-World's observation, (39,)."""
    return robot.observed_as(robot.task)


def follow(robot: SimRobot, action: np.ndarray) -> None:
    """One step of 12.5 ms. action: (4,), an expert's."""
    commanded = robot.state().commanded.position
    robot.step(commanded + to_velocity(action) * CONTROL_DT_S, to_gripper(action))


def test_every_task_has_names_for_its_phases_and_nothing_else_has() -> None:
    assert sorted(yaml.safe_load(SUBTASKS_FILE.read_text(encoding="utf-8"))) == sorted(TASKS)


@pytest.mark.parametrize("task", METAWORLD)
def test_every_phase_of_every_expert_has_a_name_in_plain_words(task: str) -> None:
    names = Expert(task).subtasks  # refuses a wrong number of names
    assert names == subtask_names(task)
    for name in names:
        assert name == name.lower().strip()
        assert len(name.split()) >= 2
        assert name.replace(" ", "").isalpha()


@pytest.mark.parametrize("task", METAWORLD)
def test_an_expert_decides_from_the_start_and_leaves_the_observation_alone(task: str) -> None:
    observation = observed(SimRobot(task))
    before = observation.copy()
    decision = Expert(task).decide(observation)
    assert np.array_equal(observation, before)
    assert decision.action.shape == (4,)
    assert np.abs(decision.action).max() <= 1.0
    assert 0 <= decision.phase < len(subtask_names(task))


@pytest.mark.parametrize(("gripper", "phase"), [(0.3, "line the peg up with the hole"), (0.6, "lower to the peg")])
def test_a_peg_is_lifted_as_soon_as_the_gripper_holds_it(gripper: float, phase: str) -> None:
    """Hand and peg stand where the plain expert waits until the hand sinks by another millimetre."""
    observation = observed(SimRobot("peg-insert-side-v3"))
    observation[:3] = observation[4:7] + np.array([0.0, 0.0, 0.026])
    observation[3] = gripper
    expert = Expert("peg-insert-side-v3")
    assert expert.subtasks[expert.decide(observation).phase] == phase


@pytest.mark.filterwarnings("ignore:Constant:UserWarning")  # the plain expert says so at almost every step
@pytest.mark.parametrize(
    ("task", "order"),
    [
        ("drawer-open-v3", ["move above the handle", "lower to the handle", "pull the drawer open"]),
        (
            "pick-place-v3",
            ["move above the puck", "lower to the puck", "close the gripper", "carry the puck to the goal"],
        ),
        (  # not the order in which its expert has them
            "assembly-v3",
            [
                "move above the wrench",
                "lower to the wrench",
                "lift the wrench",
                "carry the ring above the peg",
                "lower the ring over the peg",
            ],
        ),
    ],
)
def test_phases_follow_each_other_as_the_task_is_done_by_the_plain_experts_actions(task: str, order: list[str]) -> None:
    robot, expert = SimRobot(task), Expert(task)
    plain_class: Any = ENV_POLICY_MAP[task]  # Meta-World types it as the abstract class
    plain = plain_class()
    phases: list[str] = []
    while not robot.success and len(phases) < MAX_STEPS:
        decision = expert.decide(observed(robot))
        assert np.array_equal(decision.action, np.clip(plain.get_action(observed(robot)), -1.0, 1.0))
        phases.append(expert.subtasks[decision.phase])
        follow(robot, decision.action)
    assert robot.success
    assert [name for name, _ in groupby(phases)] == order


def test_a_debugger_goes_on_after_a_decision_and_after_an_expert_that_fails() -> None:
    def tracer(_frame: FrameType, _event: str, _argument: Any) -> None:
        return None

    expert = Expert("reach-v3")
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        expert.decide(observed(SimRobot("reach-v3")))
        after_decision = sys.gettrace()
        with pytest.raises(IndexError):
            expert.decide(np.zeros(3))
        after_failure = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after_decision is after_failure is tracer


def test_a_task_without_phases_is_answered_with_those_that_have_them() -> None:
    with pytest.raises(LearningError, match=r"no names for the phases of 'fold-v3'.*drawer-open-v3"):
        Expert("fold-v3")


def test_a_task_without_an_expert_is_answered_with_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "subtask_names", lambda task: ("fold the shirt",))
    with pytest.raises(LearningError, match=r"'fold-v3' has no expert.*drawer-open-v3"):
        Expert("fold-v3")


def test_a_wrong_number_of_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "subtask_names", lambda task: ("pull", "push"))
    with pytest.raises(LearningError, match=r"names 2 phases of drawer-open-v3; its expert has 3"):
        Expert("drawer-open-v3")
