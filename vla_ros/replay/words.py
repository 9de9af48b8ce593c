"""A summary for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_ros.replay.judging.catalogue import METRICS
from vla_ros.replay.judging.comparison import Comparison
from vla_ros.replay.judging.verdict import words
from vla_ros.replay.remarks import remarks, remarks_of_many
from vla_ros.replay.summary import Bag, Summary
from vla_ros.types import Json

# Of the catalogue, what to look at first; all of them are in replay.json.
FIRST = (
    "position_error_p95",
    "rotation_error_p95",
    "direction_agreement",
    "gripper_delay_p95",
    "gripper_missed",
    "gripper_extra",
    "chunk_disagreement_p95",
    "latency_p95",
    "horizon_used_max",
    "silent",
    "stale",
    "clipped",
    "stops",
    "latches",
    "near_misses",
)
_COLUMNS = ("position_error_p95", "direction_agreement", "gripper_missed", "silent", "stops", "latches")
_MOMENTS = 5


def summary_words(summary: Summary) -> str:
    """What was replayed, the numbers, the worst moments, and the verdict last."""
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: Summary) -> Iterator[str]:
    for bag in summary.bags:
        if bag.result is not None and len(summary.bags) == 1:
            yield from _about(bag.result.facts)
    if len(summary.bags) > 1:
        yield from _bag_table(summary.bags)
        facts = {bag.name: bag.result.facts for bag in summary.bags if bag.result is not None}
        yield from (f"  {remark}" for remark in remarks_of_many(facts))
    replayed = [bag for bag in summary.bags if bag.result is not None]
    if not replayed:
        yield from _failures(summary.bags)
        return
    yield ""
    yield from _metrics(summary)
    if summary.comparison is not None and replayed[0].result is not None:
        yield from _comparison(summary.comparison, replayed[0].result.facts)
    yield from _moments(summary)
    yield from _failures(summary.bags)
    yield ""
    for verdict in summary.verdicts:
        yield words(verdict)


def _about(facts: Json) -> Iterator[str]:
    ticks = facts["ticks"]
    latency = facts["identity"]["latency"]
    said = latency if isinstance(latency, str) else f"{latency:g} s"
    yield (
        f"{facts['bag']}: {facts['duration_s']:.1f} s, {ticks['policy']} ticks of the policy and {ticks['guard']} of "
        f"the guard, replayed in {facts['took_s']:.1f} s; policy {facts['policy']}, latency {said}"
    )
    yield from (f"  {remark}" for remark in remarks(facts))


def _bag_table(bags: Sequence[Bag]) -> Iterator[str]:
    heading = ("bag", "seconds", *_COLUMNS, "verdict")
    rows: list[Sequence[str]] = [heading]
    for bag in bags:
        if bag.result is None:
            rows.append((bag.name, "-", *["-"] * len(_COLUMNS), "not replayed"))
            continue
        facts = bag.result.facts
        numbers = [_number(facts["metrics"][name]) for name in _COLUMNS]
        verdict = "-" if not bag.verdict.checks else "passed" if bag.verdict.passed else "FAILED"
        rows.append((bag.name, f"{facts['duration_s']:.1f}", *numbers, verdict))
    yield from _table(rows)


def _metrics(summary: Summary) -> Iterator[str]:
    shown = [name for name in FIRST if summary.metrics[name] is not None]
    if not shown:
        yield "  nothing was measured: the policy was not told to do anything"
        return
    yield from _table([(name, _number(summary.metrics[name]), METRICS[name].unit) for name in shown])
    for cause, count in summary.interventions.items():
        yield f"  {count} x {cause}"


def _comparison(found: Comparison, facts: Json) -> Iterator[str]:
    yield ""
    yield f"{facts['policy']} beside {facts['against']}, {found.observations} observations that both answered"
    rows = [("mean of", "unit", "first", "second", "second less first, 95 %")]
    for one in found.differences:
        low, high = one.interval or (None, None)
        interval = "too short" if one.interval is None else f"{_number(low)} to {_number(high)}"
        rows.append((one.quantity, one.unit, _number(one.first), _number(one.second), interval))
    yield from _table(rows)
    yield f"  their plans are {_number(found.apart_p50_m)} m apart in the median, {_number(found.apart_p95_m)} m at p95"


def _moments(summary: Summary) -> Iterator[str]:
    if not summary.moments:
        return
    yield ""
    yield "worst moments"
    yield from _table(
        [(name, f"{moment.after_s:.2f} s", moment.kind, moment.text) for name, moment in summary.moments[:_MOMENTS]]
    )


def _failures(bags: Sequence[Bag]) -> Iterator[str]:
    for bag in bags:
        if bag.result is None:
            yield f"{bag.name} could not be replayed: {bag.verdict.checks[0].text}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
