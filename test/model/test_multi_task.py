"""Heads that share an understanding: each learns from its own targets, and from nothing that is not known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

import pytest
import torch

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.chunk_decoder import Memory
from vla_ros.model.config import DecoderConfig, Task
from vla_ros.model.multi_task import SELECTOR, MultiTaskLosses, MultiTaskVLANetwork, Target, multi_task_loss_function
from vla_ros.model.task_heads import heading_error, heading_of, rotation_angle

WIDTH, TOKENS, CLASSES, SAMPLES, HORIZON = 16, 5, 3, 6, 4
STATISTICS = ActionStatistics.identity()
TASKS: tuple[Task, ...] = get_args(Task)
QUESTIONS = (*TASKS, SELECTOR)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network() -> MultiTaskVLANetwork:
    torch.manual_seed(0)
    decoder = DecoderConfig(kind="regression", horizon=HORIZON, layers=1, max_prefix=0)
    network = MultiTaskVLANetwork(WIDTH, 2, TASKS, CLASSES, decoder)
    for parameter in network.parameters():  # what begins at zero passes nothing on
        if not parameter.any() and parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.02)
    return network


def memory(seed: int = 0) -> Memory:
    tokens = torch.randn(SAMPLES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(SAMPLES, TOKENS, dtype=torch.bool)
    mask[:, -1] = False
    return Memory(tokens, mask, tokens.mean(dim=1))


def targets() -> dict[str, Target]:
    generator = torch.Generator().manual_seed(1)
    rows = 0.1 * torch.randn(SAMPLES, HORIZON, 14, generator=generator)
    rows[..., 3:7] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    pose = torch.cat((torch.rand(SAMPLES, 3, generator=generator), torch.tensor([[0.0, 0.6, 0.0, 0.8]] * SAMPLES)), 1)
    known = torch.ones(SAMPLES, dtype=torch.bool)
    return {
        "manipulation": Target(rows, torch.ones(SAMPLES, HORIZON)),
        "grasping": Target(pose, known),
        "detection": Target(torch.rand(SAMPLES, CLASSES, generator=generator) > 0.5, torch.ones(SAMPLES, CLASSES)),
        "navigation": Target(torch.randn(SAMPLES, 3, generator=generator), known),
        SELECTOR: Target(torch.arange(SAMPLES) % len(TASKS), known),
    }


def losses(network: MultiTaskVLANetwork, wanted: dict[str, Target], seen: Memory | None = None) -> MultiTaskLosses:
    return multi_task_loss_function(network, seen or memory(), wanted, STATISTICS)


def taught(network: MultiTaskVLANetwork) -> set[str]:
    """The questions of which a head, a question or a variance has a gradient."""
    own = {name: [network.questions[name], network.log_variances[name]] for name in QUESTIONS}
    for name in QUESTIONS:
        own[name] += network.chunk.parameters() if name == "manipulation" else network.answers[name].parameters()
    return {name for name, parts in own.items() if any(p.grad is not None and p.grad.any() for p in parts)}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_target_teaches_its_own_head_and_no_other(network: MultiTaskVLANetwork, name: str) -> None:
    losses(network, {name: targets()[name]}).total.backward()
    assert taught(network) == {name}
    assert network.attention.q_proj.weight.grad is not None
    assert network.attention.q_proj.weight.grad.any(), "what tasks share all of them teach"


def test_all_targets_teach_all_heads_and_every_parameter(network: MultiTaskVLANetwork) -> None:
    losses(network, targets()).total.backward()
    assert taught(network) == set(QUESTIONS)
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_not_known_counts_exactly_nothing(network: MultiTaskVLANetwork, name: str) -> None:
    wanted = targets()
    absent = torch.zeros_like(wanted[name].known)
    without = {other: target for other, target in wanted.items() if other != name}
    some = losses(network, without)
    none = losses(network, {**wanted, name: Target(wanted[name].values, absent)})
    assert torch.equal(some.total, none.total)
    assert name not in none.report()
    half = wanted[name].known.clone()
    half[::2] = 0
    values = wanted[name].values.clone()
    once = losses(network, {name: Target(values, half)}).total
    values[::2] = 1 if name in (SELECTOR, "detection") else math.nan
    assert torch.equal(losses(network, {name: Target(values, half)}).total, once)
    once.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_without_any_target_there_is_nothing_to_learn(network: MultiTaskVLANetwork) -> None:
    nothing = losses(network, {})
    assert float(nothing.total) == 0.0
    assert nothing.report() == {}


def test_only_real_tokens_are_looked_at(network: MultiTaskVLANetwork) -> None:
    seen = memory()
    other = seen.tokens.clone()
    other[:, -1] = 100.0
    first, second = network(seen), network(Memory(other, seen.mask, seen.pooled))
    for name in QUESTIONS:
        assert torch.equal(first.features[name], second.features[name])
        assert not first.attention[name][:, -1].any()
        assert torch.allclose(first.attention[name].sum(dim=1), torch.ones(SAMPLES))


def test_a_rotation_and_its_negative_are_one() -> None:
    generator = torch.Generator().manual_seed(2)
    q, p = (torch.nn.functional.normalize(torch.randn(20, 4, generator=generator), dim=-1) for _ in range(2))
    angles = rotation_angle(q, p)
    assert torch.allclose(rotation_angle(-q, p), angles, atol=1e-5)
    assert torch.allclose(rotation_angle(q, -p), angles, atol=1e-5)
    assert torch.allclose(angles, 2.0 * torch.acos((q * p).sum(dim=-1).abs()), atol=1e-3)
    assert rotation_angle(q, -q).max() < 1e-3
    turned = torch.tensor([[0.0, 0.0, math.sin(0.6), math.cos(0.6)]])
    assert rotation_angle(turned, torch.tensor([[0.0, 0.0, 0.0, 1.0]])) == pytest.approx(1.2)


def test_the_rotation_loss_has_a_gradient_where_it_is_zero() -> None:
    q = torch.tensor([[0.0, 0.0, 0.0, 1.0]], requires_grad=True)
    rotation_angle(q, q.detach()).sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("heading", [-math.pi, -3.0, 0.0, 1.0, 3.1])
def test_a_heading_and_a_whole_turn_more_are_one(heading: float) -> None:
    direction = torch.tensor([[math.cos(heading), math.sin(heading)]])
    for turns in (-1, 0, 1, 2):
        assert heading_error(direction, torch.tensor([heading + 2.0 * math.pi * turns])) == pytest.approx(0.0, abs=1e-6)
    assert heading_error(direction, torch.tensor([heading + math.pi])) == pytest.approx(2.0)


def test_just_left_and_just_right_of_behind_are_near() -> None:
    direction = torch.tensor([[math.cos(math.pi - 0.01), math.sin(math.pi - 0.01)]])
    assert float(heading_error(direction, torch.tensor([-math.pi + 0.01]))) < 1e-3


def test_uncertain_tasks_come_to_count_less(network: MultiTaskVLANetwork) -> None:
    """At rest a variance is the loss it stands for, or twice that: half the gradient of Kendall's weighing is zero."""
    wanted = targets()
    optimiser = torch.optim.SGD([network.log_variances[name] for name in QUESTIONS], lr=0.5)
    for _ in range(60):
        optimiser.zero_grad()
        losses(network, wanted).total.backward()
        optimiser.step()
    report = losses(network, wanted).report()
    for name, numbers in report.items():
        share = 0.5 if name in ("manipulation", "grasping", "navigation") else 1.0
        variance = math.exp(float(network.log_variances[name].detach()))
        assert share / variance * numbers["loss"] == pytest.approx(0.5, rel=0.05), name
        assert numbers["weight"] * numbers["loss"] == pytest.approx(report["manipulation"]["loss"], rel=0.1), name
    assert report["navigation"]["weight"] < report["manipulation"]["weight"], "metres off, beside centimetres"


