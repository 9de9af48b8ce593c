"""Camera frames out of a bag, by view and instant."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from vla_ros.bags import BagReader
from vla_ros.contract import Contract
from vla_ros.images import frame_to_rgb
from vla_ros.interface.inputs import camera_entry
from vla_ros.types import ImageArray


def recorded_frames(bag: Path, contract: Contract, namespace: str = "") -> Mapping[str, Mapping[int, ImageArray]]:
    """View -> header stamp [ROS ns] -> (H, W, 3) RGB. Raises BagError for the bag, MessageError for a bad frame."""
    root = f"/{namespace.strip('/')}".rstrip("/")
    specs = {
        camera.topic if camera.topic.startswith("/") else f"{root}/{camera.topic}": (view, camera_entry(view, camera))
        for view, camera in contract.cameras.items()
    }
    frames: dict[str, dict[int, ImageArray]] = {view: {} for view in contract.cameras}
    with BagReader(bag) as reader:
        types = {name: topic.type for name, topic in reader.topics.items()}
        for message in reader.messages(specs):
            view, spec = specs[message.topic]
            frame, stamp_ns = spec.decode(_types().deserialize_cdr(message.data, types[message.topic]))
            if stamp_ns is not None:
                frames[view][stamp_ns] = frame_to_rgb(frame)
    return frames


@cache
def _types() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
