"""Build frozen dataclasses from plain mappings, by their type hints, and collect every fault instead of the first.

Understood: Any, str, bool, int, float, Literal, Annotated, Optional, tuple (fixed length or "..."), Mapping[str, X]
and dataclasses of these. An `Annotated` type carries checks: functions from a value to a complaint or None.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Check = Callable[[Any], str | None]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """One fault. path: dotted keys from the file's root, such as limits.workspace_m.min; text: what is wrong."""

    path: str
    text: str


class Broken:
    """What stands in for a value that could not be built; its problems have been noted."""


BROKEN: Final = Broken()


def build(cls: type[T], source: Any, path: str, problems: list[Problem]) -> T | Broken:
    """An instance of the dataclass `cls`, or BROKEN. Appends what is wrong to `problems`."""
    fields = build_fields(cls, source, path, problems)
    if fields is BROKEN or any(value is BROKEN for value in cast("dict[str, Any]", fields).values()):
        return BROKEN
    return cls(**cast("dict[str, Any]", fields))


def build_or_refuse(cls: type[T], source: Any, refused: Callable[[str], Exception]) -> T:
    """An instance of `cls` from a whole file. refused: makes of all faults, a line each, what is raised."""
    problems: list[Problem] = []
    built = build(cls, source, "", problems)
    if problems or isinstance(built, Broken):
        raise refused("".join(f"\n  {problem.path}: {problem.text}" for problem in problems))
    return built


def build_fields(cls: type[Any], source: Any, path: str, problems: list[Problem]) -> dict[str, Any] | Broken:
    """The fields of the dataclass `cls`, each its value or BROKEN, defaults left out; BROKEN if not a mapping."""
    if not isinstance(source, Mapping):
        problems.append(Problem(path, f"is {_show(source)}; must be a mapping with keys {_names(_keys(cls))}"))
        return BROKEN
    hints = get_type_hints(cls, include_extras=True)
    problems.extend(_unknown(key, _keys(cls), path) for key in source if key not in hints)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in source:
            fields[field.name] = _value(hints[field.name], source[field.name], _join(path, field.name), problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(Problem(_join(path, field.name), f"is missing; must be {_describe(hints[field.name])}"))
            fields[field.name] = BROKEN
    return fields


def _keys(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _value(hint: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _checked(arguments[0], arguments[1:], value, path, problems)
    if origin in (Union, types.UnionType):
        return _optional(arguments, value, path, problems)
    if origin is tuple:
        return _tuple(hint, value, path, problems)
    if origin is Mapping:
        return _mapping(hint, value, path, problems)
    if dataclasses.is_dataclass(hint):
        return build(cast("type[Any]", hint), value, path, problems)
    return _scalar(hint, value, path, problems)


def _checked(hint: Any, checks: tuple[Check, ...], value: Any, path: str, problems: list[Problem]) -> Any:
    built = _value(hint, value, path, problems)
    if built is BROKEN:
        return BROKEN
    complaints = [complaint for check in checks if (complaint := check(built)) is not None]
    problems.extend(Problem(path, f"is {_show(value)}; {complaint}") for complaint in complaints)
    return BROKEN if complaints else built


def _optional(arguments: tuple[Any, ...], value: Any, path: str, problems: list[Problem]) -> Any:
    (inner,) = (argument for argument in arguments if argument is not type(None))
    return None if value is None else _value(inner, value, path, problems)


def _tuple(hint: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    items = get_args(hint)
    wrong_length = isinstance(value, list) and items[-1] is not Ellipsis and len(value) != len(items)
    if not isinstance(value, list) or wrong_length:
        problems.append(Problem(path, f"is {_show(value)}; must be {_describe(hint)}"))
        return BROKEN
    kinds = [items[0]] * len(value) if items[-1] is Ellipsis else items
    pairs = enumerate(zip(kinds, value, strict=True))
    built = [_value(kind, item, f"{path}[{i}]", problems) for i, (kind, item) in pairs]
    return BROKEN if any(item is BROKEN for item in built) else tuple(built)


def _mapping(hint: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(Problem(path, f"is {_show(value)}; must be {_describe(hint)}"))
        return BROKEN
    key_hint, item_hint = get_args(hint)
    built: dict[str, Any] = {}
    for key, item in value.items():
        item_path = _join(path, key)
        if _value(key_hint, key, item_path, problems) is BROKEN:
            built[str(key)] = BROKEN
        else:
            built[key] = _value(item_hint, item, item_path, problems)
    return BROKEN if any(item is BROKEN for item in built.values()) else built


def _scalar(hint: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    if get_origin(hint) is Literal:
        # `in` alone would take True for 1, and raises for nothing else
        if any(type(value) is type(choice) and value == choice for choice in get_args(hint)):
            return value
        problems.append(_not_a_choice(value, [str(choice) for choice in get_args(hint)], path))
        return BROKEN
    if hint is float and type(value) in (int, float):
        number = _finite(value)
        if number is not None:
            return number
    elif type(value) is hint:
        return value
    problems.append(Problem(path, f"is {_show(value)}; must be {_describe(hint)}{_hint(hint, value)}"))
    return BROKEN


def _finite(value: int | float) -> float | None:
    try:
        number = float(value) + 0.0  # -0.0 becomes 0.0
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _hint(hint: Any, value: Any) -> str:
    """YAML 1.1 reads 1e-3 and 2. 5 as text, and nobody expects the first."""
    if hint in (int, float) and isinstance(value, str) and "e" in value.lower():
        try:
            return f" (YAML takes it for text: write {float(value)})"
        except ValueError:
            return ""
    return ""


def _unknown(key: Any, choices: list[str], path: str) -> Problem:
    return Problem(_join(path, key), f"unknown key{_did_you_mean(key, choices)}; choices: {_names(choices)}")


def _not_a_choice(value: Any, choices: list[str], path: str) -> Problem:
    return Problem(path, f"is {_show(value)}{_did_you_mean(value, choices)}; choices: {_names(choices)}")


def _did_you_mean(word: Any, choices: list[str]) -> str:
    near = difflib.get_close_matches(str(word)[:100], choices, n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def _describe(hint: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _describe(arguments[0])
    if origin in (Union, types.UnionType):
        return _describe(arguments[0])
    if origin is Literal:
        return f"one of {_names([str(choice) for choice in arguments])}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each item {_describe(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}, each {_describe(arguments[0])}"
    if dataclasses.is_dataclass(hint):
        return f"a mapping with keys {_names(_keys(cast('type[Any]', hint)))}"
    words = {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}
    return words.get(hint, "a mapping from names to values")


def _names(names: list[str]) -> str:
    return ", ".join(names)


def _join(path: str, key: Any) -> str:
    # A key of line breaks or nothing would tear the message apart.
    name = key if isinstance(key, str) and key.isprintable() and key else reprlib.repr(key)
    return f"{path}.{name}" if path else name


def _show(value: Any) -> str:
    return "empty" if value is None else reprlib.repr(value)
