"""Where the files of config/ are: in the source tree, in a colcon workspace, or in a Python environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vla_ros.errors import VlaRosError

PACKAGE = "vla_ros"


def config_path(name: str) -> Path:
    """The file of config/ called `name`, with or without .yaml.

    Raises VlaRosError, which lists the names there are.
    """
    directories = _config_directories()
    for directory in directories:
        for path in (directory / name, directory / f"{name}.yaml"):
            if path.is_file():
                return path
    names = sorted({path.name for directory in directories for path in directory.glob("*.yaml")})
    raise VlaRosError(
        f"there is no config file {name!r}; choose one of {', '.join(names) or 'none: config/ is missing'}"
    )


def _config_directories() -> list[Path]:
    """The source tree first, since it belongs to the code that runs; then what is installed."""
    source_tree = Path(__file__).resolve().parents[1]
    # The ament index is these prefixes; reading them here keeps this module free of ROS.
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shares = [prefix / "share" / PACKAGE for prefix in (*prefixes, Path(sys.prefix))]
    return [share / "config" for share in (source_tree, *shares) if (share / "package.xml").is_file()]
