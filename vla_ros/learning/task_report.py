"""How well the tasks beside the chunk are answered, measured over many batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vla_ros.learning.batches import Batch
from vla_ros.model.config import VLAConfig
from vla_ros.model.multi_task import SELECTOR
from vla_ros.model.task_heads import TaskHead
from vla_ros.model.vla import VLAModel

TaskReport = Mapping[str, Mapping[str, Any]]
"""Task -> samples, of which it is known, and what was measured of them: errors in the unit that their names end with,
of detection precision, recall and F1 of each class and of all together, of the selector its accuracy."""
_DETECTION = "detection"


class TaskTally:
    """Sums over what is known. Nothing of a network that has no such tasks."""

    def __init__(self, config: VLAConfig) -> None:
        self._classes = config.classes
        self._names = (*config.tasks, SELECTOR) if config.tasks else ()
        self._known: dict[str, int] = defaultdict(int)
        self._sums: dict[str, dict[str, Tensor]] = {}

    def add(self, model: VLAModel, batch: Batch) -> None:
        """One batch, by the weights that the model has now."""
        if not self._names:
            return
        answers = model.answers(model.perceive(batch.inputs)).answers
        for name, answer in answers.items():
            head, target = model.decoder.get_submodule(f"answers.{name}"), batch.tasks[name]
            assert isinstance(head, TaskHead)
            known = target.known > 0
            self._known[name] += int(known.reshape(len(known), -1).any(dim=1).sum())
            sums = self._sums.setdefault(name, {})
            for what, values in head.measured(answer.float(), target.values).items():
                total = values.masked_fill(~known, 0.0).sum(dim=0).cpu()
                sums[what] = sums[what] + total if what in sums else total

    def report(self) -> TaskReport:
        """Of all that was added; of a task of which nothing was known only that."""
        return {name: {"samples": self._known[name], **self._numbers(name)} for name in self._sums}

    def _numbers(self, name: str) -> Mapping[str, Any]:
        sums, known = self._sums[name], self._known[name]
        if not known:
            return {}
        if name != _DETECTION:
            return {what: float(total) / known for what, total in sums.items()}
        of_class = {
            thing: _f1(*(float(sums[what][place]) for what in ("right", "wrong", "missed")))
            for place, thing in enumerate(self._classes)
        }
        everything = _f1(*(float(sums[what].sum()) for what in ("right", "wrong", "missed")))
        return {**everything, "classes": of_class}


def flattened(report: TaskReport) -> dict[str, float]:
    """As columns of a log: task_what -> number, without the classes one by one."""
    return {
        f"{task}_{what}": number
        for task, numbers in report.items()
        for what, number in numbers.items()
        if isinstance(number, float) and what not in ("precision", "recall")
    }


def _f1(right: float, wrong: float, missed: float) -> dict[str, float | None]:
    """None where there is nothing to divide by: never said, never there, or neither."""
    return {
        "precision": right / (right + wrong) if right + wrong else None,
        "recall": right / (right + missed) if right + missed else None,
        "f1": 2.0 * right / (2.0 * right + wrong + missed) if right + wrong + missed else None,
    }
