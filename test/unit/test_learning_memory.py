"""A whole training of a network with a memory: by what it was shown it learns what no single frame tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from learning_builders import tiny_schema, write_demonstrations
from numpy.typing import NDArray

pytest.importorskip("torch", reason="torch is not installed")

import torch
import training_program
from safetensors.torch import load_file

from vla_ros.contract_file import load_contract
from vla_ros.data.episode import EpisodeRecord
from vla_ros.data.writer import DatasetWriter
from vla_ros.images import encode
from vla_ros.learning.collection import facts_of
from vla_ros.learning.demonstration import Take
from vla_ros.policy.vla import create
from vla_ros.resources import config_path
from vla_ros.sim.variations import Variation
from vla_ros.types import NS_PER_S, POSITION, ImageArray, Observation, Pose

SIZE, CUE_FRAMES, FRAMES, SPEED_M_S = 32, 3, 10, 0.4
LEFT, RIGHT, NOTHING = 0, 2, -1  # a colour tells where to go
TASK = "go where the colour told you to"
HAND = Pose(np.array([0.0, 0.6, 0.2]), np.array([0.0, 1.0, 0.0, 0.0]))
RECIPE: Mapping[str, Any] = {
    "steps": 4,
    "batch_size": 8,
    "warmup_steps": 2,
    "learning_rate": 2e-3,
    "alignment": 0.0,
    "checkpoint_steps": 2,
    "validation": {"every_steps": 4, "share": 0.1},
    "model": {
        "views": ["front"],
        "width": 32,
        "heads": 2,
        "dropout": 0.0,
        "vision": {"backbone": "film_conv", "image_size": SIZE, "trainable_from": 0},
        "fusion": {"layers": 1},
        "decoder": {"kind": "regression", "horizon": 4, "dt_s": 0.1, "layers": 1, "max_prefix": 0},
        "memory": "external",
        "memory_slots": 16,
    },
}


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """The training program uses one; what other tests use is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def picture(cue: int, seed: int) -> ImageArray:
    """Noise, lit by a colour or by none."""
    image = np.random.default_rng(seed).integers(60, 100, (SIZE, SIZE, 3), dtype=np.uint8)
    if cue != NOTHING:
        image[..., cue] += 120
    return image


def write_cued(folder: Path, episodes: int) -> Path:
    """First a colour is shown, and the robot waits; then none is, and it goes where that told it to."""
    schema = tiny_schema(("front",))
    with DatasetWriter(folder, schema) as writer:
        for number in range(episodes):
            cue = RIGHT if number % 2 else LEFT
            pictures = [picture(cue if t < CUE_FRAMES else NOTHING, 100 * number + t) for t in range(FRAMES)]
            columns: dict[str, NDArray[Any]] = {
                name: np.zeros((FRAMES, *feature.shape), feature.dtype) for name, feature in schema.columns.items()
            }
            state, action = columns["observation.state"], columns["action"]
            state[:, 0:3] = state[:, 7:10] = HAND.position
            state[:, 3:7] = state[:, 10:14] = action[:, 3:7] = HAND.quaternion
            state[:, 14] = action[:, 13] = 0.5
            action[CUE_FRAMES:, 7] = SPEED_M_S if cue == RIGHT else -SPEED_M_S
            take = Take(TASK, TASK, Variation("train", number), number)
            images = {"front": [encode(image, "png").pixels.tobytes() for image in pictures]}
            writer.add(EpisodeRecord(TASK, images, columns, {**facts_of(take), "success": True}))
    return folder


def recipe_file(folder: Path, data: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "data": [str(data)], **changes}), encoding="utf-8")
    return path


def look(cue: int, index: int, seed: int) -> Observation:
    """The index-th one of an episode, at 10 Hz."""
    images = {"front": picture(cue, 100_000 + 100 * seed + index)}
    return Observation(NS_PER_S + index * NS_PER_S // 10, TASK, images, HAND, HAND, None, 0.5)


def gone_m(checkpoint: Path, memory: str, cue: int, seed: int) -> list[float]:
    """How far the policy would go to the right within 0.2 s, at each look after the cue."""
    options = {"checkpoint": str(checkpoint), "committed_s": "0", "threads": "1", "memory": memory}
    policy = create(load_contract(config_path("sawyer_sim")), options)
    chunks = [policy.predict(look(cue if index < 2 else NOTHING, index, seed)) for index in range(5)]
    return [float(chunk.rows[2, POSITION][0] - HAND.position[0]) for chunk in chunks[2:]]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_policy_goes_where_it_was_told_before_as_long_as_it_remembers(tmp_path: Path) -> None:
    """Two episodes that differ in the cue alone: after it, all that is seen is the same."""
    data = write_cued(tmp_path / "data", 40)
    plain = {"shift_px": 0, "colour": 0.0, "view_dropout": 0.0, "state_noise_m": 0.0}
    how = {"steps": 240, "warmup_steps": 10, "batch_size": 16, "learning_rate": 1e-3, "augmentation": plain}
    wide = {**RECIPE["model"], "width": 64}
    checkpoint = training_program.run(recipe_file(tmp_path, data, **how, model=wide), tmp_path / "out")
    for seed in range(3):
        left, right = (gone_m(checkpoint, "episode", cue, seed) for cue in (LEFT, RIGHT))
        print("left", np.round(left, 3), "right", np.round(right, 3))
        assert max(left) < -0.03 and min(right) > 0.03, "of 0.08 m"
        assert gone_m(checkpoint, "read", LEFT, seed) == gone_m(checkpoint, "read", RIGHT, seed)


def test_a_training_with_a_past_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """With a look back as well."""
    data = write_demonstrations(tmp_path / "data", 6, schema=tiny_schema(("front",)))
    model = {**RECIPE["model"], "fusion": {"layers": 1, "history": 2}}
    recipe = recipe_file(tmp_path, data, model=model, validation={"share": 0.1, "rollout_steps": 3})
    calls = 0

    def interrupt_once(checkpoint: Path, tasks: tuple[str, ...]) -> float:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        training_program.run(recipe, tmp_path / "cut", interrupt_once)
    assert (tmp_path / "cut" / "state" / "step-00000002").is_dir()
    training_program.run(recipe, tmp_path / "cut", interrupt_once)
    training_program.run(recipe, tmp_path / "whole")
    for name in ("weights", "average", "optimiser"):
        cut, whole = (
            load_file(tmp_path / out / "state" / f"step-00000004/{name}.safetensors") for out in ("cut", "whole")
        )
        assert [key for key, value in whole.items() if not torch.equal(cut[key], value)] == []
    learned = load_file(tmp_path / "whole" / "state" / "step-00000004/optimiser.safetensors")
    for part in ("memory.external_memory.value_encoder", "fusion.temporal_attention"):
        assert any(key.startswith(part) for key in learned), part
