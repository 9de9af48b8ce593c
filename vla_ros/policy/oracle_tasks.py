"""The oracle's vocabulary: which sentence means which Meta-World task. A table, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from vla_ros.errors import PolicyError
from vla_ros.types import is_hold

TABLE_PATH = Path(__file__).with_name("oracle_tasks.yaml")
_EXAMPLES = 5


@dataclass(frozen=True)
class TaskTable:
    """sentences: task -> what may be said for it, the usual sentence first; tasks: normalised sentence -> task."""

    path: Path
    sentences: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, str]

    def task(self, instruction: str) -> str:
        """The task that a sentence names, word for word. Raises PolicyError for any other sentence."""
        task = self.tasks.get(normalise(instruction))
        if task is None:
            some = ", ".join(f"'{sentences[0]}'" for sentences in list(self.sentences.values())[:_EXAMPLES])
            raise PolicyError(
                f"the oracle does not know '{instruction.strip()}'; it knows {some} and others: {self.path}"
            )
        return task

    def instruction(self, task: str) -> str:
        """The usual sentence for a task. Raises PolicyError for a task that is not in the table."""
        if task not in self.sentences:
            raise PolicyError(f"'{task}' is not a task of the oracle; choose one of {', '.join(self.sentences)}")
        return self.sentences[task][0]


def normalise(sentence: str) -> str:
    """What two spellings of one sentence share: single spaces, lower case, no punctuation at the end."""
    return " ".join(sentence.lower().split()).rstrip(".!? ")


@cache
def load_tasks(path: Path = TABLE_PATH) -> TaskTable:
    """Read and check a table. Raises PolicyError, naming what is wrong and where."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: cannot read the oracle's tasks: {error}") from error
    if not isinstance(content, dict) or not content:
        raise PolicyError(f"{path}: must map each task to its sentences")
    tasks: dict[str, str] = {}
    for task, sentences in content.items():
        for sentence in _sentences(path, task, sentences):
            other = tasks.setdefault(normalise(sentence), task)
            if other != task:
                raise PolicyError(f"{path}: '{sentence}' stands under both {other} and {task}")
    return TaskTable(path, {task: tuple(sentences) for task, sentences in content.items()}, tasks)


def _sentences(path: Path, task: object, sentences: object) -> list[str]:
    """The sentences of one task, checked."""
    if not isinstance(sentences, list) or not sentences or not all(isinstance(item, str) for item in sentences):
        raise PolicyError(f"{path}: {task} must list at least one sentence, in words")
    for sentence in sentences:
        if is_hold(normalise(sentence)):
            raise PolicyError(f"{path}: {task}: '{sentence}' always means to stop and cannot mean a task")
    return sentences
