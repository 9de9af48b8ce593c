"""Recent samples of every input, and how old they are.

A sample is stale when its receive age *or* its stamp age exceeds the bound: a sender's stamp alone can lie,
and the instant of reception alone says nothing of a message that waited in a network buffer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_ros.types import NS_PER_S, FloatArray, JointState, Now, Pose, Sample, Twist

# A simulated clock reaches us a step or two after the messages stamped with it.
MAX_FUTURE_S = 0.1
_UNIT_TOLERANCE = 2e-3
_ABSURD = 1e100

Samples = tuple[Sample[Any], ...]


@dataclass(frozen=True, eq=False)
class Streams:
    """by_channel: samples, oldest first; refused: how many were turned away, by "channel: why"."""

    by_channel: Mapping[str, Samples] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    def history(self, channel: str) -> Samples:
        """Everything kept of a channel, oldest first."""
        return self.by_channel.get(channel, ())

    def newest(self, channel: str) -> Sample[Any] | None:
        """The latest accepted sample of a channel."""
        history = self.history(channel)
        return history[-1] if history else None

    def cleared(self) -> Streams:
        """The same counts, no samples."""
        return replace(self, by_channel={})

    def only(self, channels: Iterable[str]) -> Streams:
        """Forget all but some channels."""
        return replace(self, by_channel={name: self.history(name) for name in channels if self.history(name)})

    def without(self, channel: str) -> Streams:
        """Forget one channel."""
        return replace(self, by_channel={name: kept for name, kept in self.by_channel.items() if name != channel})


def why_refused(history: Samples, sample: Sample[Any], now: Now) -> str | None:
    """Numbers must be finite, stamps must increase and must not lie in the future. None: the sample is welcome."""
    if not _is_sound(sample.value):
        return "not finite, or a quaternion that is not unit"
    if sample.stamp_ns is None:
        return None
    if sample.stamp_ns - now.ros_ns > MAX_FUTURE_S * NS_PER_S:
        return "stamp from the future"
    if history and history[-1].stamp_ns is not None and sample.stamp_ns <= history[-1].stamp_ns:
        return "stamp not increasing"
    return None


def absorb(streams: Streams, samples: Iterable[Sample[Any]], now: Now, depth_of: Callable[[str], int]) -> Streams:
    """Keep samples that are welcome, at most depth_of(channel) of each channel; count those that are not."""
    by_channel, refused = dict(streams.by_channel), streams.refused
    for sample in samples:
        history = by_channel.get(sample.channel, ())
        why = why_refused(history, sample, now)
        if why is None:
            by_channel[sample.channel] = (*history, sample)[-depth_of(sample.channel) :]
        else:
            refused = counted(refused, f"{sample.channel}: {why}")
    return Streams(by_channel, refused)


def counted(counts: Mapping[str, int], name: str, by: int = 1) -> Mapping[str, int]:
    """The same counts with one of them higher."""
    return {**counts, name: counts.get(name, 0) + by}


def receive_age_s(sample: Sample[Any], now: Now) -> float:
    """Steady time since reception."""
    return (now.steady_ns - sample.received_ns) / NS_PER_S


def age_s(sample: Sample[Any], now: Now) -> float:
    """The worse of receive age and stamp age."""
    received = receive_age_s(sample, now)
    if sample.stamp_ns is None:
        return received
    return max(received, (now.ros_ns - sample.stamp_ns) / NS_PER_S)


def is_fresh(sample: Sample[Any] | None, now: Now, max_age_s: float) -> bool:
    """Whether a sample exists and both its ages are within the bound."""
    return sample is not None and age_s(sample, now) <= max_age_s


def age_text(sample: Sample[Any] | None, now: Now) -> str:
    """A sample's age for people."""
    return "never heard" if sample is None else f"{age_s(sample, now):.3f} s"


def _is_sound(value: Any) -> bool:
    if isinstance(value, Pose):
        x, y, z, w = value.quaternion.tolist()
        is_unit = abs(x * x + y * y + z * z + w * w - 1.0) < _UNIT_TOLERANCE
        return is_unit and _are_sound(value.position)
    if isinstance(value, Twist):
        return _are_sound(value.linear) and _are_sound(value.angular)
    if isinstance(value, JointState):
        return _are_sound(value.positions)
    if isinstance(value, np.ndarray):
        return _are_sound(value)
    return not isinstance(value, float) or math.isfinite(value)


def _are_sound(values: FloatArray) -> bool:
    # False for NaN as well. The bound keeps sums and squares of what passes from overflowing.
    return bool(sum(map(abs, values.ravel().tolist())) < _ABSURD)


def trace_of(sample: Sample[Any], now: Now) -> dict[str, Any]:
    """What a trace says of an input: enough to find the same message again in a recording."""
    entry: dict[str, Any] = {"channel": sample.channel, "receive_age_s": receive_age_s(sample, now)}
    if sample.stamp_ns is not None:
        return {**entry, "stamp_ns": sample.stamp_ns}
    return {**entry, "value": sample.value}
