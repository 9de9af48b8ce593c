"""The page's tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from vla_ros.replay.judging.action_errors import DIMENSIONS, UNITS
from vla_ros.replay.judging.catalogue import METRICS
from vla_ros.replay.judging.verdict import Verdict
from vla_ros.replay.report.content import Content, Rival
from vla_ros.replay.report.html import number, quiet, table, wide

_SPREAD = ("mean", "p50", "p95", "max")
_TIMES = (
    ("inference", "the policy alone", "s"),
    ("latency", "from asking to the answer", "s"),
    ("horizon_used", "of a chunk's span, when it arrives; at 1 the robot stops", "share"),
)
_CARDS = (
    ("position_error_p95", "position error, 95 %", "m"),
    ("direction_agreement", "direction agreement", ""),
    ("gripper_missed", "gripper switches missed", ""),
    ("chunk_disagreement_p95", "chunk disagreement, 95 %", "m"),
    ("latency_p95", "latency, 95 %", "s"),
    ("silent", "share of ticks silent", ""),
    ("clipped", "share of ticks limited", ""),
    ("stops", "stops", ""),
    ("latches", "latches", ""),
)


def checks(verdict: Verdict) -> str:
    """What was asked, and the answer."""
    if not verdict.checks:
        return quiet("Nothing was asked of this replay: see --fail-on and --golden.")
    rows = "".join(
        f'<tr class="{"good" if check.passed else "bad"}"><td>{"passed" if check.passed else "FAILED"}</td>'
        f"<td>{escape(check.name)}</td><td>{escape(check.text)}</td></tr>"
        for check in verdict.checks
    )
    return wide(f'<table class="checks"><tbody>{rows}</tbody></table>')


def cards(content: Content) -> str:
    """The few numbers to look at first, the rival's below."""
    values = content.judgement.metrics
    others = content.rival.judgement.metrics if content.rival is not None else None
    shown = (
        f'<div class="card"><b>{number(values[name], 3)}</b> {unit}'
        + (f'<em class="rival">{number(others[name], 3)}</em>' if others is not None else "")
        + f"<span>{escape(label)}</span></div>"
        for name, label, unit in _CARDS
    )
    return f'<div class="cards">{"".join(shown)}</div>'


def metrics(content: Content) -> str:
    """All of them, with their meaning."""
    judged = _judged(content)
    rows = [
        (name, *(number(values.get(name)) for _, values in judged), metric.unit, metric.meaning)
        for name, metric in METRICS.items()
    ]
    return table(("metric", *(who for who, _ in judged), "unit", "meaning"), rows, "metrics")


def latencies(content: Content) -> str:
    """How long answers took, of what time there is."""
    rows = [
        (
            quantity.replace("_", " "),
            *([name] if content.rival is not None else []),
            *(number(values[f"{quantity}_{one}"], 3) for one in _SPREAD),
            unit,
            meaning,
        )
        for quantity, meaning, unit in _TIMES
        for name, values in _judged(content)
    ]
    who = ["policy"] if content.rival is not None else []
    return table(("", *who, "mean", "median", "95 %", "largest", "unit", "meaning"), rows)


def horizon(parts: Sequence[Mapping[str, float | None]]) -> str:
    """Mean absolute error of each dimension by how far ahead a row is."""
    if not parts:
        return quiet("No row of a chunk could be compared.")
    heading = ["ahead [s]", "rows", *(f"{name} [{unit}]" for name, unit in zip(DIMENSIONS, UNITS, strict=True))]
    rows = [
        [
            f"{number(part['from_s'], 2)} to {number(part['to_s'], 2)}",
            f"{part['rows']:.0f}",
            *(number(part[name], 2) for name in DIMENSIONS),
        ]
        for part in parts
    ]
    return table(heading, rows, "numbers")


def causes(title: str, unit: str, content: Content, of: str) -> str:
    """Words and how often. of: a field of the judgement."""
    counts: list[Mapping[str, int]] = [getattr(content.judgement, of)]
    if content.rival is not None:
        counts.append(getattr(content.rival.judgement, of))
    return counted(title, unit, [name for name, _ in _judged(content)], counts)


def counted(title: str, unit: str, names: Sequence[str], counts: Sequence[Mapping[str, int]]) -> str:
    """Words, and how often each policy met them. counts: one for each name."""
    words = dict.fromkeys(word for one in counts for word in one)
    if not words:
        return quiet(f"{title}: none.")
    heading = (title, *(unit if len(names) == 1 else f"{unit}, {name}" for name in names))
    return table(heading, [(word, *(str(one.get(word, 0)) for one in counts)) for word in words])


def comparison(name: str, rival: Rival) -> str:
    """Two policies beside each other."""
    found = rival.comparison
    rows = [
        (
            one.quantity.replace("_", " "),
            one.unit,
            number(one.first),
            number(one.second),
            number(one.second - one.first, 3),
            "too short" if one.interval is None else f"{number(one.interval[0], 3)} to {number(one.interval[1], 3)}",
            "yes" if one.differs else "no",
        )
        for one in found.differences
    ]
    apart = f"{number(found.apart_p50_m, 3)} m in the median, {number(found.apart_p95_m, 3)} m at the 95th percentile"
    heading = ("mean of", "unit", name, rival.name, "difference", "its 95 % interval", "differs")
    return f"<p>{found.observations} observations that both answered; their plans are {apart} apart.</p>" + table(
        heading, rows, "numbers"
    )


def identity(content: Content) -> str:
    """Everything that names what was replayed, as nested facts."""
    rows = list(_facts({"robot": content.replayed.contract.name, **content.replayed.identity}, ""))
    if content.rival is None:
        return table(("what", "is"), rows, "identity")
    others = dict(_facts({"robot": content.replayed.contract.name, **content.rival.replayed.identity}, ""))
    both = [(name, value, "the same" if others.get(name) == value else others.get(name, "-")) for name, value in rows]
    return table(("what", content.name, content.rival.name), both, "identity")


def _judged(content: Content) -> Sequence[tuple[str, Mapping[str, float | None]]]:
    """(heading, metrics), of one policy or two, which may have one name."""
    if content.rival is None:
        return (("value", content.judgement.metrics),)
    return ((content.name, content.judgement.metrics), (content.rival.name, content.rival.judgement.metrics))


def _facts(facts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _facts(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else "-" if value is None else json.dumps(value)
