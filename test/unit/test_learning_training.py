"""A whole training on a tiny dataset: killed at any step it ends with the same weights, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from learning_builders import TINY_MODEL, write_demonstrations

from vla_ros.errors import LearningError, VlaRosError

pytest.importorskip("torch", reason="torch is not installed")

import torch
import training_program
from safetensors.torch import load_file

from vla_ros.learning.logs import read_log
from vla_ros.model.checkpoint import load_checkpoint

STEPS, CHECKPOINT_STEPS = 12, 3
RECIPE: Mapping[str, Any] = {
    "steps": STEPS,
    "batch_size": 8,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "alignment": 0.0,
    "checkpoint_steps": CHECKPOINT_STEPS,
    "curriculum": {"levels": [0.4, 0.7, 1.0], "thresholds": [0.99, 0.99], "max_steps": 4},
    "validation": {"every_steps": 4, "share": 0.1, "rollout_steps": 5},
    "model": TINY_MODEL,
}


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """The training program uses one; what other tests use is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demonstrations(tmp_path_factory.mktemp("data") / "tiny", episodes=8)


def recipe_file(folder: Path, data: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "data": [str(data)], **changes}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    training_program.run(recipe_file(folder, data), folder / "out")
    return folder / "out"


def tensors(output: Path) -> dict[str, torch.Tensor]:
    """All that a training has learned: its last checkpoint and its newest state."""
    (state,) = (output / "state").glob("step-*")
    files = [output / "last" / "model.safetensors", *sorted(state.glob("*.safetensors"))]
    assert len(files) == 4
    return {f"{path.stem}/{name}": tensor for path in files for name, tensor in load_file(path).items()}


