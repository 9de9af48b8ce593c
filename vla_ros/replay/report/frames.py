"""What the cameras saw, a few pictures of each, small enough for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vla_ros.contract import Contract
from vla_ros.errors import MessageError
from vla_ros.images import DEPTH, encode, frame_to_rgb
from vla_ros.interface.inputs import Input, camera_entry
from vla_ros.replay.judging.moments import Moment
from vla_ros.replay.recording import Recording
from vla_ros.replay.topics import deserialize, full_name
from vla_ros.types import ImageArray

PICTURES = 80
"""Of each view, evenly over the replay."""
_MAX_SIDE_PX = 160


@dataclass(frozen=True, eq=False)
class Picture:
    """at_ns: stamp of the frame, ROS time; jpeg: the file's bytes."""

    at_ns: int
    jpeg: bytes


Strips = Mapping[str, tuple[Picture, ...]]
"""View -> its pictures, in time."""


@dataclass
class _Strip:
    """Pictures of one view as they come: of each wanted instant the first frame at or after it.

    wanted: what is still to come, the next one last.
    """

    entry: Input
    wanted: list[int]
    pictures: list[Picture] = field(default_factory=list)


def picture_instants(span_ns: tuple[int, int], moments: Iterable[Moment], count: int = PICTURES) -> tuple[int, ...]:
    """`count` instants evenly over a span of ROS time, and those of the moments."""
    evenly = np.linspace(*span_ns, count, dtype=np.int64).tolist()
    return tuple(sorted({*evenly, *(moment.at_ns for moment in moments)}))


def strips(recording: Recording, contract: Contract, namespace: str, instants: Iterable[int]) -> Strips:
    """A picture of each view at each instant, in one pass over the bag.

    namespace: of the robot's nodes. Views without a colour picture are left out, and so is what does not decode: a
    report must not fail for that.
    """
    wanted = sorted(instants, reverse=True)
    by_topic = {
        full_name(camera.topic, namespace): (view, _Strip(camera_entry(view, camera), list(wanted)))
        for view, camera in contract.cameras.items()
        if camera.encoding not in DEPTH
    }
    for message in recording.messages(by_topic.keys() & recording.types.keys()):
        _take(by_topic[message.topic][1], message.data)
    return {view: tuple(strip.pictures) for view, strip in by_topic.values() if strip.pictures}


def _take(strip: _Strip, data: bytes) -> None:
    try:
        frame, at_ns = strip.entry.decode(deserialize(data, strip.entry.type))
        if at_ns is None or not strip.wanted or at_ns < strip.wanted[-1]:
            return
        picture = Picture(at_ns, to_jpeg(frame_to_rgb(frame)))
    except MessageError:
        return
    strip.pictures.append(picture)
    while strip.wanted and strip.wanted[-1] <= at_ns:
        strip.wanted.pop()


def to_jpeg(rgb: ImageArray) -> bytes:
    """(H, W, 3) uint8 RGB -> a JPEG of at most 160 pixels a side, of the same proportions."""
    import cv2

    height, width = rgb.shape[:2]
    scale = min(1.0, _MAX_SIDE_PX / max(height, width))
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode(rgb, "jpeg").pixels.tobytes()
