"""A memory as a file in safetensors' format, such as memory.safetensors of a checkpoint."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vla_ros.errors import ModelError
from vla_ros.model.memory import MemoryState

_NAMES = tuple(field.name for field in fields(MemoryState))


def save_memory(path: Path, memory: MemoryState) -> None:
    """Write it, in the place of an older one: whoever reads finds a whole file. Raises ModelError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {name: getattr(memory, name).detach().cpu().contiguous() for name in _NAMES}
    try:
        save_file(tensors, draft)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the memory {path} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def load_memory(path: Path, empty: MemoryState) -> MemoryState:
    """Read one for a network whose empty memory is given, to its device. Raises ModelError where it does not fit."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file that can be read: {error}") from error
    if set(tensors) != set(_NAMES):
        raise ModelError(f"{path}: not a memory: it must have {', '.join(_NAMES)}, and nothing else")
    for name, found in tensors.items():
        wanted = getattr(empty, name)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise ModelError(
                f"{path}: its {name} are {found.dtype} of shape {tuple(found.shape)}; "
                f"those of the network are {wanted.dtype} of {tuple(wanted.shape)}"
            )
        if not found.isfinite().all():
            raise ModelError(f"{path}: its {name} are not all finite")
    memory = MemoryState(**tensors)
    if not torch.allclose(memory.keys.norm(dim=-1), memory.used.to(memory.keys.dtype), atol=1e-3):
        raise ModelError(f"{path}: its keys must have length 1 where a slot is used, and 0 where it is not")
    return memory.to(empty.keys.device)