def assert_same(one: Path, other: Path) -> None:
    mine, theirs = tensors(one), tensors(other)
    assert set(mine) == set(theirs)
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, theirs[name])] == []
    for name in ("log.csv", "last/training.json", "last/statistics.json", "best/model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def killed_after(recipe: Path, output: Path, state: int, pause_s: float) -> None:
    """Start the training, and kill it a moment after it has written the state of that step, or a later one."""
    process = subprocess.Popen(
        [sys.executable, training_program.__file__, str(recipe), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not any(int(path.name[5:]) >= state for path in (output / "state").glob("step-*")):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.001)
        time.sleep(pause_s)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)


@pytest.mark.timeout(300)
def test_a_training_that_is_killed_at_random_ends_with_the_same_weights_bit_for_bit(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    rng = random.Random(os.getpid())
    state, pause_s = rng.choice(range(CHECKPOINT_STEPS, STEPS, CHECKPOINT_STEPS)), rng.uniform(0.0, 0.3)
    print(f"killed {pause_s} s after the state of step {state}")
    recipe, output = recipe_file(tmp_path, data), tmp_path / "out"
    killed_after(recipe, output, state, pause_s)
    training_program.run(recipe, output)
    assert_same(output, uninterrupted)


def test_a_training_that_is_interrupted_in_a_later_stage_goes_on_in_that_stage(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    def interrupted_at_step_10(checkpoint: Path, tasks: tuple[str, ...]) -> float:
        if json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))["step"] == 10:
            raise KeyboardInterrupt
        return training_program.half_succeed(checkpoint, tasks)

    recipe, output = recipe_file(tmp_path, data), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        training_program.run(recipe, output, interrupted_at_step_10)
    standing = json.loads((output / "state" / "step-00000009" / "standing.json").read_text(encoding="utf-8"))
    assert (standing["stage"], standing["batches"], standing["best_step"]) == (2, 1, 5)
    training_program.run(recipe, output)
    assert_same(output, uninterrupted)


def test_a_training_goes_on_from_a_checkpoint_and_keeps_what_its_weights_rely_on(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    still = {"start": str(uninterrupted / "last"), "learning_rate": 1e-12, "steps": 1, "warmup_steps": 0}
    other_data = write_demonstrations(tmp_path / "other", episodes=4)
    training_program.run(recipe_file(tmp_path, other_data, **still, curriculum={}), tmp_path / "out")
    before, after = uninterrupted / "last", tmp_path / "out" / "last"
    weights = load_file(after / "model.safetensors")
    for name, tensor in load_file(before / "model.safetensors").items():
        assert torch.allclose(weights[name], tensor, atol=1e-6), name
    assert (after / "statistics.json").read_bytes() == (before / "statistics.json").read_bytes()
    record = json.loads((after / "training.json").read_text(encoding="utf-8"))
    assert record["start_sha256"] == hashlib.sha256((before / "model.safetensors").read_bytes()).hexdigest()


def test_a_training_goes_on_from_the_same_network_only(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    wider = {"model": {**RECIPE["model"], "width": 64}, "start": str(uninterrupted / "last")}
    with pytest.raises(LearningError, match=r"start: .*last has another network: model\.width differ"):
        training_program.run(recipe_file(tmp_path, data, **wider), tmp_path / "out")
    with pytest.raises(VlaRosError, match="no checkpoint of the package's: mt10"):
        training_program.run(recipe_file(tmp_path, data, start="mt11"), tmp_path / "out")


def test_another_seed_gives_other_weights(data: Path, tmp_path: Path) -> None:
    short = {"steps": 1, "warmup_steps": 0, "validation": {"share": 0.1}, "curriculum": {}}
    weights = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        training_program.run(recipe_file(tmp_path, data, seed=seed, **short), tmp_path / str(seed))
        weights.append(load_file(tmp_path / str(seed) / "state" / "step-00000001" / "weights.safetensors"))
    matrices = [name for name, value in weights[0].items() if value.ndim > 1]
    assert matrices
    assert [name for name in matrices if torch.equal(weights[0][name], weights[1][name])] == []


def test_the_log_tells_every_step_and_every_measurement(uninterrupted: Path) -> None:
    rows = read_log(uninterrupted / "log.csv")
    steps = [row for row in rows if row["kind"] == "step"]
    assert [int(row["step"]) for row in steps] == list(range(1, STEPS + 1))
    assert [int(row["stage"]) for row in steps] == [0] * 4 + [1] * 4 + [2] * 4
    assert float(steps[-1]["action"]) < float(steps[0]["action"])
    assert [int(row["step"]) for row in rows if row["kind"] == "validation"] == [4, 8, 12]
    assert [(int(row["step"]), row["success"]) for row in rows if row["kind"] == "rollouts"] == [
        (step, "0.5") for step in (5, 10, 12)
    ]
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_checkpoint_is_the_last_of_those_that_succeed_most_often(uninterrupted: Path) -> None:
    record = json.loads((uninterrupted / "best" / "training.json").read_text(encoding="utf-8"))
    assert record["step"] == STEPS
    assert record["tasks"] == ["push-v3", "reach-v3"]
    assert json.loads((uninterrupted / "last" / "training.json").read_text(encoding="utf-8"))["step"] == STEPS


def test_a_checkpoint_holds_the_averaged_weights(uninterrupted: Path) -> None:
    checkpoint = load_checkpoint(uninterrupted / "last")
    assert checkpoint.is_trained
    assert checkpoint.contract.name == "sawyer_sim"
    average = load_file(uninterrupted / "state" / f"step-{STEPS:08d}" / "average.safetensors")
    weights = load_file(uninterrupted / "state" / f"step-{STEPS:08d}" / "weights.safetensors")
    learned = dict(checkpoint.model.named_parameters())
    assert all(torch.equal(learned[name], value) for name, value in average.items())
    assert not all(torch.equal(value, weights[name]) for name, value in average.items())


def test_a_folder_of_another_training_is_left_alone(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, data, learning_rate=2e-3, clip=2.0)
    with pytest.raises(LearningError, match=r"begun with another recipe or other data: clip, learning_rate; choose"):
        training_program.run(recipe, uninterrupted)


def test_a_state_of_another_network_is_refused(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted / "state", tmp_path / "out" / "state")
    recipe = recipe_file(tmp_path, data, model={**RECIPE["model"], "width": 16})
    with pytest.raises(LearningError, match="step-00000012 is of another network; choose another output folder"):
        training_program.run(recipe, tmp_path / "out")


def test_a_broken_state_is_refused_in_words(data: Path, tmp_path: Path) -> None:
    state = tmp_path / "out" / "state" / "step-00000003"
    state.mkdir(parents=True)
    (state / "standing.json").write_text("{}", encoding="utf-8")
    with pytest.raises(LearningError, match=r"step-00000003 is not a state to go on from: .*remove it to start anew"):
        training_program.run(recipe_file(tmp_path, data), tmp_path / "out")
