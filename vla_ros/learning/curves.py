"""A training's log as one picture: losses, what held-out episodes say, and success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.learning.logs import LOSSES, read_log
from vla_ros.types import FloatArray

_SMOOTH = 50  # steps of a running mean


def draw_curves(log: Path, picture: Path) -> None:
    """Write a PNG beside a log.csv. Raises FileNotFoundError without a log."""
    from matplotlib.figure import Figure

    rows = read_log(log)
    figure = Figure(figsize=(10.0, 3.2), layout="constrained")
    losses, off, success = figure.subplots(1, 3)
    for name in LOSSES:
        steps, values = _series(rows, "step", name)
        if values.any():
            losses.plot(*_smoothed(steps, values), label=f"{name}, training")
            losses.plot(*_series(rows, "validation", name), "o", ms=3, label=f"{name}, held out")
    losses.set(title="losses", xlabel="step", yscale="log")
    losses.legend(fontsize="x-small")
    steps, error_m = _series(rows, "validation", "position_error_m")
    off.plot(steps, 1000.0 * error_m, "o-", ms=3)
    off.set(title="mean position error, held out [mm]", xlabel="step", ylim=(0.0, None))
    steps, accuracy = _series(rows, "validation", "accuracy")
    success.plot(steps, accuracy, "o-", ms=3, label="frames within 2 cm, held out")
    steps, share = _series(rows, "rollouts", "success")
    if len(steps):
        success.plot(steps, share, "s-", ms=4, label="rollouts that succeed")
    success.set(xlabel="step", ylim=(0.0, 1.02))
    success.legend(fontsize="x-small")
    draft = picture.with_name(f".{picture.name}")
    figure.savefig(draft, dpi=120, format="png")
    draft.replace(picture)


def _series(rows: Sequence[Mapping[str, Any]], kind: str, column: str) -> tuple[FloatArray, FloatArray]:
    """Steps and values of the rows of one kind that have the column."""
    pairs = [(float(row["step"]), float(row[column])) for row in rows if row["kind"] == kind and row[column]]
    steps, values = np.array(pairs).reshape(-1, 2).T
    return steps, values


def _smoothed(steps: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Running means, where there are enough values for one."""
    window = min(_SMOOTH, len(values))
    means = np.convolve(values, np.ones(window) / window, "valid")
    return steps[window - 1 :], means
