"""The network, its checkpoint and the policy with a memory: only read unless told otherwise; without one, as ever."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import config, model, observation, rows

from vla_ros.commands import calibrate
from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.errors import LearningError, ModelError, VlaRosError
from vla_ros.learning.evaluation.subject import checkpoint_subject
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.memory import MemoryState
from vla_ros.model.memory_file import load_memory
from vla_ros.model.vla import VLAModel
from vla_ros.policy.registry import create_policy
from vla_ros.policy.vla import create
from vla_ros.resources import CHECKPOINT_MEMORY
from vla_ros.types import NS_PER_S, FloatArray, Observation

CONTRACT_FILE = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
SLOTS = 4
HORIZON = config().decoder.horizon


def remembering(kind: str = "regression") -> VLAModel:
    torch.manual_seed(0)
    chosen = replace(config(kind), memory="external", memory_slots=SLOTS)
    return VLAModel(chosen, ActionStatistics.identity(), ActionStatistics.identity()).eval()


def empty(built: VLAModel, memories: int = 1) -> MemoryState:
    assert built.memory is not None
    return built.memory.external_memory.empty(memories)


def act(built: VLAModel, inputs: ModelInputs) -> torch.Tensor:
    with torch.inference_mode():
        actions: torch.Tensor = built(inputs, generator=torch.Generator().manual_seed(0))
    return actions


def seen(built: VLAModel, *seeds: int) -> ModelInputs:
    return built.inputs([observation(seed) for seed in seeds])


def after(built: VLAModel, memory: MemoryState, *seeds: int) -> MemoryState:
    """What is remembered once these have been seen, by a sample each."""
    with torch.inference_mode():
        return built.remember(built.perceive(seen(built, *seeds).with_memory(memory)))


def test_a_network_without_a_memory_has_no_weights_for_one_and_takes_none() -> None:
    assert not [name for name in model().state_dict() if name.startswith("memory")]
    with pytest.raises(ModelError, match="a network without a memory was given one; choose memory: external"):
        model().perceive(seen(model(), 0).with_memory(empty(remembering())))
    with pytest.raises(ModelError, match="without a memory cannot be remembered"):
        remembering().remember(remembering().perceive(seen(remembering(), 0)))


@pytest.mark.parametrize("kind", ["regression", "flow"])
def test_an_empty_memory_changes_not_one_bit(kind: str) -> None:
    built = remembering(kind)
    inputs = seen(built, 0, 1)
    for memories in (1, 2):
        assert torch.equal(act(built, inputs), act(built, inputs.with_memory(empty(built, memories))))


def test_what_was_seen_before_leads_elsewhere_and_only_for_who_saw_it() -> None:
    built = remembering()
    inputs = seen(built, 0, 1)
    one, other = (after(built, empty(built, 2), *past) for past in ((5, 6), (5, 7)))
    first, second = act(built, inputs.with_memory(one)), act(built, inputs.with_memory(other))
    assert torch.allclose(first[0], second[0], atol=1e-6)
    assert not torch.allclose(first[1], second[1], atol=1e-4)
    assert not torch.allclose(first[0], act(built, inputs)[0], atol=1e-4)


def test_the_network_learns_through_what_it_wrote() -> None:
    """Of what is seen now it is told nothing by the past but through the memory."""
    built = remembering().train()
    memory = built.remember(built.perceive(seen(built, 5, 6).with_memory(empty(built, 2))))
    built.loss(seen(built, 0, 1).with_memory(memory), rows(1, HORIZON, 2)).action.backward()
    learned = {name for name, value in built.named_parameters() if value.grad is not None and value.grad.any()}
    assert {"memory.external_memory.value_encoder.weight", "memory.memory_fusion.4.weight"} <= learned
    built.zero_grad()
    memory = built.remember(built.perceive(seen(built, 5, 6).with_memory(empty(built, 2))))
    memory.values.sum().backward()
    assert built.fusion.level_logits.grad is not None and built.state_encoder.state_dict()
    assert any(value.grad is not None and value.grad.any() for value in built.vision.parameters())


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONTRACT_FILE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """It has seen something already."""
    built = remembering()
    folder = tmp_path_factory.mktemp("vla") / "checkpoint"
    save_checkpoint(folder, built, contract, is_trained=True, memory=after(built, empty(built), 40))
    return folder


def test_a_checkpoint_remembers(checkpoint: Path, contract: Contract, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert loaded.memory is not None and loaded.memory.used.sum() == 1
    assert torch.equal(loaded.memory.values, after(remembering(), empty(remembering()), 40).values)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    assert checkpoint_subject(copy).identity() == checkpoint_subject(checkpoint).identity()
    (copy / CHECKPOINT_MEMORY).unlink()
    forgetful = load_checkpoint(copy)
    assert forgetful.memory is not None and not forgetful.memory.used.any()
    assert checkpoint_subject(copy).identity() != checkpoint_subject(checkpoint).identity()
    save_checkpoint(tmp_path / "without", model(), contract, is_trained=True)
    assert load_checkpoint(tmp_path / "without").memory is None
    shutil.copy(checkpoint / CHECKPOINT_MEMORY, tmp_path / "without")
    with pytest.raises(ModelError, match=r"memory.safetensors is of no use: by its config.json the network has no mem"):
        load_checkpoint(tmp_path / "without")


def look(index: int) -> Observation:
    """The index-th frame of a run."""
    return observation(index, t_obs_ns=NS_PER_S + index * NS_PER_S // 10)


def run(checkpoint: Path, contract: Contract, count: int = 4, **options: str) -> list[FloatArray]:
    # Nothing committed: each chunk depends on its frame, and on what is remembered.
    policy = create(contract, {"checkpoint": str(checkpoint), "committed_s": "0", **options})
    return [policy.predict(look(index)).rows for index in range(count)]


def alike(one: list[FloatArray], other: list[FloatArray]) -> list[bool]:
    return [np.array_equal(mine, yours) for mine, yours in zip(one, other, strict=True)]


def test_a_memory_is_only_read_unless_it_is_to_be_written(checkpoint: Path, contract: Contract) -> None:
    before = (checkpoint / CHECKPOINT_MEMORY).read_bytes()
    policy = create(contract, {"checkpoint": str(checkpoint), "committed_s": "0"})
    chunks = [policy.predict(look(index)).rows for index in (0, 1, 2, 0)]
    assert np.array_equal(chunks[0], chunks[3]), "whatever came between"
    writing = run(checkpoint, contract, memory="write")
    assert alike(writing[:3], chunks[:3]) == [True, False, False]
    assert alike(writing, run(checkpoint, contract, memory="write")) == [True] * 4, "each begins with the checkpoint's"
    assert (checkpoint / CHECKPOINT_MEMORY).read_bytes() == before


def test_a_memory_of_the_episode_begins_anew_with_every_instruction_and_after_a_gap(
    checkpoint: Path, contract: Contract
) -> None:
    before = (checkpoint / CHECKPOINT_MEMORY).read_bytes()
    policy = create(contract, {"checkpoint": str(checkpoint), "committed_s": "0", "memory": "episode"})
    first = [policy.predict(look(index)).rows for index in range(3)]
    assert alike(first, run(checkpoint, contract, 3, memory="write")) == [True] * 3, "it grows"
    assert alike(first, run(checkpoint, contract, 3)) == [True, False, False]
    after_a_gap = [policy.predict(replace(look(index), t_obs_ns=look(100 + index).t_obs_ns)).rows for index in range(3)]
    earlier_again = [policy.predict(look(index)).rows for index in range(3)]
    assert alike(first, after_a_gap) == alike(first, earlier_again) == [True] * 3
    told = [policy.predict(replace(look(3 + index), instruction="close it")).rows for index in range(2)]
    fresh = create(contract, {"checkpoint": str(checkpoint), "committed_s": "0", "memory": "episode"})
    anew = [fresh.predict(replace(look(3 + index), instruction="close it")).rows for index in range(2)]
    assert alike(told, anew) == [True] * 2
    assert (checkpoint / CHECKPOINT_MEMORY).read_bytes() == before


def test_the_checkpoints_memory_counts(checkpoint: Path, contract: Contract, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (copy / CHECKPOINT_MEMORY).unlink()
    assert alike(run(copy, contract, 1), run(checkpoint, contract, 1)) == [False]


def test_a_network_is_calibrated_with_what_it_remembers(contract: Contract, tmp_path: Path) -> None:
    chosen = replace(config(), memory="external", memory_slots=SLOTS, reasoning="foresee")
    built = VLAModel(chosen, ActionStatistics.identity(), ActionStatistics.identity())
    save_checkpoint(tmp_path / "saved", built, contract, is_trained=True, memory=after(built, empty(built), 40))
    copy = calibrate._uncalibrated(tmp_path / "saved", tmp_path / "copy", keeps_lessons=False)
    memory = load_checkpoint(copy).memory
    assert memory is not None and memory.used.sum() == 1
    (tmp_path / "saved" / CHECKPOINT_MEMORY).unlink()
    memory = load_checkpoint(calibrate._uncalibrated(tmp_path / "saved", tmp_path / "copy", keeps_lessons=False)).memory
    assert memory is not None and not memory.used.any()


def test_what_is_written_is_kept_in_a_file_and_begun_with(checkpoint: Path, contract: Contract, tmp_path: Path) -> None:
    file = tmp_path / "robot.safetensors"
    policy = create(contract, {"checkpoint": str(checkpoint), "memory": "write", "memory_file": str(file)})
    kept = []
    for index in (0, 1, 101, 102):
        policy.predict(look(index))
        kept.append(load_memory(file, empty(remembering())).values)
    same = [torch.equal(one, other) for one, other in pairwise(kept)]
    assert same == [True, False, True], "at once, and then every ten seconds"
    assert [path.name for path in tmp_path.iterdir()] == ["robot.safetensors"]
    before = file.read_bytes()
    reading = run(checkpoint, contract, memory_file=str(file))
    assert alike(reading, run(checkpoint, contract)) == [False] * 4 and file.read_bytes() == before
    run(checkpoint, contract, memory="write", memory_file=str(file))
    assert file.read_bytes() != before


def test_a_file_that_can_no_longer_be_written_is_told_of_and_the_robot_goes_on(
    checkpoint: Path, contract: Contract, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    options = {"checkpoint": str(checkpoint), "memory": "write", "memory_file": str(folder / "m.safetensors")}
    policy = create(contract, options)
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(policy.predict(look(0)).rows).all()
    assert f"the memory {folder / 'm.safetensors'} cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"memory": "yes"}, "the option memory is 'yes'; choose read, episode or write"),
        ({"memory_file": "/nowhere/m"}, "there is no memory /nowhere/m; only with memory=write a new one is begun"),
        ({"memory": "write", "memory_file": "/nowhere/m"}, "cannot be kept: /nowhere is no folder"),
        ({"memory_file": str(CONTRACT_FILE)}, "sawyer_sim.yaml: not a safetensors file that can be read"),
    ],
)
def test_wrong_options_are_refused_in_words(
    checkpoint: Path, contract: Contract, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(VlaRosError) as caught:
        create_policy("vla", contract, {"checkpoint": str(checkpoint), **options})
    assert complaint in str(caught.value)


def test_a_network_without_a_memory_cannot_write_one(contract: Contract, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "without", model(), contract, is_trained=True)
    for options in ({"memory": "write"}, {"memory": "episode"}, {"memory_file": "m"}):
        with pytest.raises(VlaRosError, match="without has no memory: leave out memory and memory_file"):
            create_policy("vla", contract, {"checkpoint": str(tmp_path / "without"), **options})
    create_policy("vla", contract, {"checkpoint": str(tmp_path / "without"), "memory": "read"})


def test_no_trial_of_an_evaluation_depends_on_those_before(checkpoint: Path) -> None:
    with pytest.raises(LearningError, match="memory is 'write': trials would depend on each other; choose read or epi"):
        checkpoint_subject(checkpoint, {"memory": "write"})
    with pytest.raises(LearningError, match="leave out the option memory_file: every trial begins with the checkpoint"):
        checkpoint_subject(checkpoint, {"memory_file": "m"})
    subjects = [checkpoint_subject(checkpoint, options) for options in ({}, {"memory": "read"}, {"memory": "episode"})]
    assert subjects[2].identity() != subjects[1].identity()
