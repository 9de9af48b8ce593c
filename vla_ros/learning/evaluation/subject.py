"""Who is evaluated: a checkpoint, or any other policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros import __version__
from vla_ros.contract_file import load_contract
from vla_ros.errors import LearningError
from vla_ros.resources import CHECKPOINT_PARTS, checkpoint_files, config_path, digest
from vla_ros.sim.robots import RobotKind, kind_of

CONTRACT = "sawyer_sim"
_POLICY = "vla"
_TRAINING = "training.json"


@dataclass(frozen=True)
class Subject:
    """A policy as a worker loads it. contract: the robot's file; options: of the policy; checkpoint: its folder."""

    policy: str
    contract: Path
    options: Mapping[str, str]
    checkpoint: Path | None = None

    @property
    def kind(self) -> RobotKind:
        """The simulated robot that it is run on. Raises SimError for a contract of a robot that is not simulated."""
        return kind_of(load_contract(self.contract))

    @property
    def worker_options(self) -> Mapping[str, str]:
        """Where several of them run side by side, each has one thread."""
        return {"threads": "1", **self.options} if self.policy == _POLICY else self.options

    def identity(self) -> Mapping[str, Any]:
        """JSON that two subjects share if they decide alike. Raises VlaRosError where a file cannot be read."""
        files = [self.contract] if self.checkpoint is None else checkpoint_files(self.checkpoint)
        options = {name: value for name, value in self.options.items() if name != "checkpoint"}
        return {"policy": self.policy, "options": options, "files": digest(files), "version": __version__}


def checkpoint_subject(folder: Path, options: Mapping[str, str] | None = None) -> Subject:
    """A checkpoint on the robot that it was made for.

    Raises LearningError for a folder that is none, and for options by which a trial would depend on those before it.
    """
    for part in CHECKPOINT_PARTS:
        if not (folder / part).is_file():
            raise LearningError(f"{folder} is not a checkpoint: it has no {part}")
    given = {**(options or {}), "checkpoint": str(folder.resolve())}
    if "memory_file" in given:
        raise LearningError("leave out the option memory_file: every trial begins with the checkpoint's own memory")
    if given.get("memory") == "write":
        raise LearningError("the option memory is 'write': trials would depend on each other; choose read or episode")
    return Subject(_POLICY, (folder / "contract.yaml").resolve(), given, folder)


def policy_subject(policy: str, options: Mapping[str, str] | None = None, contract: Path | None = None) -> Subject:
    """A policy by name on a simulated robot. contract: its file; of the arm unless given.

    Raises LearningError for a policy that needs a checkpoint.
    """
    if policy == _POLICY:
        raise LearningError(f"the policy '{_POLICY}' needs a checkpoint: vla_ros evaluate CHECKPOINT")
    return Subject(policy, contract or config_path(CONTRACT), options or {})


def trained_tasks(folder: Path) -> tuple[str, ...]:
    """The tasks that a checkpoint's record of training names; empty without one. Raises LearningError."""
    path = folder / _TRAINING
    if not path.is_file():
        return ()
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    except (ValueError, KeyError, TypeError) as error:
        raise LearningError(f"{path}: not a record of training that names its tasks") from error
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise LearningError(f"{path}: tasks must be a list of names")
    return tuple(tasks)
