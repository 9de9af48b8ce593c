"""The size `base`, with small stand-ins for the hub's CLIP and BERT in local folders, through the real loaders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from language_builders import build, save
from model_builders import observation, rows
from transformers import CLIPVisionConfig, CLIPVisionModel

from vla_ros.contract_file import load_contract
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.config import SIZES, VLAConfig
from vla_ros.model.vla import VLAModel

CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
CLIP = CLIPVisionConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=32
)


@pytest.fixture(params=["bert", "roberta"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> VLAConfig:
    """base as it is, but for where the backbones are; each backbone's last layer is trained."""
    torch.manual_seed(0)
    CLIPVisionModel(CLIP).save_pretrained(tmp_path / "clip")
    language = save(tmp_path / request.param, *build(request.param))
    base = SIZES["base"]
    return replace(
        base,
        views=("front", "wrist"),
        vision=replace(base.vision, source=str(tmp_path / "clip"), trainable_from=2),
        language=replace(base.language, source=language, trainable_from=1),
    )


def test_it_learns_in_the_layers_that_are_trained_and_comes_back_from_its_checkpoint(
    config: VLAConfig, tmp_path: Path
) -> None:
    model = VLAModel(config, ActionStatistics.identity(), ActionStatistics.identity())
    inputs = model.inputs([observation(0, "open the drawer. Then stop!"), observation(1, "grab a cube")])
    losses = model.train().loss(inputs, rows(0, config.decoder.horizon, 2))
    (losses.action + losses.alignment).backward()
    for encoder in (model.vision.encoder_of("front").backbone, model.language.word_encoder.encoder):
        trained = [parameter.requires_grad for parameter in encoder.parameters()]
        assert any(trained) and not all(trained)
        assert all((parameter.grad is not None) == parameter.requires_grad for parameter in encoder.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad)
    save_checkpoint(tmp_path / "checkpoint", model, load_contract(CONTRACT), is_trained=True)
    loaded = load_checkpoint(tmp_path / "checkpoint").model
    with torch.inference_mode():
        before = model.eval()(inputs, generator=torch.Generator().manual_seed(0))
        after = loaded(
            loaded.inputs([observation(0, "open the drawer. Then stop!"), observation(1, "grab a cube")]),
            generator=torch.Generator().manual_seed(0),
        )
    assert torch.allclose(before, after, atol=1e-6)
