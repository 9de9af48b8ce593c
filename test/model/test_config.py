"""A configuration is a JSON mapping, and every way of being wrong is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from vla_ros.errors import ModelError
from vla_ros.model.config import SIZES, VLAConfig, from_mapping, preset, to_mapping, validated


@pytest.mark.parametrize("size", SIZES)
def test_every_size_survives_json(size: str) -> None:
    config = preset(size, ("front", "wrist"))
    assert config.views == ("front", "wrist")
    assert from_mapping(json.loads(json.dumps(to_mapping(config))), "here") == config


def test_an_unknown_size_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="no size 'huge'; choose one of tiny, small, base"):
        preset("huge", ("front",))


def _with(path: str, value: Any) -> dict[str, Any]:
    mapping = to_mapping(VLAConfig())
    part, *keys = path.split(".")
    if keys:
        mapping[part][keys[0]] = value
    else:
        mapping[part] = value
    return mapping


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("widht", 3, "widht: unknown key, did you mean width?"),
        ("vision.backbone", "resnet", "vision.backbone: is 'resnet', did you mean resnet50?; choices: "),
        ("decoder.kind", "diffusion", "decoder.kind: is 'diffusion'; choices: flow, regression, single, continuous"),
        ("decoder.horizon", 1, "decoder.horizon: is 1; must be at least 2"),
        ("decoder.dt_s", 0.0, "decoder.dt_s: is 0.0; must be at least 0.001"),
        ("dropout", 1.0, "dropout: is 1.0; must be at least 0 and less than 1"),
        ("vision.trainable_from", -1, "vision.trainable_from: is -1; must be at least 0"),
        ("memory", "internal", "memory: is 'internal', did you mean external?; choices: none, external"),
        ("memory_slots", 0, "memory_slots: is 0; must be at least 1"),
        ("heads", 7, "heads: 7 do not divide a width of 256"),
        ("width", 258, "width: 258 is not a multiple of 4"),
        ("views", [], "views: there must be at least one"),
        ("views", ["front", "front"], "views: each name may stand once"),
        ("decoder.max_prefix", 16, "decoder.max_prefix: 16 leaves nothing of 16 rows"),
        ("language", None, "language: is empty; must be a mapping with keys source"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(path: str, value: Any, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        from_mapping(_with(path, value), "config.json")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("config.json is not a model configuration:")


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        validated(replace(VLAConfig(), views=(), heads=7), "here")
    assert "views:" in str(caught.value) and "heads:" in str(caught.value)
