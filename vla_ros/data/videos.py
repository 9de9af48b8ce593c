"""Frames of one view as an mp4 file, written and read by PyAV, which is imported only here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np

from vla_ros.data.episode import image_encoding
from vla_ros.data.schema import Feature
from vla_ros.errors import DataError
from vla_ros.images import frame_to_rgb
from vla_ros.types import Frame, ImageArray

# A key frame every other frame, as LeRobot has it: training asks for frames in any order.
_OPTIONS = {"g": "2", "crf": "18", "preset": "fast", "threads": "1"}


def encode_video(path: Path, files: Iterable[bytes], feature: Feature, fps: int) -> None:
    """files: PNG or JPEG, decodable. Raises DataError if PyAV is missing or refuses, or OSError."""
    av = _av()
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options=_OPTIONS)
            stream.height, stream.width, _ = feature.shape
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, fps)
            for data in files:
                rgb = frame_to_rgb(Frame(np.frombuffer(data, np.uint8), image_encoding(data)))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise DataError(f"{path}: the video cannot be encoded: {error}") from error


def decode_video(path: Path) -> Iterator[ImageArray]:
    """Its frames in order, (H, W, 3) uint8 RGB. Raises DataError."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path} is not a video that can be read: {error}") from error


def _av() -> ModuleType:
    try:
        import av
    except ModuleNotFoundError as error:
        raise DataError("videos need PyAV, which is not installed: pip install av") from error
    return av
