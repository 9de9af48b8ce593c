"""The planner writes plans that end, that differ by task, and that go on from what is given."""

from __future__ import annotations

import pytest
import torch

from vla_ros.errors import ModelError
from vla_ros.model.planner import GoalPredictor, Plan, TaskPlanner

WIDTH, HEADS = 16, 2
WORDS = ("move above the puck", "lower to the puck", "lift the puck", "carry the puck", "push the button")
PLANS = (
    ("move above the puck", "lower to the puck", "lift the puck", "carry the puck"),
    ("push the button",),
    ("move above the puck", "lower to the puck", "move above the puck", "push the button"),
)


def planner(seed: int = 0, longest: int = 6) -> TaskPlanner:
    torch.manual_seed(seed)
    return TaskPlanner(WORDS, WIDTH, HEADS, 0.0, longest).eval()


def features(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


GOALS, STATES = features(3, 1), features(3, 2)


@pytest.fixture(scope="module")
def taught() -> TaskPlanner:
    """Has learned the three plans, also from where some of their steps are done; the state then is another one."""
    built = planner().train()
    target = built.plan_of(PLANS)
    optimiser = torch.optim.Adam(built.parameters(), 1e-2)
    proposals = features(3 * 4, 3)[:, :14].reshape(3, 4, 14)
    for step in range(120):
        done = torch.tensor([step % 3, 0, step % 2])
        optimiser.zero_grad()
        built.loss(GOALS, STATES + 0.1 * done.unsqueeze(1), target, done, proposals).backward()
        optimiser.step()
    return built.eval()


def test_plans_end_and_differ_between_tasks(taught: TaskPlanner) -> None:
    assert taught.names_of(taught.write(GOALS, STATES)) == PLANS


def test_a_plan_goes_on_from_what_is_given(taught: TaskPlanner) -> None:
    begun = taught.plan_of([PLANS[0][:2], (), PLANS[2][:3]])
    assert taught.names_of(taught.write(GOALS, STATES, begun)) == PLANS
    # Another beginning than one's own is kept too, whatever follows.
    strange = taught.plan_of([("push the button", "lift the puck")] * 3)
    names = taught.names_of(taught.write(GOALS, STATES, strange))
    assert {steps[:2] for steps in names} == {("push the button", "lift the puck")}


def test_what_is_done_of_a_plan_stays_and_the_rest_is_planned_anew(taught: TaskPlanner) -> None:
    """The plan was made for the first task; its first two steps are done when the third is asked for."""
    before = taught.plan_of([PLANS[0]] * 2)
    anew = taught.write(GOALS[[0, 2]], STATES[[0, 2]], before.begun(2))
    assert taught.names_of(anew) == (PLANS[0], PLANS[2])


def test_a_plan_is_never_longer_than_the_longest() -> None:
    built = planner(longest=3)
    with torch.no_grad():
        built.next_subtask.bias[built.stop] = -1e9
    plan = built.write(GOALS, STATES)
    assert plan.length.tolist() == [3, 3, 3] and plan.mask.all()
    with pytest.raises(ValueError, match="a plan of 4 steps is longer than the longest, 3"):
        built.write(GOALS, STATES, built.plan_of([PLANS[0]] * 3))


def test_a_planner_that_sees_nothing_to_do_plans_nothing() -> None:
    built = planner()
    with torch.no_grad():
        built.next_subtask.bias[built.stop] = 1e9
    plan = built.write(GOALS, STATES)
    assert plan.length.tolist() == [0, 0, 0] and built.names_of(plan) == ((), (), ())
    assert built(GOALS, STATES, plan).features.shape == (3, 0, WIDTH)


def test_no_step_is_foretold_by_a_later_one() -> None:
    built = planner()
    subtasks = torch.tensor([[0, 1, 2, 3]])
    length = torch.tensor([4])
    reading = built(GOALS[:1], STATES[:1], Plan(subtasks, length))
    other = built(GOALS[:1], STATES[:1], Plan(torch.tensor([[0, 1, 4, 0]]), length))
    assert torch.allclose(reading.logits[:, :3], other.logits[:, :3], atol=1e-6)
    assert torch.allclose(reading.features[:, :2], other.features[:, :2], atol=1e-6)
    assert not torch.allclose(reading.logits[:, 3:], other.logits[:, 3:], atol=1e-3)


def test_samples_and_padding_change_nothing(taught: TaskPlanner) -> None:
    alone = [taught.write(GOALS[i : i + 1], STATES[i : i + 1]) for i in range(3)]
    assert tuple(taught.names_of(plan)[0] for plan in alone) == taught.names_of(taught.write(GOALS, STATES))
    target = taught.plan_of(PLANS)
    garbage = Plan(torch.where(target.mask, target.subtasks, 3), target.length)
    assert torch.equal(taught.loss(GOALS, STATES, target), taught.loss(GOALS, STATES, garbage))
    one, other = taught(GOALS, STATES, target), taught(GOALS, STATES, garbage)
    assert torch.equal(one.features[target.mask], other.features[target.mask])


def test_what_is_done_is_told_and_not_learned() -> None:
    built = planner()
    target = built.plan_of([PLANS[0]])
    done = torch.tensor([2])
    with torch.no_grad():
        before = built.loss(GOALS[:1], STATES[:1], target, done)
        swapped = built.plan_of([("lower to the puck", "push the button", *PLANS[0][2:])])
        after = built.loss(GOALS[:1], STATES[:1], swapped, done)
    assert before != after, "it is told"
    reading = built(GOALS[:1], STATES[:1], target)
    places = torch.log_softmax(reading.logits[0], dim=-1)
    by_hand = -(places[2, 2] + places[3, 3] + places[4, built.stop]) / 3.0
    assert torch.allclose(before, by_hand, atol=1e-6)


def test_each_step_has_a_proposal_of_its_own(taught: TaskPlanner) -> None:
    plan = taught.write(GOALS, STATES)
    proposals = taught(GOALS, STATES, plan).proposals
    wanted = features(3 * 4, 3)[:, :14].reshape(3, 4, 14)
    off = (proposals - wanted).square().mean(dim=-1)[plan.mask]
    assert proposals.shape == (3, 4, 14) and off.mean() < 0.05
    assert not torch.allclose(proposals[0, 0], proposals[0, 1], atol=0.1)


def test_words_are_checked() -> None:
    with pytest.raises(ModelError, match="no subtask 'fly'; choose one of move above the puck, lower"):
        planner().plan_of([("fly",)])
    for vocabulary in ((), ("a", "a")):
        with pytest.raises(ModelError, match="a planner needs subtasks, each named once"):
            TaskPlanner(vocabulary, WIDTH, HEADS, 0.0)


def test_the_goal_is_learned_from_words_and_teaches_nobody_who_saw_it() -> None:
    torch.manual_seed(0)
    built = GoalPredictor(WIDTH)
    said, seen = features(3, 5), features(3, 6).requires_grad_()
    optimiser = torch.optim.Adam(built.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = built.loss(said, seen, torch.ones(3))
        loss.backward()
        optimiser.step()
    assert seen.grad is None
    apart = torch.cdist(built(said), seen.detach())
    assert apart.argmin(dim=1).tolist() == [0, 1, 2] and loss < 0.01