def test_the_chunk_counts_as_it_does_alone_whatever_was_learned_of_others(network: MultiTaskVLANetwork) -> None:
    wanted = targets()
    chunk = {"manipulation": wanted["manipulation"]}
    with torch.no_grad():
        for name, log_variance in zip(QUESTIONS, (-2.0, 1.0, 0.5, 3.0, -4.0), strict=True):
            network.log_variances[name].fill_(log_variance)
    losses(network, chunk).total.backward()
    rows = chunk["manipulation"]
    parameters = list(network.chunk.parameters())
    alone = torch.autograd.grad(network.loss(memory(), rows.values, STATISTICS, rows.known), parameters)
    for mine, parameter in zip(alone, parameters, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, mine)
    assert losses(network, wanted).report()["manipulation"]["weight"] == 1.0
    network.zero_grad()
    losses(network, wanted).total.backward()
    for name, numbers in losses(network, wanted).report().items():
        share = 0.5 if name in ("manipulation", "grasping", "navigation") else 1.0
        log_variance = network.log_variances[name]
        assert log_variance.grad is not None
        expected = 0.5 - share * math.exp(-float(log_variance.detach())) * numbers["loss"]
        assert float(log_variance.grad) == pytest.approx(expected, rel=1e-4), name


def test_the_heads_learn_what_tokens_tell(network: MultiTaskVLANetwork) -> None:
    wanted, optimiser = targets(), torch.optim.Adam(network.parameters(), lr=1e-2)
    first = losses(network, wanted).report()
    for _ in range(100):
        optimiser.zero_grad()
        losses(network, wanted).total.backward()
        optimiser.step()
    last = losses(network, wanted).report()
    assert all(last[name]["loss"] < 0.5 * first[name]["loss"] for name in QUESTIONS)
    outputs = network(memory())
    assert torch.equal(outputs.answers[SELECTOR].argmax(dim=1), wanted[SELECTOR].values)
    assert torch.equal(outputs.answers["detection"] > 0.0, wanted["detection"].values)
    assert torch.cos(heading_of(outputs.answers["navigation"]) - wanted["navigation"].values[:, 2]).min() > 0.7


def test_the_chunk_is_made_from_what_manipulation_asked_for(network: MultiTaskVLANetwork) -> None:
    seen = memory()
    rows = network.sample(seen, STATISTICS)
    assert rows.shape == (SAMPLES, HORIZON, 14)
    asked = Memory(seen.tokens, seen.mask, network(seen).features["manipulation"])
    assert torch.equal(rows, network.chunk.sample(asked, STATISTICS))
    with torch.no_grad():
        network.questions["grasping"].add_(1.0)
    assert torch.equal(rows, network.sample(seen, STATISTICS)), "other questions change nothing of it"


def test_the_report_counts_what_was_known(network: MultiTaskVLANetwork) -> None:
    wanted = targets()
    some = torch.tensor([True, False, True, False, False, False])
    report = losses(network, {**wanted, "grasping": Target(wanted["grasping"].values, some)}).report()
    assert report["grasping"]["known"] == 2
    assert report["manipulation"]["known"] == SAMPLES * HORIZON
    assert report[SELECTOR]["known"] == SAMPLES


def test_a_task_that_there_is_not_is_answered_with_those_that_there_are(network: MultiTaskVLANetwork) -> None:
    with pytest.raises(ModelError, match="no task 'cooking' to learn; choose from manipulation, grasping, detection"):
        losses(network, {"cooking": targets()["grasping"]})
