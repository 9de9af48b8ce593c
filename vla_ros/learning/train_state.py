"""What a training needs to go on after it was cut off, on disk: weights, their average, the optimiser, where it stood.

Safetensors and JSON only. A state is a folder of its own, written under another name first, so that there is always a
whole one; older ones are removed after that.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_ros.errors import LearningError
from vla_ros.learning.curriculum import Progress
from vla_ros.learning.trainer import CurriculumTrainer

_PREFIX = "step-"
_FILES = ("weights", "average", "optimiser")


@dataclass(frozen=True)
class Standing:
    """Where a training stands. best: the highest score so far, of which step; -1 before the first."""

    step: int
    stage: int
    batches: int
    best_score: float = -1.0
    best_step: int = -1


def save_state(folder: Path, trainer: CurriculumTrainer, best_score: float, best_step: int) -> None:
    """Write a new state, then remove the older ones. Raises LearningError if the disk is full."""
    path = folder / f"{_PREFIX}{trainer.step:08d}"
    draft = folder / f".{path.name}"
    standing = Standing(trainer.step, trainer.progress.stage, trainer.progress.batches, best_score, best_step)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, tensors in zip(_FILES, _tensors(trainer), strict=True):
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, _file(draft, name))
        (draft / "standing.json").write_text(json.dumps(asdict(standing)) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise LearningError(f"the state of the training cannot be written to {path}: {error}") from error
    for older in _states(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def resume(folder: Path, trainer: CurriculumTrainer) -> Standing | None:
    """Put the newest state into a trainer; None if there is none. Raises LearningError for one that does not fit."""
    states = _states(folder)
    if not states:
        return None
    path = states[-1]
    try:
        standing = Standing(**json.loads((path / "standing.json").read_text(encoding="utf-8")))
        loaded = [load_file(_file(path, name)) for name in _FILES]
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise LearningError(f"{path} is not a state to go on from: {error}; remove it to start anew") from error
    weights, average, moments = loaded
    shapes = {name: value.shape for name, value in trainer.trained.items()}
    if {name: value.shape for name, value in weights.items()} != shapes:
        raise LearningError(f"{path} is of another network; choose another output folder, or remove it")
    with torch.no_grad():
        for name, value in trainer.trained.items():
            value.copy_(weights[name])
            trainer.average[name].copy_(average[name])
    _load_moments(trainer, moments)
    trainer.step = standing.step
    trainer.progress = Progress(standing.stage, standing.batches)
    return standing


def _tensors(trainer: CurriculumTrainer) -> tuple[Mapping[str, Tensor], ...]:
    moments = {
        f"{name}/{part}": value
        for name, parameter in trainer.trained.items()
        for part, value in trainer.optimiser.state[parameter].items()
    }
    return trainer.trained, trainer.average, moments


def _load_moments(trainer: CurriculumTrainer, moments: Mapping[str, Tensor]) -> None:
    """AdamW's state, by parameter name and part."""
    by_parameter: dict[str, dict[str, Any]] = {}
    for key, value in moments.items():
        name, _, part = key.rpartition("/")
        device = torch.device("cpu") if part == "step" else trainer.trained[name].device
        by_parameter.setdefault(name, {})[part] = value.to(device)
    for name, state in by_parameter.items():
        parameter = trainer.trained[name]
        for part in ("exp_avg", "exp_avg_sq"):
            # In the parameter's own memory layout, as if it had never been written down.
            state[part] = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(state[part])
        trainer.optimiser.state[parameter] = state


def _states(folder: Path) -> list[Path]:
    """Whole states, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"
