"""An evaluation as tables in Markdown, which read as well in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vla_ros.learning.evaluation.statistics import Rate

_NOTHING = "-"
_CONDUCT = """\
Stops and latches are counts, clipped are shares of all steps, the others medians: time to success, length of the
commanded way, spectral arc length (nearer 0 is smoother)."""


def table(summary: Mapping[str, Any]) -> str:
    """All suites: success of each task, what the guard did, and pairs. summary: of `summarise`."""
    suites = summary["suites"]
    parts = [
        "\n".join(f"- {name}: {suite['meaning']}" for name, suite in suites.items()),
        _grid(_success_rows(suites)),
        "Successes of episodes; 95 % intervals by Wilson.",
        _grid(_conduct_rows(suites)),
        _CONDUCT,
    ]
    if summary["comparisons"]:
        parts += [
            _grid(_comparison_rows(summary["comparisons"])),
            "The same worlds; p by McNemar's exact test, two-sided.",
        ]
    return "\n\n".join(parts) + "\n"


def _success_rows(suites: Mapping[str, Any]) -> list[list[str]]:
    tasks = dict.fromkeys(task for suite in suites.values() for task in suite["tasks"])
    rows = [["task", *suites]]
    rows += [[task, *(_counted(suite["tasks"].get(task)) for suite in suites.values())] for task in tasks]
    rows.append(["all", *(_counted(suite["all"]) for suite in suites.values())])
    rows.append(["share", *(_share(suite["all"]) for suite in suites.values())])
    rows.append(["95 % interval", *(_interval(suite["all"]) for suite in suites.values())])
    if any("moved_the_other_way" in suite["all"] for suite in suites.values()):
        other_way = [suite["all"].get("moved_the_other_way", _NOTHING) for suite in suites.values()]
        rows.append(["moved the other way", *map(str, other_way)])
    return rows


def _conduct_rows(suites: Mapping[str, Any]) -> list[list[str]]:
    rows = [["suite", "stops", "latches", "clipped", "time [s]", "way [m]", "smoothness", "inference p50, p95 [ms]"]]
    for name, suite in suites.items():
        guard, motion, inference = suite["guard"], suite["motion"], suite["inference"]
        clipped = ", ".join(f"{limit} {share:.0%}" for limit, share in guard["clipped"].items()) or "none"
        numbers = [_number(motion[key], digits) for key, digits in (("time_s", 2), ("path_m", 2), ("smoothness", 1))]
        delay = f"{inference['p50_ms']:.0f}, {inference['p95_ms']:.0f}" if inference else _NOTHING
        factor = suite["realtime_factor"]
        title = name if factor is None else f"{name}, at {factor:.2f} of real time"
        rows.append([title, str(guard["stops"]), str(guard["latches"]), clipped, *numbers, delay])
    return rows


def _comparison_rows(comparisons: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["suite", "beside", "pairs", "only the first", "only the second", "p"]]
    for one in comparisons:
        counts = [str(one[key]) for key in ("pairs", "only_suite", "only_beside")]
        rows.append([one["suite"], one["beside"], *counts, f"{one['p']:.3f}"])
    return rows


def _grid(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in padded]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def _counted(rate: Mapping[str, Any] | None) -> str:
    return str(Rate(rate["successes"], rate["episodes"])) if rate else _NOTHING


def _share(rate: Mapping[str, Any]) -> str:
    return f"{rate['successes'] / rate['episodes']:.1%}"


def _interval(rate: Mapping[str, Any]) -> str:
    return f"{rate['low_95']:.1%} to {rate['high_95']:.1%}"


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"
