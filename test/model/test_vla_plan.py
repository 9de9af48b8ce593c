"""A plan goes on from one look to the next, as far as what is seen is a step of what was left of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_builders import config, observation

from vla_ros.model.actions import ActionStatistics
from vla_ros.model.planner import Plan, TaskPlanner
from vla_ros.model.vla import VLAModel
from vla_ros.policy.vla_plan import Course, planned

UP, DOWN, PUSH = "move above the puck", "lower to the puck", "push the puck"
TASK = (UP, DOWN, UP, PUSH)


@pytest.fixture(scope="module")
def model() -> VLAModel:
    torch.manual_seed(0)
    made_of = replace(config(), reasoning="plan", subtasks=(UP, DOWN, PUSH))
    return VLAModel(made_of, ActionStatistics.identity(), ActionStatistics.identity()).eval()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The step that is seen to be under way, which a planner names first; then it does as it has learned TASK."""
    now = [UP]

    def write(self: TaskPlanner, goal: torch.Tensor, state: torch.Tensor, begun: Plan | None = None) -> Plan:
        there = () if begun is None else self.names_of(begun)[0]
        steps = there or tuple(now[:1])
        at = max(i for i in range(1, len(TASK) + 1) if TASK[:i][-len(steps) :] == steps) if there else 1
        rest = {UP: TASK[1:], DOWN: TASK[2:], PUSH: (), "": ()}[now[0]] if not there else TASK[at:]
        return self.plan_of([[step for step in (*steps, *rest) if step]])

    monkeypatch.setattr(TaskPlanner, "write", write)
    return now


def followed(model: VLAModel, seen: list[str], steps: list[str], course: Course | None = None) -> list[Course]:
    """A look at each of the steps."""
    courses = []
    with torch.inference_mode():
        for step in steps:
            seen[0] = step
            looked = model.perceive(model.inputs([observation(0)]), plan=False)
            perception, course = planned(model, looked, course)
            assert course is not None and perception.plan is not None
            assert perception.memory.tokens.shape[1] == looked.memory.tokens.shape[1] + len(names(model, course))
            courses.append(course)
    return courses


def names(model: VLAModel, course: Course) -> tuple[str, ...]:
    assert model.reasoning.planner is not None
    return model.reasoning.planner.names_of(course.plan)[0]


def test_what_was_done_is_known_when_the_rest_is_planned(model: VLAModel, seen: list[str]) -> None:
    """Seen for itself the second way up is the first one, and would be followed by another way down."""
    courses = followed(model, seen, [UP, UP, DOWN, UP, UP, PUSH])
    assert [course.done for course in courses] == [0, 0, 1, 2, 2, 3]
    assert {names(model, course) for course in courses} == {TASK}
    alone = [followed(model, seen, [step])[0] for step in (UP, DOWN, UP, UP, PUSH)]
    assert [len(names(model, course)) for course in alone] == [4, 3, 4, 4, 1]


def test_the_step_that_is_told_is_the_one_that_is_seen(model: VLAModel, seen: list[str]) -> None:
    steps = [UP, DOWN, UP, DOWN, PUSH, UP, ""]
    assert [course.step for course in followed(model, seen, steps)] == steps


def test_what_is_none_of_its_steps_is_planned_anew(model: VLAModel, seen: list[str]) -> None:
    *_, last = followed(model, seen, [UP, DOWN, UP, PUSH, DOWN])
    assert last.done == 0 and names(model, last) == TASK[1:]


def test_without_a_planner_there_is_no_course(seen: list[str]) -> None:
    plain = VLAModel(config(), ActionStatistics.identity(), ActionStatistics.identity()).eval()
    with torch.inference_mode():
        looked = plain.perceive(plain.inputs([observation(0)]), plan=False)
        assert planned(plain, looked, None) == (looked, None)
