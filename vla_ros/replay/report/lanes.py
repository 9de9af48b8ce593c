"""What happened over time, as stretches: instructions, who was in command, silence, limits, stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from vla_ros.control.arbiter import Source
from vla_ros.replay.decisions import GuardDecision, PolicyDecision
from vla_ros.replay.judging.interventions import CLIPS
from vla_ros.replay.report.content import Content

# Of a page's width: what is nearer to each other is not told apart.
_APART = 0.001


@dataclass(frozen=True)
class Bar:
    """A stretch of a lane [s]. css: a class of the page's style; label: shown where there is room, and on request."""

    from_s: float
    to_s: float
    css: str
    label: str


@dataclass(frozen=True)
class Lane:
    """detail: in small print beside the title."""

    title: str
    detail: str
    bars: tuple[Bar, ...]


Tick = PolicyDecision | GuardDecision


def lanes(content: Content) -> Iterator[Lane]:
    """From top to bottom. Lanes of which there is nothing to tell are left out, but for who was in command."""
    yield Lane("instruction", "", tuple(_instructions(content)))
    yield Lane("in command", "replayed guard", tuple(_sources(content)))
    told = (
        Lane("policy silent", "", tuple(_silences(content))),
        Lane("inputs stale", "", tuple(_stale(content))),
        *(Lane(clip, "limit acted", tuple(_limit(content, clip))) for clip in CLIPS),
        Lane("guard", "stops, near misses", tuple(events(content))),
    )
    yield from (lane for lane in told if lane.bars)


def events(content: Content) -> Iterator[Bar]:
    """Stops, latches and near misses, which have no length."""
    for event in content.judgement.events:
        at_s = content.seconds(event.at_ns)
        yield Bar(at_s, at_s, f"event-{event.kind.replace(' ', '-')}", f"{event.kind}: {event.cause}")


def shades(content: Content) -> Iterator[Bar]:
    """What lies behind the curves: where a human was in command, where a limit acted, and the guard's events."""
    guard = content.replayed.guard
    yield from _spans(content, guard, lambda tick: tick.source == Source.TELEOP.value, "human", "a human in command")
    yield from _spans(content, guard, lambda tick: bool(tick.clips), "clipped", "a limit acted")
    yield from events(content)


def _instructions(content: Content) -> Iterator[Bar]:
    told = content.replayed.instructions
    ends = [*(one.ros_ns for one in told[1:]), content.end_ns]
    for index, (one, end_ns) in enumerate(zip(told, ends, strict=False)):
        from_s = max(content.seconds(one.ros_ns), 0.0)
        yield Bar(from_s, max(content.seconds(end_ns), from_s), f"told{index % 2}", one.text or "(nothing)")


def _sources(content: Content) -> Iterator[Bar]:
    groups = groupby(content.replayed.guard, key=lambda tick: (tick.source, _label(tick.text)))
    for (source, text), group in groups:
        yield _bar(content, list(group), f"source-{source}", text)


def _silences(content: Content) -> Iterator[Bar]:
    silent = groupby(content.replayed.policy, key=lambda tick: _label(tick.text) if tick.target is None else "")
    for text, group in silent:
        if text:
            yield _bar(content, list(group), "silent", text.removeprefix("silent: "))


def _stale(content: Content) -> Iterator[Bar]:
    for channels, group in groupby(content.replayed.policy, key=lambda tick: tick.stale):
        if channels:
            yield _bar(content, list(group), "stale", ", ".join(channels))


def _limit(content: Content, clip: str) -> Iterator[Bar]:
    return _spans(content, content.replayed.guard, lambda tick: clip in tick.clips, "limit", clip)


def _spans(
    content: Content, ticks: Sequence[GuardDecision], holds: Callable[[GuardDecision], bool], css: str, label: str
) -> Iterator[Bar]:
    """Where something holds. Of what lies too near to each other to be told apart one stretch is made."""
    last: Bar | None = None
    for is_so, group in groupby(ticks, key=holds):
        if not is_so:
            continue
        bar = _bar(content, list(group), css, label)
        if last is not None and bar.from_s - last.to_s < content.end_s * _APART:
            last = replace(last, to_s=bar.to_s)
            continue
        if last is not None:
            yield last
        last = bar
    if last is not None:
        yield last


def _bar(content: Content, ticks: Sequence[Tick], css: str, label: str) -> Bar:
    last = ticks[-1]
    return Bar(content.seconds(ticks[0].now.ros_ns), content.seconds(last.now.ros_ns) + last.dt_s, css, label)


def _label(text: str) -> str:
    """Without the numbers in brackets, which differ from tick to tick."""
    return text.partition(" (")[0]
