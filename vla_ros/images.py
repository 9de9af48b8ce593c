"""Camera frames as numpy: layouts, headers of compressed files, and conversion to RGB.

No ROS here, and OpenCV is imported only when it has something to convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import MessageError
from vla_ros.types import Frame, ImageArray

Pixel = TypeVar("Pixel", bound=np.generic)

_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01}
_JPEG_SCAN_OR_END = frozenset({0xD9, 0xDA})
_JPEG_MAX_SEGMENTS = 256  # a file of nothing but tiny segments must not cost seconds
_JPEG_MAX_PADDING = 4096  # some cameras pad their frames with zeros
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


@dataclass(frozen=True)
class Layout:
    """How one pixel lies in memory. channels: 1 means an array without a channel axis."""

    dtype: np.dtype[Any]
    channels: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes from one pixel to the next."""
        return self.dtype.itemsize * self.channels


LAYOUTS: Mapping[str, Layout] = {
    "rgb8": Layout(np.dtype(np.uint8), 3),
    "bgr8": Layout(np.dtype(np.uint8), 3),
    "rgba8": Layout(np.dtype(np.uint8), 4),
    "bgra8": Layout(np.dtype(np.uint8), 4),
    "mono8": Layout(np.dtype(np.uint8), 1),
    "16UC1": Layout(np.dtype(np.uint16), 1),
    "32FC1": Layout(np.dtype(np.float32), 1),
    **dict.fromkeys(("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"), Layout(np.dtype(np.uint8), 1)),
    **dict.fromkeys(("uyvy", "yuyv", "yuv422", "yuv422_yuy2"), Layout(np.dtype(np.uint8), 2)),
    "mono16": Layout(np.dtype(np.uint16), 1),
    **dict.fromkeys(("rgb16", "bgr16"), Layout(np.dtype(np.uint16), 3)),
    **dict.fromkeys(("rgba16", "bgra16"), Layout(np.dtype(np.uint16), 4)),
}
COMPRESSED = ("jpeg", "png")
DEPTH = ("16UC1", "32FC1")
_BYTES_IN_WORDS = 257  # 65535 / 255
_CHANNEL_ORDER = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0], "mono8": [0, 0, 0]}
_DEEP = {f"{name.removesuffix('8')}16": name for name in _CHANNEL_ORDER}
_OPENCV_CODES = {
    # OpenCV names a mosaic by its second row, from the second pixel on.
    "bayer_rggb8": "COLOR_BayerBG2RGB",
    "bayer_bggr8": "COLOR_BayerRG2RGB",
    "bayer_gbrg8": "COLOR_BayerGR2RGB",
    "bayer_grbg8": "COLOR_BayerGB2RGB",
    "uyvy": "COLOR_YUV2RGB_UYVY",
    "yuv422": "COLOR_YUV2RGB_UYVY",  # ROS's older name of uyvy
    "yuyv": "COLOR_YUV2RGB_YUY2",
    "yuv422_yuy2": "COLOR_YUV2RGB_YUY2",  # ROS's older name of yuyv
}


