"""A checkpoint comes back as it was saved, whole or not at all, and says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_builders import config, model, observation
from safetensors.torch import load_file, save_file

from vla_ros.contract_file import contract_digest, load_contract
from vla_ros.errors import ContractError, ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import CONFIG, CONTRACT, STATISTICS, WEIGHTS, load_checkpoint, save_checkpoint
from vla_ros.model.config import VisionConfig
from vla_ros.model.language import LanguageEncoder
from vla_ros.model.vla import VLAModel

CONTRACT_FILE = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"


def statistics(seed: int) -> ActionStatistics:
    return ActionStatistics.of(torch.randn(50, 14, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def original() -> VLAModel:
    torch.manual_seed(0)
    return VLAModel(config("flow"), statistics(1), statistics(2)).eval()


@pytest.fixture
def folder(original: VLAModel, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, original, load_contract(CONTRACT_FILE), is_trained=True)
    return path


def act(built: VLAModel) -> torch.Tensor:
    with torch.inference_mode():
        actions: torch.Tensor = built(built.inputs([observation(0)]), generator=torch.Generator().manual_seed(0))
    return actions


def test_it_acts_as_before(original: VLAModel, folder: Path) -> None:
    torch.manual_seed(99)  # whatever the fresh network is initialised with
    loaded = load_checkpoint(folder)
    assert not loaded.model.training and loaded.is_trained
    assert torch.equal(act(loaded.model), act(original))
    assert torch.equal(loaded.model.action_statistics.std, original.action_statistics.std)
    assert contract_digest(loaded.contract) == contract_digest(load_contract(CONTRACT_FILE))


def test_what_is_frozen_stays_out_of_the_file(original: VLAModel, folder: Path) -> None:
    names = set(load_file(folder / WEIGHTS))
    trainable = {name for name, value in original.named_parameters() if value.requires_grad}
    assert trainable <= names
    assert not [name for name in names if "word_encoder.encoder" in name or "statistics" in name]
    assert (folder / WEIGHTS).stat().st_size < 10e6


def test_whoever_may_read_its_configuration_may_read_its_weights(folder: Path) -> None:
    assert (folder / WEIGHTS).stat().st_mode == (folder / "config.json").stat().st_mode


def test_a_frozen_batch_norm_is_not_saved_and_a_trained_one_is(tmp_path: Path) -> None:
    for stage, saved in ((None, False), (3, True)):
        vision = VisionConfig(image_size=64, trainable_from=stage)
        built = VLAModel(replace(config(), vision=vision), statistics(1), statistics(2))
        path = tmp_path / f"stage-{stage}"
        save_checkpoint(path, built, load_contract(CONTRACT_FILE), is_trained=False)
        running = [name for name in load_file(path / WEIGHTS) if name.endswith("running_mean")]
        assert bool(running) == saved
        assert torch.equal(act(load_checkpoint(path).model), act(built.eval()))


def test_an_existing_folder_is_left_alone(folder: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(ModelError, match="exists already; choose another folder or remove it"):
        save_checkpoint(folder, model("flow", seed=5), load_contract(CONTRACT_FILE), is_trained=True)
    assert (folder / WEIGHTS).read_bytes() == before


def test_nothing_is_left_of_a_checkpoint_that_could_not_be_written(
    original: VLAModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("vla_ros.model.checkpoint.save_file", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        save_checkpoint(tmp_path / "checkpoint", original, load_contract(CONTRACT_FILE), is_trained=True)
    assert list(tmp_path.iterdir()) == []


def _edit_config(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def edit(folder: Path) -> None:
        record = json.loads((folder / CONFIG).read_text())
        change(record)
        (folder / CONFIG).write_text(json.dumps(record))

    return edit


def _edit_statistics(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def edit(folder: Path) -> None:
        record = json.loads((folder / STATISTICS).read_text())
        change(record["state_statistics"])
        (folder / STATISTICS).write_text(json.dumps(record))

    return edit


def _without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["fusion.level_logits"]
    tensors["stranger"] = torch.zeros(1)
    tensors["decoder.row_out.bias"] = torch.zeros(3)
    save_file(tensors, folder / WEIGHTS)


def _cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_remove(CONFIG), "is not a checkpoint: it has no config.json"),
        (_remove(WEIGHTS), "is not a checkpoint: it has no model.safetensors"),
        (_remove(STATISTICS), "is not a checkpoint: it has no statistics.json"),
        (_remove(CONTRACT), "is not a checkpoint: it has no contract.yaml"),
        (_cut(CONFIG), "config.json: not JSON"),
        (_cut(WEIGHTS), "model.safetensors: not a safetensors file that can be read"),
        (_edit_config(lambda record: record.update(format=9)), "its format is 9; this version reads 1"),
        (_edit_config(lambda record: record["model"].update(width=0)), "width: is 0; must be at least 1"),
        (_edit_config(lambda record: record.update(pretrained_sha256="0")), "preprocessing here are not those"),
        (
            _edit_config(lambda record: record.pop("model")),
            "must have the keys format, is_trained, pretrained_sha256, model, and no others",
        ),
        (_without_a_tensor, "missing: fusion.level_logits; unknown: stranger; of another shape: decoder.row_out.bias"),
        (lambda folder: (folder / STATISTICS).write_text("{}"), "it must have action_statistics and state_statistics"),
        (_edit_config(lambda record: record.update(is_trained=1)), "must have the keys format, is_trained"),
        (
            _edit_statistics(lambda part: part.update(std=[-1.0] * 14)),
            "statistics.json: the action statistics' std is neg",
        ),
        (lambda folder: (folder / STATISTICS).write_text("[]"), "statistics.json: not a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_words(folder: Path, spoil: Callable[[Path], object], complaint: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load_checkpoint(folder)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("spoil", ["tokenizer", "preprocessing"])
def test_another_tokenizer_or_preprocessing_is_refused(
    folder: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spoil == "tokenizer":
        monkeypatch.setattr(LanguageEncoder, "vocabulary", lambda self: "another one")
    else:
        monkeypatch.setattr("vla_ros.model.backbones._HALF", (0.4, 0.5, 0.5))
    with pytest.raises(ModelError, match="the backbones, tokenizer or preprocessing here are not those"):
        load_checkpoint(folder)


def test_a_broken_contract_is_refused_as_any_contract(folder: Path) -> None:
    (folder / CONTRACT).write_text("name: x\n")
    with pytest.raises(ContractError, match="cameras: is missing"):
        load_checkpoint(folder)
