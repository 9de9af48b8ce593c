"""Outcomes so far: a file of one JSON line each, so that a run that was cut short goes on where it was.

The first line says what was measured and how. A file belongs to one subject: its name is made from that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla_ros.data.files import lock, replacing
from vla_ros.errors import DataError, LearningError
from vla_ros.learning.evaluation.trials import Key, Outcome, Trial

_DIGITS = 12


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder of logs, and keep other processes from writing to it. Raises DataError, if one does already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror}") from error
    descriptor = lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


class OutcomeLog:
    """The file, and what it holds. Whoever writes it holds the folder's lock."""

    def __init__(self, folder: Path, subject: Mapping[str, Any], fresh: bool = False) -> None:
        """subject: JSON, all that an outcome depends on; fresh: forget what there is. Raises LearningError."""
        name = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        self.path = folder / f"episodes-{name}.jsonl"
        self.subject = dict(subject)
        self.latency: Mapping[str, Any] = {}
        self._outcomes: dict[Key, Outcome] = {}
        if not fresh and self.path.exists():
            self._read()

    def __contains__(self, key: Key) -> bool:
        return key in self._outcomes

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """In the order in which they came."""
        return tuple(self._outcomes.values())

    def of(self, trials: Iterable[Trial]) -> tuple[Outcome, ...]:
        """Of trials that are in it, in their order. Raises KeyError for another."""
        return tuple(self._outcomes[trial.key] for trial in trials)

    def begin(self, latency: Mapping[str, Any]) -> None:
        """Write the first line, and what is already known behind it. latency: JSON, how inference is delayed."""
        self.latency = dict(latency)
        lines = [{"subject": self.subject, "latency": self.latency}, *map(dataclasses.asdict, self.outcomes)]
        with replacing(self.path) as draft:
            draft.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")

    def add(self, outcome: Outcome) -> None:
        """Write it down at once. After `begin`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
        self._outcomes[outcome.key] = outcome

    def _read(self) -> None:
        first, *others = self.path.read_text(encoding="utf-8").splitlines() or [""]
        try:
            self.latency = json.loads(first)["latency"]
            for number, line in enumerate(others, 2):
                if (outcome := _parse(line, is_last=number == len(others) + 1)) is not None:
                    self._outcomes[outcome.key] = outcome
        except (ValueError, KeyError, TypeError) as error:
            raise LearningError(f"{self.path} is not a log of episodes; remove it, or measure anew: --fresh") from error


def _parse(line: str, is_last: bool) -> Outcome | None:
    """None for the last line of a run that was killed while it wrote."""
    try:
        record = json.loads(line)
    except ValueError:
        if is_last:
            return None
        raise
    pairs = {name: tuple(map(tuple, record.get(name, ()))) for name in ("surprises", "errors", "glimpses")}
    times = {name: tuple(record.get(name, ())) for name in ("inference_ms", "stopped_s")}
    return Outcome(**{**record, **times, **pairs})
