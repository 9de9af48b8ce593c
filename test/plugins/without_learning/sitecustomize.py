"""First on PYTHONPATH, this makes an interpreter one in which what learning and simulation need is not installed."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

MISSING = ("torch", "transformers", "metaworld", "mujoco")


class Uninstalled(MetaPathFinder):
    """Finds nothing, loudly."""

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> None:
        if fullname.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {fullname!r} (uninstalled for a test)", name=fullname)


sys.meta_path.insert(0, Uninstalled())
