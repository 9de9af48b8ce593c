"""The recent samples of one channel, found by their stamps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from vla_ros.control.streams import why_refused
from vla_ros.types import NS_PER_S, Now, Sample


class Track:
    """Grows at one end and is cut off at the other.

    max_age_s: how old a sample may be. lateness_s: what arrives later than this after its stamp is refused.
    replaces: whether of two samples of one instant the later counts, instead of being refused.
    """

    def __init__(self, max_age_s: float, lateness_s: float, replaces: bool = False) -> None:
        self.max_age_s = max_age_s
        self._lateness_s = lateness_s
        self._replaces = replaces
        self._stamps: list[int] = []
        self._samples: list[Sample[Any]] = []

    def add(self, sample: Sample[Any]) -> str | None:
        """Keep a stamped sample, or say why not. Its instant of reception is ROS time, as a bag tells it."""
        assert sample.stamp_ns is not None
        if sample.received_ns - sample.stamp_ns > self._lateness_s * NS_PER_S:
            return f"arrived more than {self._lateness_s:g} s after its stamp"
        if self._replaces and self._stamps[-1:] == [sample.stamp_ns]:
            del self._stamps[-1], self._samples[-1]
        why = why_refused(tuple(self._samples[-1:]), sample, Now(sample.received_ns, sample.received_ns))
        if why is None:
            self._stamps.append(sample.stamp_ns)
            self._samples.append(sample)
        return why

    def newest(self, until_ns: int) -> Sample[Any] | None:
        """The last sample stamped at or before an instant."""
        index = bisect_right(self._stamps, until_ns) - 1
        return self._samples[index] if index >= 0 else None

    def fresh(self, instant_ns: int) -> Sample[Any] | None:
        """The same, if it is not too old by then."""
        sample = self.newest(instant_ns)
        if sample is None or sample.stamp_ns is None:
            return None
        return sample if instant_ns - sample.stamp_ns <= self.max_age_s * NS_PER_S else None

    def within(self, from_ns: int, until_ns: int) -> Sequence[Sample[Any]]:
        """Those stamped between two instants, both included."""
        return self._samples[bisect_left(self._stamps, from_ns) : bisect_right(self._stamps, until_ns)]

    def forget(self, before_ns: int) -> None:
        """Drop what is older than an instant, but for the newest of that."""
        keep_from = bisect_right(self._stamps, before_ns) - 1
        if keep_from > 0:
            del self._stamps[:keep_from], self._samples[:keep_from]
