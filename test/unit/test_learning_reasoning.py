"""A training of a network that reasons: every part of it learns, and the checkpoint holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from learning_builders import tiny_schema, write_demonstrations

from vla_ros.errors import LearningError

pytest.importorskip("torch", reason="torch is not installed")

import torch
import training_program

from vla_ros.learning.logs import read_log
from vla_ros.model.checkpoint import load_checkpoint

PARTS = ("plan", "goal", "foresight", "value", "refinement")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demonstrations(tmp_path_factory.mktemp("data") / "tiny", episodes=7, good=4)


def recipe_file(folder: Path, data: Path, **model: Any) -> Path:
    recipe = {
        "data": [str(data)],
        "steps": 4,
        "batch_size": 8,
        "warmup_steps": 1,
        "alignment": 0.0,
        "checkpoint_steps": 4,
        "validation": {"every_steps": 2, "share": 0.1},
        "model": {
            "views": ["front"],
            "width": 32,
            "heads": 2,
            "vision": {"backbone": "film_conv", "image_size": 32, "trainable_from": 0},
            "fusion": {"layers": 1},
            "decoder": {"kind": "flow", "horizon": 4, "dt_s": 0.1, "layers": 1, "max_prefix": 1},
            **model,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.mark.timeout(600)
def test_every_part_learns_and_is_in_the_checkpoint(data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        subtasks = list(tiny_schema().subtasks)
        training_program.run(recipe_file(tmp_path, data, reasoning="all", subtasks=subtasks), tmp_path / "out")
    finally:
        torch.set_num_threads(before)
    rows = read_log(tmp_path / "out" / "log.csv")
    assert {row["kind"] for row in rows} >= {"step", "validation"}
    assert all(float(row[part]) > 0.0 for row in rows if row["kind"] != "rollouts" for part in PARTS)
    held_out = [row for row in rows if row["kind"] == "validation"]
    assert held_out and all(0.0 <= float(row["value_auc"]) <= 1.0 for row in held_out), "of failures, too"
    model = load_checkpoint(tmp_path / "out" / "last").model
    assert model.config.reasoning == "all" and model.config.subtasks == tuple(subtasks)
    assert model.reasoning.refiner is not None and model.reasoning.refiner.change.weight.any()


def test_data_with_other_subtasks_than_the_planners_is_refused_before_anything_is_learned(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(LearningError, match=r"model\.subtasks: the data's .* missing"):
        training_program.run(recipe_file(tmp_path, data, reasoning="plan", subtasks=["dance"]), tmp_path / "out")
