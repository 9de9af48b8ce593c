"""The door between image messages and frames. What needs no ROS is in `vla_ros.interface.image_reading`.

MessageError kinds: those of image_reading, and no_cv_bridge.
"""

from __future__ import annotations

import array
import importlib.util
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from vla_ros.contract import Camera, Contract
from vla_ros.errors import ContractError, MessageError
from vla_ros.images import COMPRESSED, LAYOUTS, Layout, read_only
from vla_ros.interface import image_reading
from vla_ros.ros.messages import to_stamped_header
from vla_ros.types import Frame

BRIDGED = ("mono16", "rgb16", "bgr16", "rgba16", "bgra16")
"""The rarer encodings, which are left to cv_bridge."""


def require_readable(contract: Contract) -> None:
    """Raises ContractError if a camera's encoding is left to cv_bridge and that is not here."""
    for view, camera in contract.cameras.items():
        if camera.encoding in BRIDGED and importlib.util.find_spec("cv_bridge") is None:
            text = f"cameras.{view}.encoding: {camera.encoding} is read through cv_bridge, which is not installed"
            raise ContractError(f"{text}: sudo apt-get install ros-$ROS_DISTRO-cv-bridge, or pip install cv-bridge")


def from_image(msg: Any, camera: Camera) -> Frame:
    """sensor_msgs/Image as the contract's camera sends it -> a read-only view of its pixels.

    Row padding is skipped. What is left to cv_bridge is a copy.
    """
    if camera.encoding not in BRIDGED:
        return image_reading.from_image(msg, camera)
    layout = LAYOUTS[camera.encoding]
    compact = image_reading.image_rows(msg, camera)[:, : msg.width * layout.pixel_bytes]
    words = compact.view(layout.dtype.newbyteorder(">" if msg.is_bigendian else "<"))
    return Frame(_through_cv_bridge(words.astype(layout.dtype), layout, msg), camera.encoding)


def to_image(frame: Frame, stamp_ns: int, frame_id: str) -> Image:
    """A raw frame -> sensor_msgs/Image without row padding, in the byte order of the frame."""
    layout = LAYOUTS[frame.encoding]
    height, width = frame.pixels.shape[:2]
    channels = () if layout.channels == 1 else (layout.channels,)
    if frame.pixels.shape[2:] != channels or frame.pixels.dtype.newbyteorder("=") != layout.dtype:
        raise ValueError(f"pixels {frame.pixels.shape} of {frame.pixels.dtype} are not {frame.encoding}")
    msg = Image(header=to_stamped_header(stamp_ns, frame_id), height=height, width=width, encoding=frame.encoding)
    msg.is_bigendian = int(_is_big_endian(frame.pixels.dtype))
    msg.step = width * layout.pixel_bytes
    _fill(msg.data, frame.pixels)
    return msg


def to_compressed_image(frame: Frame, stamp_ns: int, frame_id: str) -> CompressedImage:
    """A jpeg or png frame -> sensor_msgs/CompressedImage."""
    if frame.encoding not in COMPRESSED:
        raise ValueError(f"{frame.encoding!r} is not one of {', '.join(COMPRESSED)}")
    msg = CompressedImage(header=to_stamped_header(stamp_ns, frame_id), format=frame.encoding)
    _fill(msg.data, frame.pixels)
    return msg


def _through_cv_bridge(words: NDArray[Any], layout: Layout, msg: Any) -> NDArray[Any]:
    """(height, width) or (height, width, channels). words: (height, n), without padding, in this machine's byte order.

    The port of cv_bridge on PyPI heeds neither `step` nor `is_bigendian`, and converts no colours: it is spared both.
    """
    plain = Image(height=msg.height, width=msg.width, encoding=msg.encoding, step=msg.width * layout.pixel_bytes)
    plain.is_bigendian = int(sys.byteorder == "big")
    _fill(plain.data, words)
    try:
        from cv_bridge import CvBridge

        pixels = np.asarray(CvBridge().imgmsg_to_cv2(plain, "passthrough"))
    except (ImportError, TypeError, KeyError) as error:  # CvBridgeError is a TypeError; the port lets KeyErrors out
        raise MessageError("no_cv_bridge", f"cv_bridge cannot read {msg.encoding} here: {error}") from error
    channels = () if layout.channels == 1 else (layout.channels,)
    return read_only(pixels.reshape(msg.height, msg.width, *channels))


def _fill(data: array.array[int], pixels: NDArray[Any]) -> None:
    """Append to a new message's own data: one copy. Assigning copies once more, and bytes are copied one by one."""
    data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)


def _is_big_endian(dtype: np.dtype[Any]) -> bool:
    return dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big")
