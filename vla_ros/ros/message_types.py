"""Message classes by their full names."""

from __future__ import annotations

import importlib

from vla_ros.errors import BagError


def message_class(full_name: str) -> type:
    """The class of "sensor_msgs/msg/Image". Raises BagError naming the package that is missing."""
    *modules, name = full_name.split("/")
    try:
        return getattr(importlib.import_module(".".join(modules)), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BagError(
            f"message type {full_name} is not known here: install package {modules[0] if modules else full_name}"
        ) from error
