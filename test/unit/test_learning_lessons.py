"""What frames teach the parts that reason: what remains to be done, what comes next, how it ended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learning_builders import experience
from numpy.typing import NDArray

from vla_ros.errors import LearningError
from vla_ros.learning.experience import UNKNOWN, Experience

pytest.importorskip("torch", reason="torch is not installed")

import torch

from vla_ros.learning.lessons import LessonMaker
from vla_ros.learning.training import split
from vla_ros.learning.value_report import area_under_curve
from vla_ros.model.config import VLAConfig
from vla_ros.model.planner import LONGEST
from vla_ros.model.reasoning import Lessons

CONFIG = VLAConfig(reasoning="all", subtasks=("above", "lower", "lift"))
PHASES = ["above", "above", "lower", "above", "lift", "lift"]


def two_episodes(**changes: object) -> Experience:
    velocities = np.zeros((10, 3))
    velocities[:, 0] = np.arange(10)
    data = experience([6, 4], velocities, subtasks=PHASES + ["lower"] * 4, successes=(True, False), pushed=(4,))
    data.states[:, 6] = data.actions[:, 6] = 1.0
    data.actions[:, 0] = 0.1 * np.arange(10)
    return replace(data, **changes)  # type: ignore[arg-type]


def lessons(data: Experience, frames: list[int], stride: int = 1, seed: int = 0) -> tuple[Lessons, list[list[int]]]:
    """And the frames that were looked at."""
    looked: list[list[int]] = []

    def look(others: NDArray[np.int64]) -> str:
        looked.append(others.tolist())
        return "looked"

    made = LessonMaker(data, CONFIG, stride).make(np.array(frames), look, look, np.random.default_rng(seed))  # type: ignore[arg-type]
    return made, looked


def test_a_plan_is_what_remains_and_perhaps_what_was_done() -> None:
    seen = set()
    for seed in range(20):
        made, looked = lessons(two_episodes(), [0, 3, 5], seed=seed)
        plan = made.plan
        assert plan is not None and looked[0] == [5, 5, 5], "the last frame of the success"
        names = [
            [CONFIG.subtasks[index] for index in row[:length]]
            for row, length in zip(plan.plan.subtasks.tolist(), plan.plan.length.tolist(), strict=True)
        ]
        done = plan.done.tolist()
        assert names[0] == ["above", "lower", "above", "lift"] and done[0] == 0
        assert names[1][done[1] :] == ["above", "lift"] and names[1][: done[1]] == ["above", "lower"][2 - done[1] :]
        assert names[2][done[2] :] == ["lift"]
        seen.add((done[1], done[2]))
    assert {one for one, _ in seen} == {0, 1, 2} and {two for _, two in seen} == {0, 1, 2, 3}


def test_proposals_say_where_each_step_ends_from_here() -> None:
    made, _ = lessons(two_episodes(), [0])
    assert made.plan is not None
    proposals = made.plan.proposals[0, :4]
    assert proposals.shape == (4, 14) and made.plan.proposals.shape[1] == LONGEST
    assert proposals[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.5])
    assert proposals[:, 7].tolist() == pytest.approx([0.5, 2.0, 3.0, 4.5])
    assert proposals[:, 6].tolist() == pytest.approx([1.0] * 4)


def test_where_nobody_knows_subtasks_or_an_end_no_plan_is_learned() -> None:
    unknown = two_episodes(subtasks=np.array([""] * 10))
    failures = two_episodes(outcomes=np.array([0, 0]))
    for data in (unknown, failures):
        made, _ = lessons(data, [0, 7])
        assert made.plan is not None
        assert (made.plan.done > made.plan.plan.length).all(), "nothing counts"


def test_a_failure_teaches_no_plan_but_what_comes_next_and_how_it_ends() -> None:
    """Not even towards another episode's success: what was done in it led elsewhere."""
    made, _ = lessons(two_episodes(), [7, 3])
    assert made.plan is not None and made.outcome is not None
    assert made.plan.counts.tolist() == [0.0, 1.0]
    assert (made.plan.plan.length.tolist()[0], made.plan.done.tolist()[0]) == (0, 1)
    assert not made.plan.proposals[0, :, 0].any()
    assert (made.outcome.counts.tolist(), made.outcome.known.tolist()) == ([1.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize(("stride", "expected"), [(1, [1.0, 0.0, 0.0, 0.0]), (2, [1.0, 0.0, 0.0, 0.0])])
def test_what_comes_next_counts_where_it_does_and_nobody_pushed(stride: int, expected: list[float]) -> None:
    """Frame 4 was pushed; 5 ends an episode, and 9 the data."""
    made, looked = lessons(two_episodes(), [0, 4, 5, 9], stride)
    assert made.outcome is not None
    assert made.outcome.counts.tolist() == expected
    assert looked[1] == [stride, 4 + stride, 5 + stride, 9]


def test_how_it_ended_is_told_where_it_is_known() -> None:
    made, _ = lessons(two_episodes(), [0, 8])
    assert made.outcome is not None
    assert (made.outcome.success.tolist(), made.outcome.known.tolist()) == ([True, False], [1.0, 1.0])
    unknown, _ = lessons(two_episodes(outcomes=np.array([UNKNOWN, UNKNOWN])), [0, 8])
    assert unknown.outcome is not None and unknown.outcome.known.tolist() == [0.0, 0.0]


def test_a_subtask_that_the_planner_cannot_name_is_refused() -> None:
    with pytest.raises(LearningError, match=r"model\.subtasks: the data's 'above', 'lift' are missing"):
        LessonMaker(two_episodes(), replace(CONFIG, subtasks=("lower",)), 1)


def test_failures_are_shown_only_to_who_learns_from_them() -> None:
    data = experience([5, 5, 5], successes=(True, True, False))
    assert not (split(data, 0.1).training >= 10).any()
    with_failures = split(data, 0.1, with_failures=True)
    assert set(range(10, 15)) <= set(with_failures.training.tolist())
    assert not (with_failures.held_out >= 10).any() and not len(with_failures.failures)


def test_a_share_of_the_failures_is_held_out_for_the_value_alone_and_the_others_stay_as_they_were() -> None:
    data = experience([5] * 8, successes=(True,) * 3 + (False,) * 5)
    parts, without = split(data, 0.2, with_failures=True), split(data, 0.2)
    assert parts.held_out.tolist() == without.held_out.tolist() and not len(without.failures)
    assert len(parts.failures) == 5 and (parts.failures >= 15).all()
    assert not set(parts.failures.tolist()) & set(parts.training.tolist())
    assert len(parts.training) == len(without.training) + 4 * 5


def test_a_value_that_tells_all_apart_has_an_area_of_1_and_one_that_tells_nothing_of_a_half() -> None:
    success = torch.tensor([True, True, False, False, False])
    assert area_under_curve(torch.tensor([2.0, 1.0, 0.5, 0.0, -3.0]), success) == 1.0
    assert area_under_curve(torch.tensor([-2.0, -1.0, 0.5, 0.0, 3.0]), success) == 0.0
    assert area_under_curve(torch.zeros(5), success) == 0.5
    assert area_under_curve(torch.tensor([2.0, 0.0, 1.0, -1.0, -1.0]), success) == pytest.approx(5 / 6)
