"""Parts that reason are trained beside a network that stays as it is, bit for bit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from learning_builders import TINY_MODEL, write_demonstrations

from vla_ros.errors import LearningError

pytest.importorskip("torch", reason="torch is not installed")

import numpy as np
import torch
import training_program
from safetensors.torch import load_file

from vla_ros.learning.batches import BatchMaker
from vla_ros.learning.loading import load_experience, open_datasets
from vla_ros.learning.logs import read_log
from vla_ros.learning.recipe import build_recipe
from vla_ros.learning.usual import measure_usual
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.surprise import Calibration
from vla_ros.model.vla import VLAModel
from vla_ros.policy.sentences import load_sentences
from vla_ros.types import Observation, Pose

pytestmark = pytest.mark.timeout(600)
FORESEES = {**TINY_MODEL, "reasoning": "foresee"}


def seen(seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    pose = Pose(rng.uniform(-0.3, 0.3, 3), np.array([0.0, 0.0, 0.0, 1.0]))
    images = {view: rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for view in ("front", "wrist")}
    return Observation(0, "push the puck to the goal", images, pose, pose, None, 0.5)


def recipe(folder: Path, data: Path, **changes: Any) -> Path:
    common = {
        "steps": 3,
        "batch_size": 8,
        "warmup_steps": 1,
        "alignment": 0.0,
        "checkpoint_steps": 3,
        "model": TINY_MODEL,
    }
    path = folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    text = {**common, "data": [str(data)], "validation": {"every_steps": 3, "share": 0.1}, **changes}
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standing")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return write_demonstrations(folder / "data", episodes=8)


@pytest.fixture(scope="module")
def trunk(folder: Path, data: Path) -> Iterator[Path]:
    """A small network that was trained as a whole, without any reasoning."""
    before = torch.get_num_threads()
    training_program.run(recipe(folder, data), folder / "trunk")
    yield folder / "trunk" / "last"
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def grown(folder: Path, data: Path, trunk: Path) -> Path:
    """The same with parts that reason, which alone were trained."""
    standing = {"start": str(trunk), "trains": "reasoning", "model": FORESEES, "learning_rate": 1e-2}
    training_program.run(recipe(folder, data, **standing), folder / "grown")
    return folder / "grown" / "last"


def test_what_was_there_is_the_same_to_the_last_bit_and_what_is_new_has_learned(trunk: Path, grown: Path) -> None:
    before, after = (load_file(path / "model.safetensors") for path in (trunk, grown))
    assert set(after) - set(before) == {name for name in after if name.startswith("reasoning.")}
    assert [name for name, tensor in before.items() if not torch.equal(tensor, after[name])] == []
    assert (trunk / "statistics.json").read_bytes() == (grown / "statistics.json").read_bytes()
    assert after["reasoning.world_model.drift.weight"].any() and after["reasoning.refiner.change.weight"].any()
    rows = read_log(grown.parent / "log.csv")
    assert all(float(row["action"]) == 0.0 < float(row["foresight"]) for row in rows if row["kind"] == "step")


def test_it_acts_as_before_bit_for_bit(trunk: Path, grown: Path) -> None:
    acted = []
    for path in (trunk, grown):
        model = load_checkpoint(path).model
        with torch.inference_mode():
            acted.append(model(model.inputs([seen(0), seen(1)])))
    assert torch.equal(*acted)


def test_what_reads_the_instruction_stays_as_it_was_drawn_if_all_but_that_is_trained(
    folder: Path, data: Path, trunk: Path
) -> None:
    training_program.run(recipe(folder, data, trains="all but language"), folder / "deaf")
    alike, others = (load_file(path / "last" / "model.safetensors") for path in (folder / "deaf", trunk.parent))
    config = load_checkpoint(trunk).model.config
    torch.manual_seed(0)
    drawn = VLAModel(config, ActionStatistics.identity(), ActionStatistics.identity()).state_dict()
    language = [name for name in alike if name.startswith("language.")]
    assert language and all(torch.equal(alike[name], drawn[name]) for name in language)
    assert not all(torch.equal(others[name], drawn[name]) for name in language)
    assert any(not torch.equal(alike[name], drawn[name]) for name in alike if name.startswith("state_encoder."))


def test_what_is_usual_is_measured_when_it_has_learned_and_no_alarm_is_set(grown: Path) -> None:
    reasoning = load_checkpoint(grown).model.reasoning
    assert reasoning.usual_miss is not None and reasoning.usual_view is not None
    assert reasoning.usual_view.mean.any() and reasoning.usual_miss.mean.any()
    calibration = reasoning.calibration
    assert calibration.threshold == math.inf and all(0.0 < scale < 100.0 for scale in calibration.scales)


def test_what_is_usual_has_no_threshold_until_it_is_calibrated_anew(data: Path, grown: Path) -> None:
    """Not even where a calibrated network was trained further: its errors are others now."""
    model = load_checkpoint(grown).model
    model.reasoning.calibration = Calibration(threshold=3.0)
    preprocessing = {view: model.vision.encoder_of(view).preprocessing for view in model.config.views}
    experience = load_experience(open_datasets([data], model.config.views), preprocessing)
    frames = [np.arange(8)]
    measure_usual(model, BatchMaker(experience, model, load_sentences(), 10.0), frames, frames)
    assert model.reasoning.calibration.threshold == math.inf


def test_a_training_of_the_parts_goes_on_where_it_was_and_ends_the_same(
    folder: Path, data: Path, trunk: Path, grown: Path, tmp_path: Path
) -> None:
    from vla_ros.learning import training

    path = recipe(folder, data, start=str(trunk), trains="reasoning", model=FORESEES, learning_rate=1e-2)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**written, "checkpoint_steps": 1}), encoding="utf-8")
    run_step, steps = training.CurriculumTrainer.run_step, []

    def killed_at_the_third(self: training.CurriculumTrainer) -> Any:
        steps.append(self.step)
        if steps == [0, 1, 2]:
            raise KeyboardInterrupt
        return run_step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.CurriculumTrainer, "run_step", killed_at_the_third)
        training_program.run(path, tmp_path / "out")
    training_program.run(path, tmp_path / "out")
    mine, theirs = load_file(tmp_path / "out" / "last" / "model.safetensors"), load_file(grown / "model.safetensors")
    assert [name for name, tensor in theirs.items() if not torch.equal(mine[name], tensor)] == []
    record = json.loads((tmp_path / "out" / "last" / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"]["trains"] == "reasoning"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": None}, "trains: reasoning needs a start"),
        ({"model": TINY_MODEL}, "model.reasoning is none: choose foresee, or trains: all"),
        (
            {"model": {**TINY_MODEL, "reasoning": "all", "subtasks": ["push"]}},
            "do not plan, model.reasoning is all: choose foresee",
        ),
        ({"trains": "value"}, "trains: is 'value'; choices: all, all but language, reasoning"),
    ],
)
def test_what_cannot_be_trained_beside_is_refused(changes: dict[str, Any], words: str) -> None:
    mapping = {"data": ["d"], "start": "mt10", "trains": "reasoning", "model": FORESEES, **changes}
    with pytest.raises(LearningError, match=words):
        build_recipe({key: value for key, value in mapping.items() if value is not None}, "a recipe")


def test_a_planner_is_not_taken_from_a_network_that_has_one(
    folder: Path, data: Path, trunk: Path, tmp_path: Path
) -> None:
    there = load_checkpoint(trunk)
    plans = replace(there.model.config, reasoning="all", subtasks=("push",))
    torch.manual_seed(0)
    planning = VLAModel(plans, there.model.action_statistics, there.model.state_statistics)
    save_checkpoint(tmp_path / "planning", planning, there.contract, is_trained=True)
    beside = {"start": str(tmp_path / "planning"), "trains": "reasoning", "model": FORESEES}
    with pytest.raises(LearningError, match=r"planning has another network: model\.subtasks differ"):
        training_program.run(recipe(folder, data, **beside), tmp_path / "out")


def test_another_trunk_is_refused(folder: Path, data: Path, trunk: Path, tmp_path: Path) -> None:
    wider = {"start": str(trunk), "trains": "reasoning", "model": {**FORESEES, "width": 64}}
    with pytest.raises(LearningError, match=r"last has another network: model\.width differ"):
        training_program.run(recipe(folder, data, **wider), tmp_path / "out")
    with pytest.raises(LearningError, match=r"last has another network: model\.reasoning differ"):
        training_program.run(recipe(folder, data, start=str(trunk), model=FORESEES), tmp_path / "other")
