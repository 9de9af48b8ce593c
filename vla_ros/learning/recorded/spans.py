"""Which instruction was in force when, and what became of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vla_ros.control import channels
from vla_ros.types import Sample, is_hold

CHANNELS = (channels.COMMAND, channels.SIM_RESET, channels.SUCCESS)

Outcome = Literal["success", "failure", "unknown"]


@dataclass(frozen=True)
class Span:
    """One instruction, from its arrival to the next one's, or to the world's being put back. ROS time [ns].

    instruction: empty where none is in force. outcome: success if the task came to be done meanwhile, failure if it was
    said to be undone all the time, else unknown.
    """

    instruction: str
    from_ns: int
    outcome: Outcome = "unknown"

    @property
    def is_hold(self) -> bool:
        """Whether it tells the robot to do nothing."""
        return is_hold(self.instruction)


def spans_of(samples: Iterable[Sample[Any]]) -> tuple[Span, ...]:
    """What was told, in order. samples: of CHANNELS, as received; of others, ignored.

    The same words again are no new span; a world that was put back waits for new ones. A task that is done when a span
    begins, and stays so, tells nothing of it.
    """
    return tuple(_spans(samples))


def span_at(spans: Sequence[Span], instant_ns: int) -> Span | None:
    """The span in force at an instant, ROS time; None before the first."""
    index = bisect_right([span.from_ns for span in spans], instant_ns) - 1
    return spans[index] if index >= 0 else None


def _spans(samples: Iterable[Sample[Any]]) -> Iterator[Span]:
    span: Span | None = None
    was_done: bool | None = None
    for sample in samples:
        if sample.channel == channels.SUCCESS:
            if span is not None:
                span = replace(span, outcome=_outcome(span.outcome, was_done, bool(sample.value)))
            was_done = bool(sample.value)
            continue
        follower = _follower(span, sample)
        if follower is not None:
            if span is not None:
                yield span
            span = follower
    if span is not None:
        yield span


def _follower(span: Span | None, sample: Sample[Any]) -> Span | None:
    """The span that begins with a sample, if one does."""
    if sample.channel == channels.SIM_RESET:
        return None if span is None else Span("", sample.received_ns)
    if sample.channel == channels.COMMAND:
        told = str(sample.value).strip()
        return Span(told, sample.received_ns) if span is None or told != span.instruction else None
    return None


def _outcome(so_far: Outcome, was_done: bool | None, is_done: bool) -> Outcome:
    if so_far == "success" or (is_done and was_done is False):
        return "success"
    return so_far if is_done else "failure"
