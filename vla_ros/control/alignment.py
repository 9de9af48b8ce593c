"""Line up by header stamp: the newest instant that every view has seen, and the poses at that instant.

Histories are oldest first, as `streams.absorb` keeps them: stamps increase.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from vla_ros.control.streams import Samples
from vla_ros.geometry import interpolate
from vla_ros.types import NS_PER_S, Pose, Sample


def common_instant(histories: Sequence[Samples], max_skew_s: float) -> int | None:
    """The newest stamp for which every history has a sample within the skew. ROS time [ns]; None if there is none."""
    newest = {_stamp(history[-1]) if history else None for history in histories}
    if len(newest) == 1:  # as cameras that are triggered together have it
        return newest.pop()
    stamps = sorted({_stamp(sample) for history in histories for sample in history}, reverse=True)
    bound = max_skew_s * NS_PER_S
    for stamp in stamps:
        # Newest first: what is sought is nearly always each history's last.
        if all(any(abs(_stamp(sample) - stamp) <= bound for sample in reversed(history)) for history in histories):
            return stamp
    return None


def nearest(history: Samples, instant_ns: int) -> Sample[Any]:
    """The sample whose stamp is nearest to an instant. The history must not be empty."""
    after = bisect_right(history, instant_ns, key=_stamp)
    return min(history[max(after - 1, 0) : after + 1], key=lambda sample: abs(_stamp(sample) - instant_ns))


def pose_at(history: Samples, instant_ns: int) -> Pose:
    """Interpolate poses at an instant; outside the history, its nearest end. The history must not be empty."""
    after = bisect_right(history, instant_ns, key=_stamp)
    if after in (0, len(history)):
        end: Pose = history[max(after - 1, 0)].value
        return end
    start, stop = history[after - 1], history[after]
    fraction = (instant_ns - _stamp(start)) / (_stamp(stop) - _stamp(start))
    return interpolate(start.value, stop.value, fraction)


def _stamp(sample: Sample[Any]) -> int:
    if sample.stamp_ns is None:
        raise ValueError(f"{sample.channel} carries no stamp and cannot be lined up")
    return sample.stamp_ns
