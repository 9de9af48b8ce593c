"""Read one YAML mapping and refuse everything that YAML would let pass in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ContractError

_MAX_BYTES = 1_000_000  # a contract has a few thousand


def read_mapping(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file. Anchors and merge keys are allowed, duplicate keys are not.

    Raises ContractError, one line per fault, each beginning with the file's name (and line and column if it has one).
    """
    text = _read_text(path)
    try:
        content, duplicates = _parse(text)
    except yaml.MarkedYAMLError as error:
        raise ContractError(f"{path}: {_place(error)}not valid YAML: {_reason(error)}") from error
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ContractError(f"{path}: nested too deeply, or an anchor that contains itself") from error
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's own converters stumble so over the date 2026-99-99, `!!bool maybe` and `!!timestamp noon`.
        raise ContractError(f"{path}: holds a value that cannot be read: {error}") from error
    if duplicates:
        raise ContractError("\n".join(f"{path}: {duplicate}" for duplicate in duplicates))
    if not isinstance(content, dict):
        found = "is empty" if content is None else f"is a {type(content).__name__}"
        raise ContractError(f"{path}: {found}; must be a mapping of keys to values")
    return content


def _parse(text: str) -> tuple[Any, list[str]]:
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data(), loader.duplicates
    finally:
        loader.dispose()


def _read_text(path: Path) -> str:
    try:
        return _read_ordinary_file(path).decode("utf-8")
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ContractError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _read_ordinary_file(path: Path) -> bytes:
    if path.is_dir():
        raise ContractError(f"{path}: is a directory; name the YAML file in it")
    if not path.exists():
        raise ContractError(f"{path}: no such file")
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise ContractError(f"{path}: must be an ordinary file of at most {_MAX_BYTES} bytes")
    return path.read_bytes()


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _reason(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that remembers keys written twice (the last one would win without a word)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.duplicates: list[str] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not in construct_mapping: merge keys are still unmerged, and what they bring may be overridden.
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            mark, name = key.start_mark, (key.tag, key.value)
            if name in seen:
                place = f"line {mark.line + 1}, column {mark.column + 1}"
                self.duplicates.append(f"{place}: key '{key.value}' is already given on line {seen[name] + 1}")
            seen.setdefault(name, mark.line)
        return node
