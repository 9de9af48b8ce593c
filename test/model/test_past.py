"""What went before a training sample: what a live policy would have had of it, and what a network learns through it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_builders import config, observation, rows

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.past import NO_PAST, Look, Past, after, later_after
from vla_ros.model.vla import VLAModel

SLOTS, HISTORY, SAMPLES = 4, 2, 2


def built(memory: bool = True, history: int = HISTORY) -> VLAModel:
    torch.manual_seed(0)
    chosen = config(history=history)
    chosen = replace(chosen, memory="external", memory_slots=SLOTS) if memory else chosen
    model = VLAModel(chosen, ActionStatistics.identity(), ActionStatistics.identity()).eval()
    if model.memory is not None:
        model.memory.external_memory.near = 0.9999  # before anything is learned, all that is seen is much alike
    return model


def look(model: VLAModel, first_seed: int, *here: bool) -> Look:
    seeds = range(first_seed, first_seed + len(here))
    return Look(model.inputs([observation(seed) for seed in seeds]), torch.tensor(here))


def both(model: VLAModel, first_seed: int) -> Look:
    return look(model, first_seed, *[True] * SAMPLES)


@torch.no_grad()
def test_a_look_back_is_what_the_policy_has_of_the_looks_before() -> None:
    model = built(memory=False)
    present = both(model, 0).inputs
    given = after(Past(recent=(both(model, 10), both(model, 20))), model, present)
    earlier = [model.perceive(both(model, seed).inputs).frame_features for seed in (10, 20)]
    live = model(present.with_history(torch.stack(earlier, dim=1)))
    assert torch.allclose(model(given), live, atol=1e-6)
    only_the_last = after(Past(recent=(look(model, 10, False, False), both(model, 20))), model, present)
    live = model(present.with_history(earlier[1].unsqueeze(1)))
    assert torch.allclose(model(only_the_last), live, atol=1e-6)


@torch.no_grad()
def test_a_memory_is_what_the_policy_has_written_by_then() -> None:
    model = built(history=0)
    memory = model.empty_memory(SAMPLES)
    for seed in (10, 20, 30):
        memory = model.remember(model.perceive(both(model, seed).inputs.with_memory(memory)))
    past = Past(remembered=tuple(both(model, seed) for seed in (10, 20, 30)))
    given = after(past, model, both(model, 0).inputs).memory
    assert given is not None and given.used.sum() == SAMPLES * 3
    for part in ("keys", "values", "usage"):
        assert torch.equal(getattr(given, part), getattr(memory, part))


def test_a_later_instant_is_perceived_as_the_present_is_and_teaches_nobody_to_see() -> None:
    """The same looks give the same features, whether they are of the present or of what is foretold."""
    model = built()
    looks = both(model, 10), both(model, 20)
    present, past = both(model, 0).inputs, Past(looks, looks, looks)
    now = after(past, model, present)
    later = later_after(past, model, present, now.memory)
    assert later.history is not None and not later.history.requires_grad
    with torch.no_grad():
        seen, foretold = (model.perceive(inputs).memory.pooled for inputs in (now, later))
        plain = model.perceive(present).memory.pooled
    assert torch.equal(seen, foretold) and not torch.allclose(seen, plain, atol=1e-5)


@torch.no_grad()
def test_what_was_not_there_leaves_no_trace() -> None:
    """Of the second sample, which is young."""
    model = built()
    present = both(model, 0).inputs
    given = [
        after(
            Past((look(model, seed, True, False),), (look(model, seed, True, False), both(model, 30))), model, present
        )
        for seed in (10, 20)
    ]
    actions = [model(inputs) for inputs in given]
    assert torch.allclose(actions[0][1], actions[1][1], atol=1e-6)
    assert not torch.allclose(actions[0][0], actions[1][0], atol=1e-5)
    assert given[0].memory is not None and given[0].memory.used.sum(dim=1).tolist() == [2, 1]
    none = after(Past(remembered=(look(model, 10, False, False),)), model, present)
    assert torch.equal(model(none), model(present)), "an empty memory"


def test_without_a_past_the_inputs_are_the_same() -> None:
    model = built()
    present = both(model, 0).inputs
    assert after(NO_PAST, model, present) is present
    with pytest.raises(ModelError, match="has not even an empty one; choose memory: external"):
        after(Past(remembered=(both(model, 10),)), built(memory=False), present)


def assert_trunk_learns_by(model: VLAModel, kept: torch.Tensor | None) -> None:
    assert kept is not None
    (kept * torch.randn(kept.shape, generator=torch.Generator().manual_seed(1))).sum().backward(retain_graph=True)
    assert all(value.grad is not None and value.grad.any() for value in model.vision.parameters() if value.ndim > 1)


def test_the_trunk_learns_through_what_it_looks_back_at() -> None:
    model = built(memory=False).train()
    inputs = after(Past(recent=(both(model, 10), both(model, 20))), model, both(model, 0).inputs)
    assert_trunk_learns_by(model, inputs.history)


@pytest.mark.parametrize(
    ("near", "learned"),
    [
        (0.9, ("value_encoder", "update_gate")),  # one slot, which nothing has to be chosen from
        (0.9999, ("value_encoder", "key_encoder", "query_encoder")),
    ],
)
def test_trunk_and_memory_learn_through_what_was_written(near: float, learned: tuple[str, ...]) -> None:
    model = built(history=0).train()
    assert model.memory is not None
    memory = model.memory.external_memory
    memory.near = near
    inputs = after(Past(remembered=(both(model, 10), both(model, 20))), model, both(model, 0).inputs)
    assert inputs.memory is not None
    assert_trunk_learns_by(model, inputs.memory.values)
    model.zero_grad()
    model.loss(inputs, rows(1, model.config.decoder.horizon, SAMPLES)).action.backward()
    assert [name for name in learned if not getattr(memory, name).weight.grad.any()] == []
