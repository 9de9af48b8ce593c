"""A trained network as a folder: config.json, model.safetensors, statistics.json, contract.yaml; memory.safetensors,
without which the memory of a network that has one is empty.

What is frozen comes from its package or hub and is not in the file, nor are tokenizer and preprocessing; their digest
is, so that other ones are refused. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.config import from_mapping, to_mapping
from vla_ros.model.memory import MemoryState
from vla_ros.model.memory_file import load_memory, save_memory
from vla_ros.model.vla import VLAModel
from vla_ros.resources import CHECKPOINT_MEMORY

FORMAT = 1
CONFIG, WEIGHTS, STATISTICS, CONTRACT = "config.json", "model.safetensors", "statistics.json", "contract.yaml"
_STATISTICS_PARTS = ("action_statistics", "state_statistics")
_STATISTICS_FIELDS = ("mean", "std", "low", "high")
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a folder holds. model: in eval mode. is_trained: whether it has learned anything.

    memory: what it remembers; None for a network without a memory.
    """

    folder: Path
    model: VLAModel
    contract: Contract
    is_trained: bool
    memory: MemoryState | None


def save_checkpoint(
    folder: Path, model: VLAModel, contract: Contract, is_trained: bool, memory: MemoryState | None = None
) -> None:
    """Write a new folder, whole or not at all. contract: of the robot that it is for; the rest: see Checkpoint.

    Raises ModelError if there is one already, or it cannot be written.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists already; choose another folder or remove it")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        frozen = frozen_keys(model)
        record = _Record(FORMAT, is_trained, _digest(model, frozen), to_mapping(model.config))
        (draft / CONFIG).write_text(json.dumps(dataclasses.asdict(record), indent=2) + "\n", encoding="utf-8")
        (draft / STATISTICS).write_text(json.dumps(_statistics(model), indent=2) + "\n", encoding="utf-8")
        # Through JSON: YAML would write tuples as Python objects.
        plain = json.loads(json.dumps(dataclasses.asdict(contract)))
        (draft / CONTRACT).write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        save_file(_own_tensors(model, frozen), draft / WEIGHTS)
        (draft / WEIGHTS).chmod((draft / CONFIG).stat().st_mode)  # safetensors writes for its owner alone
        if memory is not None:
            save_memory(draft / CHECKPOINT_MEMORY, memory)
        draft.replace(folder)
    except OSError as error:
        raise ModelError(f"the checkpoint {folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Build the network and load its weights, strictly. Raises ModelError or ContractError, in words."""
    record = _read_record(folder / CONFIG)
    config = from_mapping(record.model, str(folder / CONFIG))
    statistics = _read_statistics(folder / STATISTICS)
    contract = load_contract(_existing(folder / CONTRACT))
    model = VLAModel(config, *statistics)
    frozen = frozen_keys(model)
    _load_weights(model, frozen, _existing(folder / WEIGHTS))
    if _digest(model, frozen) != record.pretrained_sha256:
        raise ModelError(
            f"{folder}: the backbones, tokenizer or preprocessing here are not those that it was made with: "
            f"install the versions of then, or train it anew"
        )
    model = model.to(device).eval()
    return Checkpoint(folder, model, contract, record.is_trained, _memory(folder / CHECKPOINT_MEMORY, model))


@dataclass(frozen=True)
class _Record:
    """config.json. pretrained_sha256: of all that the network needs and the folder does not hold."""

    format: int
    is_trained: bool
    pretrained_sha256: str
    model: dict[str, Any]


def _read_record(path: Path) -> _Record:
    record = _read_json(path)
    if record.get("format") != FORMAT:
        raise ModelError(f"{path}: its format is {record.get('format')!r}; this version reads {FORMAT}")
    kinds = {"format": int, "is_trained": bool, "pretrained_sha256": str, "model": dict}
    if set(record) != set(kinds) or not all(type(record[key]) is kind for key, kind in kinds.items()):
        raise ModelError(f"{path}: it must have the keys {', '.join(kinds)}, and no others")
    return _Record(**record)


def frozen_keys(model: nn.Module) -> frozenset[str]:
    """Names of all tensors that training never changes: frozen parameters, and buffers of modules with only such."""
    return frozenset(_frozen_keys(model))


def _frozen_keys(model: nn.Module) -> Iterator[str]:
    for prefix, module in model.named_modules():
        parameters = list(module.named_parameters(prefix, recurse=False))
        yield from (name for name, parameter in parameters if not parameter.requires_grad)
        if parameters and not any(parameter.requires_grad for _, parameter in parameters):
            yield from (name for name, _ in module.named_buffers(prefix, recurse=False))


def _own_tensors(model: VLAModel, frozen: frozenset[str]) -> dict[str, Tensor]:
    """Everything that belongs into model.safetensors."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name not in frozen and not name.startswith(_STATISTICS_PARTS)
    }


def _digest(model: VLAModel, frozen: frozenset[str]) -> str:
    """64 hex digits that name the frozen tensors' content, the tokenizer and each view's preprocessing."""
    preprocessing = [repr(encoder.preprocessing) for encoder in model.vision.all_encoders()]
    total = hashlib.sha256("\n".join([*preprocessing, model.language.word_encoder.vocabulary()]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name in frozen:
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def _load_weights(model: VLAModel, frozen: frozenset[str], path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file that can be read: {error}") from error
    wanted = _own_tensors(model, frozen)
    faults = [
        *_named("missing", sorted(set(wanted) - set(tensors))),
        *_named("unknown", sorted(set(tensors) - set(wanted))),
        *_named("of another shape", [name for name in wanted if name in tensors and _differ(wanted, tensors, name)]),
    ]
    if faults:
        raise ModelError(f"{path}: its weights do not fit its {CONFIG}: {'; '.join(faults)}")
    model.load_state_dict(tensors, strict=False)


def _memory(path: Path, model: VLAModel) -> MemoryState | None:
    if model.memory is None:
        if path.exists():
            raise ModelError(f"{path} is of no use: by its {CONFIG} the network has no memory")
        return None
    empty = model.memory.external_memory.empty()
    return load_memory(path, empty) if path.exists() else empty


def _differ(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], name: str) -> bool:
    return wanted[name].shape != found[name].shape or wanted[name].dtype != found[name].dtype


def _named(fault: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{fault}: {', '.join(names[:_SHOWN])}{more}"]


def _statistics(model: VLAModel) -> dict[str, dict[str, list[float]]]:
    return {
        part: {name: getattr(getattr(model, part), name).tolist() for name in _STATISTICS_FIELDS}
        for part in _STATISTICS_PARTS
    }


def _read_statistics(path: Path) -> tuple[ActionStatistics, ActionStatistics]:
    record = _read_json(path)
    try:
        action, state = (
            ActionStatistics(*(torch.tensor(record[part][name], dtype=torch.float32) for name in _STATISTICS_FIELDS))
            for part in _STATISTICS_PARTS
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: it must have {' and '.join(_STATISTICS_PARTS)}, each with {', '.join(_STATISTICS_FIELDS)}"
        ) from error
    return action, state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_existing(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ModelError(f"{path}: not a mapping")
    return record


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path.parent} is not a checkpoint: it has no {path.name}")
    return path
