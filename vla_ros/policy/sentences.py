"""What may be said for each task, and which task a sentence means. A table, never a guess."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, TypeVar

from vla_ros.errors import ContractError, PolicyError
from vla_ros.policy.driving import SHAPES, TASKS, THINGS
from vla_ros.strict import Broken, Check, Problem, build
from vla_ros.strict_yaml import read_mapping
from vla_ros.types import is_hold

TABLE_PATH = Path(__file__).with_name("sentences.yaml")
MEMORY_PATH = Path(__file__).with_name("memory_sentences.yaml")
ROOM_PATH = Path(__file__).with_name("room_sentences.yaml")
_COLOUR = "{colour}"
MIN_TRAINING, HELD_OUT = 12, 5
_EXAMPLES = 5
_ARTICLES = {"a", "an", "the"}


def _counts(low: int, high: float, words: str) -> Check:
    return lambda items: None if low <= len(items) <= high else f"has {len(items)} sentences, must have {words}"


@dataclass(frozen=True)
class Phrases:
    """What may be said for one task. training: the usual sentence first; held_out: only for measuring."""

    training: Annotated[tuple[str, ...], _counts(MIN_TRAINING, float("inf"), f"at least {MIN_TRAINING}")]
    held_out: Annotated[tuple[str, ...], _counts(HELD_OUT, HELD_OUT, f"exactly {HELD_OUT}")]


@dataclass(frozen=True)
class _Content:
    """The file, key by key."""

    opposites: tuple[tuple[str, str], ...]
    tasks: Mapping[str, Phrases]


@dataclass(frozen=True)
class _Rooms:
    """The file of the rooms, key by key. shapes: shape -> sentences with a place for the colour."""

    shapes: Mapping[str, Phrases]


Content = TypeVar("Content", _Content, _Rooms)


@dataclass(frozen=True)
class SentenceTable:
    """phrases: task -> its sentences; opposites: pairs of tasks that undo each other on one thing."""

    path: Path
    phrases: Mapping[str, Phrases]
    opposites: tuple[tuple[str, str], ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks, sorted as in the file."""
        return tuple(self.phrases)

    def training(self, task: str) -> tuple[str, ...]:
        """What a policy may learn from. Raises PolicyError for a task that is not in the table."""
        return self._phrases(task).training

    def held_out(self, task: str) -> tuple[str, ...]:
        """What no policy may learn from. Raises PolicyError for a task that is not in the table."""
        return self._phrases(task).held_out

    def usual(self, task: str) -> str:
        """What demos and benchmarks say. Raises PolicyError for a task that is not in the table."""
        return self._phrases(task).training[0]

    def task(self, sentence: str) -> str:
        """The task that a sentence means, word for word. Raises PolicyError for any other sentence."""
        task = self.known_task(sentence)
        if task is None:
            some = ", ".join(f"'{self.usual(task)}'" for task in self.tasks[:_EXAMPLES])
            raise PolicyError(f"no task is called '{sentence.strip()}'; known are {some} and others: {self.path}")
        return task

    def known_task(self, sentence: str) -> str | None:
        """The same; None for any other sentence."""
        return self._meanings.get(normalise(sentence))

    def opposite(self, task: str) -> str:
        """The task that undoes this one. Raises PolicyError for a task without."""
        for one, other in self.opposites:
            if task in (one, other):
                return other if task == one else one
        choices = ", ".join(task for pair in self.opposites for task in pair)
        raise PolicyError(f"'{task}' has no opposite; choose one of {choices}")

    @cached_property
    def _meanings(self) -> Mapping[str, str]:
        """Normalised sentence -> task."""
        return {normalise(sentence): task for task, _, sentence in _all(self.phrases)}

    def _phrases(self, task: str) -> Phrases:
        if task not in self.phrases:
            raise PolicyError(f"there are no sentences for '{task}'; choose one of {', '.join(self.tasks)}")
        return self.phrases[task]


def normalise(sentence: str) -> str:
    """What two spellings of one sentence share: single spaces, lower case, no punctuation at the end."""
    return " ".join(sentence.lower().split()).rstrip(".!? ")


