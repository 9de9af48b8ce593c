"""Image messages to frames; size and encoding are checked before anything is allocated.

MessageError kinds: wrong_encoding, wrong_size, bad_step, truncated, oversized, corrupt, bad_stamp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import Camera
from vla_ros.errors import MessageError
from vla_ros.images import LAYOUTS, compressed_size, read_only
from vla_ros.types import Frame


def from_image(msg: Any, camera: Camera) -> Frame:
    """sensor_msgs/Image as the contract's camera sends it -> a read-only view of its pixels, without row padding."""
    rows = image_rows(msg, camera)
    layout = LAYOUTS[camera.encoding]
    dtype = layout.dtype.newbyteorder(">" if msg.is_bigendian else "<")
    step, item = rows.strides[0], dtype.itemsize
    shape: tuple[int, ...] = (msg.height, msg.width)
    strides: tuple[int, ...] = (step, layout.pixel_bytes)
    if layout.channels > 1:
        shape, strides = (*shape, layout.channels), (*strides, item)
    return Frame(read_only(np.ndarray(shape, dtype, rows, strides=strides)), camera.encoding)


def image_rows(msg: Any, camera: Camera) -> NDArray[np.uint8]:
    """The bytes of such a message, padding included. -> (height, step)"""
    _require_encoding(msg.encoding, camera)
    _require_size(msg.width, msg.height, camera)
    return _rows(msg, LAYOUTS[camera.encoding].pixel_bytes)


def from_compressed_image(msg: Any, camera: Camera) -> Frame:
    """sensor_msgs/CompressedImage holding a jpeg or png of the contract's size -> its bytes, not yet decompressed.

    The file says what it is; the message's `format` is written in too many ways to be believed.
    """
    encoded = read_only(np.frombuffer(msg.data, np.uint8))
    _require_size(*compressed_size(encoded, camera.encoding), camera)
    return Frame(encoded, camera.encoding)


def _require_encoding(encoding: str, camera: Camera) -> None:
    if encoding != camera.encoding:
        raise MessageError("wrong_encoding", f"an image in {encoding[:40]!r}; the contract says {camera.encoding}")


def _require_size(width: int, height: int, camera: Camera) -> None:
    if (width, height) != (camera.width, camera.height):
        text = f"an image of {width}x{height} pixels; the contract says {camera.width}x{camera.height}"
        raise MessageError("wrong_size", text)


def _rows(msg: Any, pixel_bytes: int) -> NDArray[np.uint8]:
    """The message's bytes as (height, step)."""
    data = np.frombuffer(msg.data, np.uint8)
    if msg.step < msg.width * pixel_bytes:
        raise MessageError("bad_step", f"rows of {msg.step} bytes; {msg.width} pixels take {msg.width * pixel_bytes}")
    expected = msg.step * msg.height
    if len(data) != expected:
        text = f"{len(data)} bytes of image data where {msg.height} rows of {msg.step} make {expected}"
        raise MessageError("truncated" if len(data) < expected else "oversized", text)
    return data.reshape(msg.height, msg.step)
