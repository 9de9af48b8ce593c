"""Definitions of ROS message types for bags, without ROS: from rosbags' Jazzy store, or from an installed .msg file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import BagError

NEEDED = "bags need rosbags and mcap: pip install rosbags mcap"

try:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.store import Typestore
except ImportError as _error:
    raise BagError(f"{NEEDED} ({_error})") from _error

FIELD_TYPE = re.compile(r"^\s*([A-Za-z]\w*(?:/\w+)*)", re.MULTILINE)


@dataclass(frozen=True)
class Definition:
    """A message type as a bag stores it. text: the .msg text with all nested types; digest: its RIHS01 hash."""

    type: str
    text: str
    digest: str


def define(message_type: str, environ: Mapping[str, str] = os.environ) -> Definition:
    """The definition of an installed type, such as "sensor_msgs/msg/Image". Raises BagError if nothing defines it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    _register_installed(store, message_type, _share_folders(environ))
    return _definition(store, message_type)


def define_from_text(message_type: str, text: str) -> Definition:
    """The definition of a type whose full text, nested types included, is at hand."""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(text, message_type))
    return _definition(store, message_type)


def _definition(store: Typestore, message_type: str) -> Definition:
    text, _ = store.generate_msgdef(message_type, ros_version=2)
    return Definition(message_type, text, store.hash_rihs01(message_type))


def _share_folders(environ: Mapping[str, str]) -> list[Path]:
    prefixes = [*environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    return [Path(prefix) / "share" for prefix in prefixes if prefix]


def _register_installed(store: Typestore, message_type: str, folders: list[Path]) -> None:
    """Register a type that the store does not know, and what it is made of."""
    if message_type in store.fielddefs:
        return
    text = _installed_text(message_type, folders)
    for nested in _nested_types(message_type, text):
        _register_installed(store, nested, folders)
    store.register(get_types_from_msg(text, message_type))


def _installed_text(message_type: str, folders: list[Path]) -> str:
    package = message_type.partition("/")[0]
    for folder in folders:
        file = folder / f"{message_type}.msg"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise BagError(f"no definition of message type {message_type}: package {package} is not installed here")


def _nested_types(message_type: str, text: str) -> list[str]:
    """Full names of the types of a .msg text's fields, builtin ones left out."""
    package = message_type.partition("/")[0]
    names = []
    for name in FIELD_TYPE.findall(text):
        if "/" in name:
            names.append(name if "/msg/" in name else name.replace("/", "/msg/"))
        elif name[0].isupper():
            names.append(f"{package}/msg/{name}")
    return names