def essence(sentence: str) -> str:
    """The words alone, without articles: two sentences that share it are one to everybody but a computer."""
    words = re.findall(r"\w+", sentence.lower().replace("'", ""))
    return " ".join(word for word in words if word not in _ARTICLES)


@cache
def load_sentences() -> SentenceTable:
    """Of every task of every simulated robot. Raises PolicyError."""
    arm, remembering, base = load_table(TABLE_PATH), load_table(MEMORY_PATH), load_room_sentences()
    phrases = {**arm.phrases, **remembering.phrases, **base.phrases}
    return SentenceTable(arm.path.with_name("*sentences.yaml"), phrases, arm.opposites)


@cache
def load_room_sentences(path: Path = ROOM_PATH) -> SentenceTable:
    """Of the tasks of a base in a room: what may be said for each shape, in each colour. Raises PolicyError."""
    shapes = _load(_Rooms, path).shapes
    if set(shapes) != set(SHAPES):
        raise PolicyError(f"{path}: shapes: are {', '.join(shapes)}; must be {', '.join(SHAPES)}")
    phrases = {
        task: _coloured(shapes[thing.split()[1]], thing.split()[0]) for task, thing in zip(TASKS, THINGS, strict=True)
    }
    _refuse(path, list(_bad_sentences(phrases)))
    return SentenceTable(path, phrases, ())


@cache
def load_table(path: Path) -> SentenceTable:
    """Read and check a table. Raises PolicyError: one line per fault, `file: key.path: what is wrong`."""
    content = _load(_Content, path)
    _refuse(path, [*_bad_opposites(content), *_bad_sentences(content.tasks)])
    return SentenceTable(path, content.tasks, content.opposites)


def _load(kind: type[Content], path: Path) -> Content:
    try:
        source = read_mapping(path)
    except ContractError as error:
        raise PolicyError(str(error)) from error
    problems: list[Problem] = []
    content = build(kind, source, "", problems)
    _refuse(path, problems)
    assert not isinstance(content, Broken)  # what is broken has a problem
    return content


def _refuse(path: Path, problems: list[Problem]) -> None:
    """Raises PolicyError if there are any."""
    if problems:
        raise PolicyError("\n".join(f"{path}: {problem.path}: {problem.text}" for problem in problems))


def _coloured(said: Phrases, colour: str) -> Phrases:
    """The sentences with a colour in its place."""
    return Phrases(
        tuple(sentence.replace(_COLOUR, colour) for sentence in said.training),
        tuple(sentence.replace(_COLOUR, colour) for sentence in said.held_out),
    )


def _all(phrases: Mapping[str, Phrases]) -> Iterator[tuple[str, str, str]]:
    """Task, where it stands in the file, and the sentence."""
    for task, said in phrases.items():
        for name, sentences in (("training", said.training), ("held_out", said.held_out)):
            for index, sentence in enumerate(sentences):
                yield task, f"tasks.{task}.{name}[{index}]", sentence


def _bad_sentences(phrases: Mapping[str, Phrases]) -> Iterator[Problem]:
    """Sentences that mean nothing, mean to stop, or stand twice."""
    seen: dict[str, str] = {}
    for _, place, sentence in _all(phrases):
        words = essence(sentence)
        if not words or is_hold(words):
            yield Problem(place, f"'{sentence}' says nothing or means to stop, and cannot mean a task")
        elif words in seen:
            yield Problem(place, f"'{sentence}' differs from {seen[words]} in case, articles or punctuation only")
        seen.setdefault(words, place)


def _bad_opposites(content: _Content) -> Iterator[Problem]:
    """Opposites that are no tasks of the table, or of which one has two."""
    seen: set[str] = set()
    for index, pair in enumerate(content.opposites):
        for task in pair:
            if task not in content.tasks:
                yield Problem(f"opposites[{index}]", f"'{task}' is not one of the tasks")
            elif task in seen:
                yield Problem(f"opposites[{index}]", f"'{task}' already has an opposite")
            seen.add(task)
