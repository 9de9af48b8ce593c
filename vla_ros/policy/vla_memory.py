"""What the policy `vla` recalls from: a memory that is only read, or one that grows with what is experienced, until the
instruction ends or for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from vla_ros.errors import ModelError, PolicyError
from vla_ros.model.checkpoint import Checkpoint
from vla_ros.model.memory import MemoryState
from vla_ros.model.memory_file import load_memory, save_memory
from vla_ros.model.vla import Perception, VLAModel
from vla_ros.types import NS_PER_S

MEMORY_OPTIONS = {
    "memory": "read; episode to add what is experienced, and forget it at the next instruction; write to add it and "
    "keep it; default: read",
    "memory_file": "a memory to begin with instead of the checkpoint's; with memory=write it is kept there",
}
# Nobody tells a worker that its end is near: at most so much experience is lost then.
_KEPT_EVERY_S = 10.0

_log = logging.getLogger("memory")


class Recollection:
    """A memory as it is; None for a network without one."""

    def __init__(self, memory: MemoryState | None) -> None:
        self.memory = memory

    def begin(self) -> None:
        """What is perceived from now on is for another instruction, or comes after a gap; the memory stays."""

    def experience(self, model: VLAModel, perception: Perception, t_obs_ns: int) -> None:
        """Something was perceived with this memory, which stays what it is."""


class EpisodicRecollection(Recollection):
    """A memory to which everything perceived is added, and which is at each beginning what it was at first."""

    def __init__(self, memory: MemoryState) -> None:
        super().__init__(memory)
        self._first = memory

    def begin(self) -> None:
        """Forget what was added."""
        self.memory = self._first

    def experience(self, model: VLAModel, perception: Perception, t_obs_ns: int) -> None:
        """Add it."""
        self.memory = model.remember(perception)


class GrowingRecollection(Recollection):
    """A memory to which everything perceived is added. file: where it is kept, if anywhere."""

    def __init__(self, memory: MemoryState, file: Path | None) -> None:
        super().__init__(memory)
        self._file = file
        self._kept_ns: int | None = None

    def experience(self, model: VLAModel, perception: Perception, t_obs_ns: int) -> None:
        """Add it. A file that cannot be written is told of, and tried again later: the robot need not stop for it."""
        self.memory = model.remember(perception)
        if self._file is None or not self._is_due(t_obs_ns):
            return
        self._kept_ns = t_obs_ns
        try:
            save_memory(self._file, self.memory)
        except ModelError as error:
            _log.warning("%s", error)

    def _is_due(self, t_obs_ns: int) -> bool:
        """At the first experience, too, so that a file that cannot be written is known early; the clock may jump."""
        return self._kept_ns is None or not 0 <= t_obs_ns - self._kept_ns < _KEPT_EVERY_S * NS_PER_S


def recollection(options: Mapping[str, str], checkpoint: Checkpoint) -> Recollection:
    """As the policy's options ask for. Raises PolicyError, or ModelError for a file that does not fit."""
    how = options.get("memory", "read")
    if how not in ("read", "episode", "write"):
        raise PolicyError(f"the option memory is {how!r}; choose read, episode or write")
    file = Path(options["memory_file"]) if "memory_file" in options else None
    if checkpoint.memory is None:
        if how != "read" or file is not None:
            raise PolicyError(f"the network of {checkpoint.folder} has no memory: leave out memory and memory_file")
        return Recollection(None)
    memory = _begun(checkpoint.memory, file, how)
    if how == "episode":
        return EpisodicRecollection(memory)
    return GrowingRecollection(memory, file) if how == "write" else Recollection(memory)


def _begun(memory: MemoryState, file: Path | None, how: str) -> MemoryState:
    """What the file holds; the checkpoint's without one, or where the file is still to be written."""
    if file is None:
        return memory
    if file.is_file():
        return load_memory(file, memory)
    if how != "write":
        raise PolicyError(f"there is no memory {file}; only with memory=write a new one is begun")
    if not file.parent.is_dir():
        raise PolicyError(f"the memory {file} cannot be kept: {file.parent} is no folder")
    return memory
