"""The log of a training as CSV: a row per step, and per validation; it goes on where a resumed training does."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.learning.task_report import flattened
from vla_ros.learning.trainer import StepReport, ValidationReport

LOSSES = (
    "action",
    "alignment",
    "grounding",
    "plan",
    "goal",
    "foresight",
    "value",
    "refinement",
    "grasping",
    "detection",
    "navigation",
    "selector",
)
COLUMNS = (
    "step",
    "kind",
    "stage",
    "learning_rate",
    *LOSSES,
    "grasping_weight",
    "detection_weight",
    "navigation_weight",
    "selector_weight",
    "gradient_norm",
    "position_error_m",
    "accuracy",
    "value_auc",
    "success",
    "grasping_position_error_m",
    "grasping_angle_error_rad",
    "detection_f1",
    "navigation_position_error_m",
    "navigation_heading_error_rad",
    "selector_accuracy",
)


class TrainingLog:
    """kind: "step", "validation" or "rollouts". Rows are written at a flush, together with the state they belong to."""

    def __init__(self, path: Path, step: int) -> None:
        """step: where the training goes on; what was logged after it is done again, and dropped."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._rows = [row for row in read_log(path) if int(row["step"]) <= step] if path.exists() else []

    def step(self, report: StepReport) -> None:
        """One step's losses, and how much those of tasks counted."""
        weights = {f"{name}_weight": weight for name, weight in report.weights.items()}
        self._add("step", {**_plain(report), **report.losses, **weights})

    def validation(self, report: ValidationReport) -> None:
        """What the held-out episodes say."""
        self._add("validation", {**_plain(report), **report.losses, **flattened(report.tasks), **report.outcome})

    def rollouts(self, step: int, success: float) -> None:
        """Share of successes when the network drives the robot."""
        self._add("rollouts", {"step": step, "success": success})

    def flush(self) -> None:
        """Write all of it anew, whole or not at all."""
        draft = self._path.with_suffix(".part")
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
        draft.replace(self._path)

    def _add(self, kind: str, values: Mapping[str, Any]) -> None:
        numbers = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in values.items()}
        self._rows.append({"kind": kind, **numbers})


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _plain(report: StepReport | ValidationReport) -> dict[str, Any]:
    return {key: value for key, value in vars(report).items() if key in COLUMNS}
