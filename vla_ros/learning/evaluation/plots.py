"""Pictures of an evaluation: success by task and by suite with its intervals, and how long inference took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vla_ros.data.files import replacing
from vla_ros.learning.evaluation.trials import Outcome

_LANGUAGE = ("seen_phrasings", "held_out", "blank", "opposites", "opposites_blank")
_MARKS = "osxD+^v*ph"
_ROW_IN, _SPREAD = 0.45, 0.6


def draw_all(summary: Mapping[str, Any], outcomes: Sequence[Outcome], folder: Path, name: str) -> Sequence[Path]:
    """Write folder/<name>-tasks.png, -suites.png and, where inference was timed, -latency.png; returns their paths.

    summary: of `summarise`.
    """
    suites = summary["suites"]
    language = {suite: suites[suite] for suite in _LANGUAGE if suite in suites} or suites
    figures = {
        "tasks": _success({suite: numbers["tasks"] for suite, numbers in language.items()}, "Success by task"),
        "suites": _success({"all tasks": {suite: one["all"] for suite, one in suites.items()}}, "Success by suite"),
    }
    times_ms = [time_ms for outcome in outcomes if outcome.suite in suites for time_ms in outcome.inference_ms]
    if times_ms:
        figures["latency"] = _latency(times_ms)
    return [_save(figure, folder / f"{name}-{kind}.png") for kind, figure in figures.items()]


def _success(series: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """A row per task, and in it a mark with its interval per series. series: name -> task -> rate."""
    rows = list(dict.fromkeys(row for rates in series.values() for row in rates))
    figure = Figure(figsize=(8.0, 1.6 + _ROW_IN * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    offsets = np.linspace(-0.5, 0.5, len(series)) * _SPREAD * (len(series) > 1)
    for (name, rates), offset, mark in zip(series.items(), offsets, _MARKS, strict=False):
        _draw_rates(axes, name, rates, [rows.index(row) + offset for row in rates], mark)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of episodes, with 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=len(series), frameon=False)
    return figure


def _draw_rates(axes: Axes, name: str, rates: Mapping[str, Any], places: Sequence[float], mark: str) -> None:
    shares = np.array([rate["successes"] / rate["episodes"] for rate in rates.values()])
    low, high = (np.array([rate[key] for rate in rates.values()]) for key in ("low_95", "high_95"))
    reach = np.clip([shares - low, high - shares], 0.0, None)
    axes.errorbar(shares, places, xerr=reach, fmt=mark, markersize=5, capsize=2, linewidth=1, label=name)


def _latency(times_ms: Sequence[float]) -> Figure:
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    p50, p95 = np.percentile(times_ms, [50, 95])
    axes.hist(times_ms, bins=60, color="steelblue")
    for value, name, line in ((p50, "p50", "-"), (p95, "p95", "--")):
        axes.axvline(value, color="black", linestyle=line, linewidth=1, label=f"{name} {value:.0f} ms")
    axes.set_xlabel("inference [ms], on this machine and under this load")
    axes.set_ylabel("chunks")
    axes.set_title("How long inference took")
    axes.legend(frameon=False)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with replacing(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
    return path
