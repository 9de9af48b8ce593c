"""A camera whose pixels do not change while the robot moves is frozen, however fresh its stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vla_ros.control import channels
from vla_ros.control.alignment import pose_at
from vla_ros.control.policy_state import StillView
from vla_ros.control.streams import Streams
from vla_ros.geometry import length
from vla_ros.types import NS_PER_S, FloatArray, Now

# A tool that moved this far changes some pixel of every view that is worth having.
MOVED_M = 0.02


def follow_still_views(
    still: Mapping[str, StillView], before: Streams, after: Streams, views: Sequence[str]
) -> Mapping[str, StillView]:
    """Note for each view since when its pixels are the same; the very same notes where no frame has come.

    before, after: the streams around one tick's inputs.
    """
    known = {view: (still.get(view), _still_view(still.get(view), before, after, view)) for view in views}
    news = {view: now for view, (was, now) in known.items() if now is not None and now is not was}
    return {**still, **news} if news else still


def frozen_view(still: Mapping[str, StillView], views: Sequence[str], now: Now, limit_s: float) -> str | None:
    """A view that has shown the same pixels for longer than limit_s after the tool moved; None if all live.

    It stays frozen until its pixels change, wherever the tool goes meanwhile.
    """
    for view in views:
        since = still.get(view)
        if since is not None and since.has_moved and (now.steady_ns - since.since_ns) / NS_PER_S > limit_s:
            return view
    return None


def _still_view(still: StillView | None, before: Streams, after: Streams, view: str) -> StillView | None:
    channel = channels.camera(view)
    old, new = before.newest(channel), after.newest(channel)
    if new is None or new is old or new.stamp_ns is None or not after.history(channels.EE_POSE):
        return still
    # Where the tool was when the frame was taken: what moved since then no frame can show yet.
    position: FloatArray = pose_at(after.history(channels.EE_POSE), new.stamp_ns).position
    if still is None or old is None or not np.array_equal(old.value.pixels, new.value.pixels):
        return StillView(new.received_ns, position)
    if still.has_moved:
        return still
    if length(position - still.ee_position) > MOVED_M:
        return replace(still, has_moved=True)
    return replace(still, since_ns=new.received_ns)
