"""Where config/ and checkpoints/ are: in the source tree, in a colcon workspace, or in a Python environment."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from vla_ros.errors import VlaRosError

PACKAGE = "vla_ros"
# What every checkpoint has, and what it may have: all that a chunk depends on; what else lies there does not count.
CHECKPOINT_PARTS = ("config.json", "model.safetensors", "statistics.json", "contract.yaml")
CHECKPOINT_MEMORY = "memory.safetensors"


def config_path(name: str) -> Path:
    """The file of config/ called `name`, with or without .yaml; `training/mt10` is in a folder of it.

    Raises VlaRosError, which lists the names there are in that folder.
    """
    directories = _config_directories()
    for directory in directories:
        for path in (directory / name, directory / f"{name}.yaml"):
            if path.is_file():
                return path
    wanted = Path(name)
    names = sorted({path.name for directory in directories for path in (directory / wanted.parent).glob("*.yaml")})
    where = f" in config/{wanted.parent}" if wanted.parent != Path() else ""
    choices = ", ".join(names) or "none: the folder is missing"
    raise VlaRosError(f"there is no config file {wanted.name!r}{where}; choose one of {choices}")


def named_file(text: str, folder: str = "") -> Path:
    """A file as users name it: a path, or the name of one in config/ or in a folder of that.

    Raises VlaRosError, which lists the names; a path that leads nowhere is left to whoever opens it.
    """
    path = Path(text)
    if path.is_file() or path.parent != Path():
        return path.resolve()
    return config_path(str(Path(folder, text)))


def checkpoint_path(name: str) -> Path:
    """A checkpoint as users name it: a folder, or the name of one that comes with the package.

    Raises VlaRosError, which lists the names there are.
    """
    if Path(name).is_dir():
        return Path(name)
    shipped = {path.name: path for share in reversed(_shares()) for path in (share / "checkpoints").glob("*/")}
    if name not in shipped:
        raise VlaRosError(f"{name!r} is no folder, and no checkpoint of the package's: {', '.join(shipped) or 'none'}")
    return shipped[name]


def checkpoint_files(folder: Path) -> list[Path]:
    """All files of a checkpoint that a chunk depends on."""
    memory = folder / CHECKPOINT_MEMORY
    return [*(folder / part for part in CHECKPOINT_PARTS), *([memory] if memory.is_file() else [])]


def digest(files: Iterable[Path]) -> str:
    """64 hex digits of what is in files, in their order. Raises VlaRosError where one cannot be read."""
    try:
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    except OSError as error:
        raise VlaRosError(f"{error.filename} cannot be read: {error.strerror}") from error
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _config_directories() -> list[Path]:
    return [share / "config" for share in _shares()]


def _shares() -> list[Path]:
    """The source tree first, since it belongs to the code that runs; then what is installed."""
    source_tree = Path(__file__).resolve().parents[1]
    # The ament index is these prefixes; reading them here keeps this module free of ROS.
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shares = [prefix / "share" / PACKAGE for prefix in (*prefixes, Path(sys.prefix))]
    return [share for share in (source_tree, *shares) if (share / "package.xml").is_file()]