def frame_to_rgb(frame: Frame) -> ImageArray:
    """(H, W, 3) uint8 RGB, C-contiguous, perhaps a read-only view of the frame.

    Raises MessageError: "not_colour" for depth, which has no colours; "corrupt" for a file that does not decode.
    """
    if frame.encoding in COMPRESSED:
        return _decode(frame)
    if frame.encoding in _OPENCV_CODES:
        return _converted(frame)
    if frame.encoding in _DEEP:
        shallow = (frame.pixels // _BYTES_IN_WORDS).astype(np.uint8)
        return _pick_channels(np.atleast_3d(shallow), _CHANNEL_ORDER[_DEEP[frame.encoding]])
    order = _CHANNEL_ORDER.get(frame.encoding)
    if order is None:
        known = ", ".join((*_CHANNEL_ORDER, *_OPENCV_CODES, *_DEEP, *COMPRESSED))
        raise MessageError("not_colour", f"a frame in {frame.encoding} has no colours; one of {known} has")
    return _pick_channels(np.atleast_3d(frame.pixels), order)


def encode(rgb: ImageArray, encoding: str) -> Frame:
    """Compress (H, W, 3) uint8 RGB into a "jpeg" or "png" frame."""
    import cv2

    if encoding not in COMPRESSED:
        raise ValueError(f"{encoding!r} is not one of {', '.join(COMPRESSED)}")
    done, encoded = cv2.imencode(f".{encoding}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV could not write this image as {encoding}")
    return Frame(read_only(encoded.reshape(-1)), encoding)


def compressed_size(encoded: NDArray[np.uint8], encoding: str) -> tuple[int, int]:
    """(width, height) as the header of a jpeg or png file says, without decoding it. encoded: (n,).

    Raises MessageError: "wrong_encoding" for another kind of file, "truncated" for a file without its end, "corrupt".
    """
    data = encoded.data
    size = _jpeg_size(data) if encoding == "jpeg" else _png_size(data)
    if 0 in size:
        raise MessageError("corrupt", f"the {encoding} header speaks of {size[0]}x{size[1]} pixels")
    return size


def read_only(array: NDArray[Pixel]) -> NDArray[Pixel]:
    """A view of the array that cannot be written through."""
    view: NDArray[Pixel] = array.view()
    view.flags.writeable = False
    return view


def _pick_channels(pixels: NDArray[Any], order: list[int]) -> ImageArray:
    if pixels.shape[2] == 3 and order == [0, 1, 2]:
        return np.ascontiguousarray(pixels)
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for target, source in enumerate(order):  # three strided copies are several times faster than pixels[..., order]
        rgb[..., target] = pixels[..., source]
    return rgb


def _converted(frame: Frame) -> ImageArray:
    import cv2

    code = getattr(cv2, _OPENCV_CODES[frame.encoding])
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame.pixels), code), np.uint8)


def _decode(frame: Frame) -> ImageArray:
    import cv2

    width, height = compressed_size(frame.pixels, frame.encoding)
    # A camera's orientation is the contract's business, not that of a tag in the file.
    bgr = cv2.imdecode(frame.pixels, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None or bgr.shape != (height, width, 3):
        raise MessageError("corrupt", f"the {frame.encoding} frame of {width}x{height} pixels does not decode")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    if data[:3] != _JPEG_MAGIC:
        raise MessageError("wrong_encoding", "the data is not a jpeg file")
    if not bytes(data[-_JPEG_MAX_PADDING:]).rstrip(b"\0").endswith(_JPEG_END):
        raise MessageError("truncated", "the jpeg file has no end")  # OpenCV 4 would fill the rest with grey
    at = 2
    for _ in range(_JPEG_MAX_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF or data[at + 1] in _JPEG_SCAN_OR_END:
            break
        marker = data[at + 1]
        if marker in _JPEG_FRAME_HEADERS:
            return _big_endian(data[at + 7 : at + 9]), _big_endian(data[at + 5 : at + 7])
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_STANDALONE:
            at += 2
        else:
            at += 2 + _big_endian(data[at + 2 : at + 4])
    raise MessageError("corrupt", "the jpeg file has no frame header")


def _png_size(data: memoryview) -> tuple[int, int]:
    if data[: len(_PNG_MAGIC)] != _PNG_MAGIC:
        raise MessageError("wrong_encoding", "the data is not a png file")
    if data[-len(_PNG_END) :] != _PNG_END or len(data) < 33:
        raise MessageError("truncated", "the png file has no end")
    if data[24] > 8:
        raise MessageError("wrong_encoding", f"the png file has {data[24]} bits per channel, more than 8")
    return _big_endian(data[16:20]), _big_endian(data[20:24])


def _big_endian(data: memoryview) -> int:
    return int.from_bytes(data, "big")
