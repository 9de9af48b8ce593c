"""The exact gate: a decision log beside one that was declared right, byte for byte, and in words where they part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data.files import replacing
from vla_ros.errors import ReplayError
from vla_ros.replay.decision_log import open_log
from vla_ros.replay.judging.verdict import Check
from vla_ros.types import NS_PER_S, Json

CONDITIONS, DECISIONS = "golden: same conditions", "golden: same decisions"
_BLOCK = 1 << 20
_SHOWN = 3
_INSTANTS = ("ros_ns", "stamp_ns")
_PLACES = {"end": "its last line"}


def update_golden(golden: Path, log: Path) -> None:
    """Declare a log right. Raises DataError where it cannot be written."""
    with replacing(golden) as draft, log.open("rb") as source, draft.open("wb") as target:
        while block := source.read(_BLOCK):
            target.write(block)


def golden_of(golden: Path, name: str, is_alone: bool) -> Path:
    """A bag's golden log: one of several bags has its own in a folder; that of the only one is a file, if it likes."""
    return golden if is_alone and not golden.is_dir() else golden / f"{name}.jsonl"


def check_golden(golden: Path, log: Path) -> tuple[Check, Check]:
    """Whether both were made under the same conditions, and whether they decided the same.

    Raises ReplayError for a golden that is no decision log.
    """
    if not golden.is_file():
        missing = f"there is no {golden}: --update-golden makes it"
        return Check(CONDITIONS, False, missing), Check(DECISIONS, False, missing)
    if _are_same(golden, log):
        return Check(CONDITIONS, True, "all the same"), Check(DECISIONS, True, f"all as in {golden}, byte for byte")
    made, identity = open_log(golden)[0], open_log(log)[0]
    others = list(_other_facts(made, identity))
    conditions = Check(CONDITIONS, not others, "; ".join(others) or "all the same")
    return conditions, _decisions(golden, log)


def _decisions(golden: Path, log: Path) -> Check:
    """Line by line, but for the first, which holds the conditions."""
    differing, first, ticks = 0, "", 0
    start_ns: int | None = None
    for wanted, found in zip_longest(_lines(golden), _lines(log)):
        ticks += 1
        if start_ns is None:
            start_ns = _instant(_parsed(wanted or found or ""))
        if wanted != found:
            differing += 1
            first = first or _difference(_parsed(wanted or ""), _parsed(found or ""), start_ns or 0)
    if not differing:
        return Check(DECISIONS, True, f"all {ticks} as in {golden}")
    return Check(DECISIONS, False, f"{differing} of {ticks} differ, first {first}")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        next(file, None)
        yield from file


def _parsed(line: str) -> Json:
    """Empty for a line that there is not. Raises ReplayError for one that is not of a log."""
    try:
        entry = json.loads(line) if line else {}
    except ValueError as error:
        raise ReplayError(f"the golden has a line that is not of a decision log: {line[:60]!r}") from error
    if not isinstance(entry, dict):
        raise ReplayError(f"the golden has a line that is not of a decision log: {line[:60]!r}")
    return entry


def _instant(entry: Json) -> int | None:
    return next((int(entry[name]) for name in _INSTANTS if name in entry), None)


def _difference(wanted: Json, found: Json, start_ns: int) -> str:
    """Where, when and how two lines part."""
    if not wanted or not found:
        side, entry = ("missing now", wanted) if wanted else ("additional now", found)
        return f"{_place(entry, start_ns)}: it is {side}"
    if wanted.get("kind") != found.get("kind") or _instant(wanted) != _instant(found):
        return f"where the golden has {_place(wanted, start_ns)} and now there is {_place(found, start_ns)}"
    parts = list(_other_facts(wanted, found))
    more = f"; and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return f"{_place(wanted, start_ns)}: {'; '.join(parts[:_SHOWN])}{more}"


def _place(entry: Json, start_ns: int) -> str:
    at_ns = _instant(entry)
    when = "" if at_ns is None else f" at {(at_ns - start_ns) / NS_PER_S:.4f} s"
    kind = str(entry.get("kind", "a line without a kind"))
    return f"{_PLACES.get(kind, kind)}{when}"


def _other_facts(wanted: Any, found: Any, name: str = "") -> Iterator[str]:
    """What differs in two trees of JSON, by the paths of their leaves; of vectors of numbers by how much at most."""
    if wanted == found:
        return
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys((*wanted, *found)):
            yield from _other_facts(wanted.get(key), found.get(key), f"{name}.{key}".lstrip("."))
    elif (apart := _apart(wanted, found)) is not None:
        yield f"{name} by {apart:.3g}"
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _other_facts(one, other, f"{name}[{index}]")
    else:
        yield f"{name} is {_short(found)}, not {_short(wanted)}"


def _apart(wanted: Any, found: Any) -> float | None:
    """The largest difference of two arrays of numbers of the same shape, None for anything else."""
    if not (isinstance(wanted, list) and isinstance(found, list)):
        return None
    try:
        first, second = np.array(wanted, np.float64), np.array(found, np.float64)
    except (TypeError, ValueError):
        return None
    return float(np.abs(first - second).max()) if first.shape == second.shape and first.size else None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return f"{text[:16]}..." if isinstance(value, str) and len(value) == 64 else text[:80]


def _are_same(one: Path, other: Path) -> bool:
    """Byte for byte."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while (block := first.read(_BLOCK)) == second.read(_BLOCK):
            if not block:
                return True
    return False
