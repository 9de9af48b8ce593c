"""Who decides in a replay, and all that the decisions depend on: what two logs must share to be the same."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import cv2

import vla_ros
from vla_ros.contract import Contract
from vla_ros.contract_file import contract_digest, load_contract
from vla_ros.errors import BagError, ReplayError
from vla_ros.policy.protocol import Policy
from vla_ros.policy.registry import create_policy
from vla_ros.replay.policy_player import RECORDED, Latency
from vla_ros.resources import CHECKPOINT_MEMORY, CHECKPOINT_PARTS, checkpoint_files, digest
from vla_ros.types import Json

VLA = "vla"
# What computes pixels, chunks and commands; by the names that packages are installed by.
_LIBRARIES = ("numpy", "torch", "transformers")
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Subject:
    """A policy as a worker loads it. name: in results; contract: the robot's file; checkpoint: its folder, if any.

    threads: of the CPU, for the network of a checkpoint; nothing to any other policy.
    """

    name: str
    policy: str
    options: Mapping[str, str]
    contract: Path
    checkpoint: Path | None = None
    threads: int = 1

    def load(self, contract: Contract) -> Policy:
        """Anew for each bag: a policy may remember. Raises PolicyError, ModelError, or ReplayError for the option of
        a memory that outlives the replay: the next one would decide otherwise.
        """
        if self.policy == VLA and "memory_file" in self.options:
            raise ReplayError(
                "leave out the option memory_file: a replay begins with the checkpoint's own memory; to begin with a "
                f"file's, put it into a copy of the checkpoint as {CHECKPOINT_MEMORY}"
            )
        return create_policy(self.policy, contract, self._all_options())

    def identity(self) -> Json:
        """What its decisions depend on. Raises VlaRosError where a file cannot be read."""
        facts: Json = {
            "policy": self.policy,
            "options": dict(sorted(self.options.items())),
            "contract": contract_digest(load_contract(self.contract)),
        }
        if self.checkpoint is None:
            return facts
        return {**facts, "checkpoint": digest(checkpoint_files(self.checkpoint)), "threads": self.threads}

    def _all_options(self) -> Mapping[str, str]:
        if self.checkpoint is None:
            return self.options
        return {**self.options, "checkpoint": str(self.checkpoint), "threads": str(self.threads)}


def checkpoint_subject(
    folder: Path, options: Mapping[str, str], threads: int, contract: Path | None = None, name: str = ""
) -> Subject:
    """A checkpoint on a robot: the one that it was made for, unless told otherwise. Raises ReplayError."""
    for part in CHECKPOINT_PARTS:
        if not (folder / part).is_file():
            raise ReplayError(f"{folder} is not a checkpoint: it has no {part}")
    folder = folder.resolve()
    return Subject(name or folder.name, VLA, options, contract or folder / "contract.yaml", folder, threads)


def identity(subject: Subject, bag: Path, latency: Latency | None, given: Json) -> Json:
    """The first line of a log. given: how much of the bag is replayed, and what was said beside it."""
    return {
        **subject.identity(),
        "latency": RECORDED if latency is None else latency,
        "bag": bag_digest(bag),
        **given,
        "machine": {"kind": platform.machine(), "processor": _processor()},
        "versions": {
            "vla_ros": vla_ros.__version__,
            "python": platform.python_version(),
            "opencv": cv2.__version__,  # also where apt brought it
            **{name: _version(name) for name in _LIBRARIES},
        },
    }


def bag_digest(bag: Path) -> str:
    """64 hex digits of a bag of any size: names and sizes of its files, and the first and last MiB of each.

    Where a bag is, and what its folder is called, makes no difference. Raises BagError.
    """
    files = [bag] if bag.is_file() else sorted(file for file in bag.rglob("*") if file.is_file())
    total = hashlib.sha256()
    try:
        for file in files:
            size = file.stat().st_size
            total.update(f"{file.name}\n{size}\n".encode())
            with file.open("rb") as stream:
                total.update(stream.read(_SAMPLE_BYTES))
                stream.seek(max(0, size - _SAMPLE_BYTES))
                total.update(stream.read(_SAMPLE_BYTES))
    except OSError as error:
        raise BagError(f"{error.filename} cannot be read: {error.strerror}") from error
    return total.hexdigest()


@cache
def code_digest() -> str:
    """64 hex digits of this package's modules: a result of other code is not used again."""
    return digest(sorted(Path(vla_ros.__file__).parent.rglob("*.py")))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown")
