"""The plan that the policy `vla` is carrying out: each look refines it, from the step that is seen to be under way.

Which step that is, what is seen decides alone: a planner that was told the steps before would name the one that always
follows them, done or not. What was done before it is told then, so that the rest is planned by someone who knows it: of
a step that a task has twice, the second one is not followed by what followed the first.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.model.planner import Plan
from vla_ros.model.vla import Perception, VLAModel


@dataclass(frozen=True, eq=False)
class Course:
    """plan: of one sample; done: how many of its steps are; step: the one after them, in words, "" at the end."""

    plan: Plan
    done: int
    step: str


def planned(model: VLAModel, perception: Perception, course: Course | None) -> tuple[Perception, Course | None]:
    """perception: of one sample, without a plan; course: at the look before, None to plan anew.

    -> with a plan that goes on from that, as far as what is seen is a step of what was left of it; None without a
    planner
    """
    anew = model.planned(perception)
    planner = model.reasoning.planner
    if planner is None or anew.plan is None:
        return anew, None
    done = 0 if course is None else _done(course, anew.plan.plan)
    refined = anew
    if course is not None and done:
        refined = model.planned(perception, course.plan.begun(done + 1))
    assert refined.plan is not None
    plan = refined.plan.plan
    return refined, Course(plan, done, next(iter(planner.names_of(plan)[0][done:]), ""))


def _done(course: Course, anew: Plan) -> int:
    """How many steps of a course are done if the first one of another plan is under way; 0 where it is none of them."""
    left = _steps(course.plan)[course.done :]
    now = _steps(anew)[:1]
    return course.done + left.index(now[0]) if now and now[0] in left else 0


def _steps(plan: Plan) -> list[int]:
    steps: list[int] = plan.subtasks[0, : int(plan.length[0])].tolist()
    return steps
