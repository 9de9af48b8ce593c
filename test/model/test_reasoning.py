"""Thinking before acting: what costs nothing when it is not asked for, and does what it says when it is."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from model_builders import config, observation, rows
from torch import Tensor

from vla_ros.contract_file import load_contract
from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.chunk_decoder import Memory, Prefix
from vla_ros.model.config import VLAConfig, from_mapping, to_mapping
from vla_ros.model.planner import Plan, TaskPlanner
from vla_ros.model.reasoning import Lessons, OutcomeLesson, PlanLesson, Thinking, VLAReasoningModule
from vla_ros.model.refiner import ActionRefiner
from vla_ros.model.sight import SightLayout
from vla_ros.model.vla import Perception, VLAModel

SUBTASKS = ("move above the puck", "lower to the puck", "push the puck to the goal")
HORIZON = config().decoder.horizon
IDENTITY = ActionStatistics.identity()


def reasoning_config(reasoning: str) -> VLAConfig:
    subtasks = SUBTASKS if reasoning in ("plan", "all") else ()
    return replace(config("flow"), reasoning=reasoning, subtasks=subtasks)  # type: ignore[arg-type]


@cache
def _built(reasoning: str) -> VLAModel:
    torch.manual_seed(0)
    return VLAModel(reasoning_config(reasoning), IDENTITY, IDENTITY).eval()


def network(reasoning: str) -> VLAModel:
    """A new one each time, always the same."""
    return deepcopy(_built(reasoning))


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perceived(built: VLAModel, plan: bool = True) -> Perception:
    with torch.inference_mode():
        return built.perceive(built.inputs([observation(0), observation(1)]), plan)


def decided(built: VLAModel, perception: Perception, thinking: Thinking, prefix: Prefix | None = None) -> Tensor:
    with torch.inference_mode():
        return built.decide(perception, prefix, noise(), thinking)


@pytest.mark.parametrize("reasoning", ["none", "all"])
def test_one_candidate_is_what_act_says_bit_for_bit_and_nothing_is_foreseen(
    reasoning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = network(reasoning)
    perception = perceived(built)

    def never(*_: object) -> Tensor:
        raise AssertionError("nobody asked for this")

    monkeypatch.setattr(VLAReasoningModule, "foresee", never)
    monkeypatch.setattr(ActionRefiner, "forward", never)
    prefix = Prefix(rows(3, HORIZON, 2), torch.tensor([2, 0]))
    for begun in (None, prefix):
        with torch.inference_mode():
            acted = built.act(perception, begun, noise())
        assert torch.equal(decided(built, perception, Thinking(), begun), acted)


def test_a_network_that_does_not_reason_has_no_weights_for_it() -> None:
    assert not list(network("none").reasoning.state_dict())
    for reasoning, parts in (("plan", {"planner", "goal"}), ("foresee", {"world_model", "value", "refiner"})):
        found = {name.split(".")[0] for name, _ in network(reasoning).reasoning.named_parameters()}
        assert found == parts


def test_the_best_of_eight_is_the_best_of_eight() -> None:
    """A toy: whoever goes fastest along x is worth most, and the world model knows that motion adds up."""
    built = VLAReasoningModule(reasoning_config("foresee")).eval()
    width, seen = config().width, SightLayout.of(config()).size
    assert built.world_model is not None and built.value is not None
    with torch.no_grad():
        built.world_model.drift.weight[0, seen] = 1.0  # x of the velocity moves the first feature
    head = torch.nn.Linear(seen, 1, bias=False)
    with torch.no_grad():
        head.weight.zero_()[0, 0] = 1.0
    built.value.judge = torch.nn.Sequential(head)
    drawn: list[Tensor] = []

    def draw(memory: Memory, prefix: Prefix | None) -> Tensor:
        drawn.append(rows(7, HORIZON, len(memory.pooled)))
        return drawn[-1]

    memory = Memory(torch.zeros(3, 4, width), torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, width))
    with torch.inference_mode():
        chosen = built(memory, torch.zeros(3, seen), None, draw, IDENTITY, Thinking(candidates=8))
    assert [len(one) for one in drawn] == [24], "all in one pass"
    reached = drawn[0][..., 7].sum(dim=1).reshape(3, 8)
    assert torch.equal(chosen, drawn[0].reshape(3, 8, HORIZON, 14)[torch.arange(3), reached.argmax(dim=1)])
    assert torch.allclose(chosen[..., 7].sum(dim=1), reached.amax(dim=1))


def test_candidates_of_one_generator_differ_and_the_choice_is_the_same_again() -> None:
    built = network("foresee")
    perception = perceived(built)
    torch.nn.init.normal_(built.reasoning.world_model.drift.weight, std=0.1)  # type: ignore[union-attr]
    one, again = (decided(built, perception, Thinking(candidates=8)) for _ in range(2))
    assert torch.equal(one, again) and one.shape == (2, HORIZON, 14)
    alone = [decided(built, perception, Thinking(candidates=count)) for count in (2, 4)]
    assert not torch.equal(alone[0], one) or not torch.equal(alone[1], one), "among more there are better ones"


@pytest.mark.parametrize("thinking", [Thinking(candidates=4), Thinking(refine=True), Thinking(4, True)], ids=str)
def test_committed_rows_stay_whatever_is_thought(thinking: Thinking) -> None:
    built = network("foresee")
    torch.nn.init.normal_(built.reasoning.refiner.change.weight)  # type: ignore[union-attr]
    prefix = Prefix(rows(3, HORIZON, 2), torch.tensor([2, 0]))
    decision = decided(built, perceived(built), thinking, prefix)
    assert torch.equal(decision[0, :2], prefix.rows[0, :2])
    assert not torch.allclose(decision[1, :2], prefix.rows[1, :2], atol=1e-2)


def test_a_refiner_that_has_learned_nothing_changes_nothing() -> None:
    refiner = ActionRefiner(HORIZON, 16)
    chunk = rows(4, HORIZON, 3)
    features = torch.randn(3, 16, generator=noise())
    statistics = ActionStatistics.of(rows(5, HORIZON, 9).flatten(0, 1))
    assert torch.equal(refiner(features, chunk, statistics), chunk)
    built = network("all")
    perception = perceived(built)
    assert torch.equal(decided(built, perception, Thinking(refine=True)), decided(built, perception, Thinking()))


@pytest.mark.timeout(300)
def test_a_refiner_learns_what_chunks_lack_and_gives_valid_rows() -> None:
    torch.manual_seed(0)
    refiner = ActionRefiner(HORIZON, 16)
    chunk, features = rows(4, HORIZON, 8), torch.randn(8, 16, generator=noise())
    target = chunk.clone()
    target[..., 0] += 0.3
    target[..., 13] = 1.0
    optimiser = torch.optim.Adam(refiner.parameters(), 1e-2)
    before = refiner.loss(features, chunk, target, IDENTITY).item()
    for _ in range(150):
        optimiser.zero_grad()
        refiner.loss(features, chunk, target, IDENTITY).backward()
        optimiser.step()
    refined = refiner(features, chunk, IDENTITY)
    assert refiner.loss(features, chunk, target, IDENTITY) < 0.2 * before
    assert torch.allclose(refined[..., 3:7].norm(dim=-1), torch.ones(8, HORIZON), atol=1e-5)
    assert (refined[..., 6] >= 0.0).all() and refined[..., 13].amax() <= 1.0


def test_a_plan_is_told_to_the_decoder_unless_it_is_switched_off() -> None:
    built = network("plan")
    with torch.no_grad():
        built.reasoning.planner.next_subtask.bias[0] = 1e3  # type: ignore[union-attr]
    planned, silent = perceived(built), perceived(built, plan=False)
    assert planned.plan is not None and silent.plan is None
    steps = planned.plan.plan.length
    assert planned.memory.tokens.shape[1] == silent.memory.tokens.shape[1] + int(steps.max()) and steps.min() > 0
    assert torch.equal(planned.memory.pooled, silent.memory.pooled)
    assert not torch.allclose(decided(built, planned, Thinking()), decided(built, silent, Thinking()), atol=1e-6)
    with torch.no_grad():
        built.reasoning.planner.next_subtask.bias[:] = torch.tensor([0.0, 0.0, 0.0, 1e3])  # type: ignore[union-attr]
    nothing = perceived(built)
    assert nothing.plan is not None and nothing.plan.plan.length.tolist() == [0, 0]
    assert torch.equal(decided(built, nothing, Thinking()), decided(built, silent, Thinking()))


def lessons(built: VLAModel) -> Lessons:
    """For the parts that it has."""
    planner, goal = built.reasoning.planner, built.inputs([observation(5)] * 2)
    plan = outcome = None
    if planner is not None:
        steps = planner.plan_of([SUBTASKS, SUBTASKS[1:]])
        plan = PlanLesson(steps, torch.tensor([1, 0]), rows(8, 3, 2), goal)
    if built.config.foresees:
        later = built.inputs([observation(2), observation(3)])
        outcome = OutcomeLesson(later, torch.ones(2), torch.tensor([True, False]), torch.ones(2))
    return Lessons(plan, outcome)


def test_every_part_that_reasons_learns_and_only_the_planner_teaches_who_sees() -> None:
    built = network("all").train()
    for layer in (built.reasoning.world_model.change, built.reasoning.refiner.change):  # type: ignore[union-attr]
        torch.nn.init.normal_(layer.weight)
    inputs = built.inputs([observation(0), observation(1, "close the window")])
    losses = built.loss(inputs, rows(1, HORIZON, 2), generator=noise(), lessons=lessons(built))
    (losses.foresight + losses.value + losses.refinement).backward(retain_graph=True)
    assert all(value.grad is None for name, value in built.named_parameters() if not name.startswith("reasoning."))
    (losses.plan + losses.goal).backward()
    silent = [name for name, value in built.reasoning.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []
    assert built.fusion.level_logits.grad is not None


def test_who_has_no_plan_teaches_neither_it_nor_the_goal() -> None:
    built = network("plan")
    inputs = built.inputs([observation(0), observation(1)])

    def told(second_seed: int) -> Lessons:
        assert built.reasoning.planner is not None
        steps = built.reasoning.planner.plan_of([SUBTASKS, ()])
        goal = built.inputs([observation(5), observation(second_seed)])
        return Lessons(PlanLesson(steps, torch.tensor([0, 1]), rows(8, 3, 2), goal))

    one, other = (built.loss(inputs, rows(1, HORIZON, 2), lessons=told(seed)) for seed in (6, 7))
    assert torch.equal(one.goal, other.goal) and one.goal > 0.0
    assert torch.equal(one.plan, other.plan) and one.plan > 0.0


def test_who_learns_to_act_is_told_what_is_done_of_a_plan_as_on_a_robot(monkeypatch: pytest.MonkeyPatch) -> None:
    built, told = network("plan"), []
    write = TaskPlanner.write

    def noted(self: TaskPlanner, goal: Tensor, state: Tensor, begun: Plan | None = None) -> Plan:
        told.append(() if begun is None else self.names_of(begun))
        return write(self, goal, state, begun)

    monkeypatch.setattr(TaskPlanner, "write", noted)
    inputs = built.inputs([observation(0), observation(1)])
    built.loss(inputs, rows(1, HORIZON, 2), generator=noise(), lessons=lessons(built))
    built.loss(inputs, rows(1, HORIZON, 2), generator=noise())
    assert told == [((SUBTASKS[0],), ()), ()]


@pytest.mark.parametrize("reasoning", ["none", "plan", "foresee"])
def test_what_a_network_lacks_has_no_loss(reasoning: str) -> None:
    built = network(reasoning)
    inputs = built.inputs([observation(0), observation(1)])
    losses = built.loss(inputs, rows(1, HORIZON, 2), generator=noise(), lessons=lessons(built))
    expected = {"none": [], "plan": ["plan", "goal"], "foresee": ["foresight", "value", "refinement"]}
    parts = ("plan", "goal", "foresight", "value", "refinement")
    assert [part for part in parts if getattr(losses, part) > 0.0] == expected[reasoning]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda built: decided(built, perceived(built), Thinking(candidates=2)), "cannot foresee; choose reasoning"),
        (lambda built: decided(built, perceived(built), Thinking(refine=True)), "cannot foresee; choose reasoning"),
    ],
)
def test_what_a_network_lacks_is_refused_by_name(act: Callable[[VLAModel], Tensor], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        act(network("plan"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reasoning": "plan"}, "subtasks: a planner needs at least one"),
        ({"subtasks": ["push"]}, "subtasks: without a planner there is no use for them"),
        ({"reasoning": "all", "subtasks": ["push", "push"]}, "subtasks: each name may stand once"),
        ({"reasoning": "deeply"}, "reasoning: is 'deeply'; choices: none, plan, foresee, all"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        from_mapping({**to_mapping(VLAConfig()), **changes}, "config.json")


def test_a_network_that_reasons_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    built = network("all")
    contract = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
    save_checkpoint(tmp_path / "saved", built, contract, is_trained=True)
    loaded = load_checkpoint(tmp_path / "saved").model
    assert loaded.config == built.config
    thinking = Thinking(candidates=3, refine=True)
    assert torch.equal(decided(built, perceived(built), thinking), decided(loaded, perceived(loaded), thinking))
