"""A network of several tasks: its chunk is one of their answers, and without them nothing of it is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from model_builders import config, model, observation, rows

from vla_ros.contract_file import load_contract
from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.config import FusionConfig, Task, VLAConfig, from_mapping, to_mapping
from vla_ros.model.multi_task import SELECTOR, Target
from vla_ros.model.reasoning import Thinking
from vla_ros.model.vla import VLAModel
from vla_ros.resources import config_path

SEEN = [observation(0), observation(1, "close the window")]


def several(kind: str = "regression", **changes: Any) -> VLAConfig:
    return replace(config(kind), tasks=get_args(Task), classes=("puck", "drawer"), **changes)


def built(of: VLAConfig) -> VLAModel:
    torch.manual_seed(0)
    return VLAModel(of, ActionStatistics.identity(), ActionStatistics.identity()).eval()


def targets() -> dict[str, Target]:
    known = torch.tensor([True, False])
    poses = torch.tensor([[0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 1.0]] * 2)
    return {
        "grasping": Target(poses, known),
        "detection": Target(torch.tensor([[1, 0], [0, 1]]), torch.ones(2, 2)),
        "navigation": Target(torch.ones(2, 3), ~known),
        SELECTOR: Target(torch.tensor([1, 3]), torch.ones(2)),
    }


def test_it_is_off_by_default_and_leaves_no_weights() -> None:
    names = model().state_dict()
    assert config().tasks == ()
    assert not [name for name in names if "question" in name or "answers" in name or ".chunk." in name]
    with pytest.raises(ModelError, match="answers for the chunk alone; choose tasks"):
        plain = model()
        plain.answers(plain.perceive(plain.inputs(SEEN)))


@pytest.mark.parametrize("kind", ["regression", "flow"])
def test_the_chunk_comes_from_its_only_decoder(kind: str) -> None:
    network = built(several(kind))
    layers = {name.split("queries")[0] for name in network.state_dict() if name.endswith("queries")}
    assert layers == {"decoder.chunk."}
    with torch.inference_mode():
        chunk = network(network.inputs(SEEN), generator=torch.Generator().manual_seed(0))
    assert chunk.shape == (2, network.config.decoder.horizon, 14) and chunk.isfinite().all()


def test_every_weight_learns_and_every_task_is_reported_by_name() -> None:
    network = built(several())
    chunk = rows(0, network.config.decoder.horizon, 2)
    losses = network.loss(network.inputs(SEEN), chunk, targets=targets())
    assert losses.tasks is not None
    assert set(losses.tasks.report()) == {"manipulation", "grasping", "detection", "navigation", SELECTOR}
    assert losses.tasks.report()["grasping"]["known"] == 1
    assert torch.equal(losses.action, losses.tasks.losses["manipulation"])
    losses.acting.backward()
    idle = [name for name, value in network.decoder.named_parameters() if value.grad is None]
    assert idle == []


def test_a_target_that_nobody_asks_for_is_refused() -> None:
    network = model()
    chunk = rows(0, network.config.decoder.horizon, 2)
    with pytest.raises(ModelError, match="no task 'grasping' to learn, only the chunk"):
        network.loss(network.inputs(SEEN), chunk, targets=targets())


def test_candidates_are_drawn_from_what_manipulation_asked_for() -> None:
    network = built(several("flow", reasoning="foresee"))
    with torch.inference_mode():
        perception = network.perceive(network.inputs(SEEN))
        best = network.decide(perception, None, torch.Generator().manual_seed(0), Thinking(candidates=3, refine=True))
    assert best.shape == (2, network.config.decoder.horizon, 14) and best.isfinite().all()


def test_it_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    network = built(several())
    contract = load_contract(config_path("sawyer_sim"))
    save_checkpoint(tmp_path / "saved", network, contract, is_trained=True)
    again = load_checkpoint(tmp_path / "saved").model
    assert again.config == network.config
    with torch.inference_mode():
        inputs = network.inputs(SEEN)
        for name, answer in network.answers(network.perceive(inputs)).answers.items():
            assert torch.equal(answer, again.answers(again.perceive(inputs)).answers[name]), name
        assert torch.equal(network(inputs), again(inputs))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks": ["grasping"]}, "tasks: one of them is manipulation, which is the chunk"),
        ({"tasks": ["manipulation", "manipulation"]}, "tasks: each name may stand once"),
        ({"tasks": ["manipulation", "detection"]}, "classes: detection needs at least one"),
        ({"tasks": ["manipulation"], "classes": ["puck"]}, "classes: without detection there is no use for them"),
        ({"tasks": ["manipulation", "grasp"]}, "tasks\\[1\\]: is 'grasp', did you mean grasping"),
    ],
)
def test_what_is_wrong_with_tasks_is_said(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        from_mapping({**to_mapping(config()), **changes}, "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": FusionConfig(layers=2, meeting="mean")},
        {"vision": replace(config().vision, cross_view_layers=0)},
    ],
    ids=["without cross-modal attention", "without multi-view fusion"],
)
def test_what_is_left_out_for_an_ablation_leaves_the_shapes(changes: dict[str, Any]) -> None:
    whole, less = model(), built(replace(config(), **changes))
    assert from_mapping(to_mapping(less.config), "here") == less.config
    first, second = whole.perceive(whole.inputs(SEEN)), less.perceive(less.inputs(SEEN))
    assert first.memory.tokens.shape == second.memory.tokens.shape
    assert first.memory.pooled.shape == second.memory.pooled.shape
    assert first.vision.attention_weights.shape == second.vision.attention_weights.shape
    counts = [sum(value.numel() for value in network.parameters()) for network in (whole, less)]
    assert counts[1] < counts[0]
    less.loss(less.inputs(SEEN), rows(0, less.config.decoder.horizon, 2)).action.backward()
    parts = (*less.fusion.named_parameters(), *less.vision.named_parameters())
    idle = {name for name, value in parts if value.requires_grad and value.grad is None}
    assert {name.split(".")[-2] for name in idle} <= {"global_projection", "global_norm"}, "which alignment teaches"
