"""What went before a training sample: what a live policy would have had of it, and what a network learns through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from model_builders import config, observation, rows

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.past import NO_PAST, Look, Past, after
from vla_ros.model.vla import VLAModel

SLOTS, HISTORY, SAMPLES = 4, 2, 2


def built(memory: bool = True, history: int = HISTORY) -> VLAModel:
    torch.manual_seed(0)
    chosen = config(history=history)
    chosen = replace(chosen, memory="external", memory_slots=SLOTS) if memory else chosen
    return VLAModel(chosen, ActionStatistics.identity(), ActionStatistics.identity()).eval()


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


@pytest.mark.parametrize("what", ["recent", "remembered"])
def test_the_trunk_learns_through_earlier_instants_and_so_does_all_that_keeps_them(what: str) -> None:
    model = built().train()
    first = both(model, 10)
    pixels: dict[str, Any] = dict(first.inputs.images)
    images = {view: image.float().requires_grad_() for view, image in pixels.items()}
    first = Look(replace(first.inputs, images=images), first.here)
    # What a memory is given a second time goes through the gate, and with two slots there is something to choose from.
    looks = {"recent": (first, both(model, 20)), "remembered": (first, both(model, 10), both(model, 20))}[what]
    inputs = after(Past(**{what: looks}), model, both(model, 0).inputs)
    model.loss(inputs, rows(1, model.config.decoder.horizon, SAMPLES)).action.backward()
    assert all(image.grad is not None and image.grad.any() for image in images.values())
    if what == "remembered":
        memory = model.memory.external_memory  # type: ignore[union-attr]
        for name in ("key_encoder", "query_encoder", "value_encoder", "update_gate"):
            assert getattr(memory, name).weight.grad.any(), name
