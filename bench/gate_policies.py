"""Networks that are wrong in a known way, for a gate to catch, and others that are as good, for it to let pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vla_ros.contract import Contract
from vla_ros.errors import PolicyError
from vla_ros.policy.protocol import Policy
from vla_ros.policy.registry import create_policy
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import CHECKPOINT_PARTS
from vla_ros.types import ACTION_WIDTH, QUATERNION, Chunk, Needs, Observation

_CHANGE = "change"
_TOO_LARGE = 1.5


@dataclass(frozen=True, eq=False)
class _Changed:
    """A policy that is shown something else than what there is to see."""

    policy: Policy
    change: str

    @property
    def needs(self) -> Needs:
        return self.policy.needs

    def predict(self, observation: Observation) -> Chunk:
        return self.policy.predict(_CHANGES[self.change](observation))


def create(contract: Contract, options: Mapping[str, str]) -> Policy:
    """`bench.gate_policies:create`: the policy `vla`, changed. change: cameras or instruction; the rest is vla's."""
    change = options.get(_CHANGE, "")
    if change not in _CHANGES:
        raise PolicyError(f"the option {_CHANGE} is {change!r}; choose from {', '.join(_CHANGES)}")
    inner = {name: value for name, value in options.items() if name != _CHANGE}
    return _Changed(create_policy("vla", contract, inner), change)


def _swapped_cameras(observation: Observation) -> Observation:
    """Each view has the pictures of the next."""
    views = list(observation.images)
    pictures = [observation.images[view] for view in (*views[1:], views[0])]
    return replace(observation, images=dict(zip(views, pictures, strict=True)))


def _opposite_instruction(observation: Observation) -> Observation:
    """Open for close, and close for open; what has no opposite stays."""
    table = load_sentences()
    task = table.known_task(observation.instruction)
    if task is None or not any(task in pair for pair in table.opposites):
        return observation
    return replace(observation, instruction=table.usual(table.opposite(task)))


_CHANGES = {"cameras": _swapped_cameras, "instruction": _opposite_instruction}


def in_bf16(source: Path, folder: Path) -> Path:
    """A copy whose weights are rounded to bf16."""
    _copy(source, folder)
    weights = load_file(folder / "model.safetensors")
    rounded = {
        name: tensor.to(torch.bfloat16).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    save_file(rounded, folder / "model.safetensors", {"format": "pt"})
    return folder


def without_normalisation(source: Path, folder: Path) -> Path:
    """A copy that takes actions and states as the network has them: mean 0, but for rotations, and deviation 1."""
    return _with_statistics(source, folder, {"mean": _none_but_rotation, "std": lambda values: [1.0] * len(values)})


def with_large_actions(source: Path, folder: Path) -> Path:
    """A copy with another robot's normalisation: actions come out half as large again."""
    changes = {"std": lambda values: [_TOO_LARGE * value for value in values]}
    return _with_statistics(source, folder, changes, ("action_statistics",))


def _with_statistics(
    source: Path,
    folder: Path,
    changes: Mapping[str, Callable[[list[float]], list[float]]],
    parts: tuple[str, ...] = ("action_statistics", "state_statistics"),
) -> Path:
    _copy(source, folder)
    path = folder / "statistics.json"
    statistics = json.loads(path.read_text(encoding="utf-8"))
    for part in parts:
        for name, change in changes.items():
            statistics[part][name] = change(statistics[part][name])
    path.write_text(json.dumps(statistics), encoding="utf-8")
    return folder


def _none_but_rotation(mean: list[float]) -> list[float]:
    """A quaternion of zeros is refused when the checkpoint is loaded."""
    rotation = range(ACTION_WIDTH)[QUATERNION]
    return [value if place in rotation else 0.0 for place, value in enumerate(mean)]


def _copy(source: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in CHECKPOINT_PARTS:
        shutil.copyfile(source / part, folder / part)
