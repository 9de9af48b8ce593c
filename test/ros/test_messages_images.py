"""Images to numpy and back, raw and compressed, whole and broken."""

from __future__ import annotations

import array
import struct
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from vla_ros.contract import Camera
from vla_ros.contract_file import load_contract
from vla_ros.errors import ContractError, MessageError
from vla_ros.images import COMPRESSED, DEPTH, LAYOUTS, encode, frame_to_rgb
from vla_ros.interface.image_reading import from_compressed_image
from vla_ros.ros.image_messages import (
    BRIDGED,
    from_image,
    require_readable,
    to_compressed_image,
    to_image,
)
from vla_ros.types import Frame

CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
MODEST = settings(max_examples=40, deadline=None)


def camera(encoding: Any, width: int, height: int) -> Camera:
    transport: Any = "compressed" if encoding in COMPRESSED else "raw"
    return Camera("image", transport, encoding, width, height, rate_hz=10.0, max_age_s=0.5, frame="camera")


def noise(encoding: str, width: int, height: int, seed: int = 0) -> np.ndarray:
    layout = LAYOUTS[encoding]
    raw = np.random.default_rng(seed).integers(0, 256, (height, width * layout.pixel_bytes), np.uint8)
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    return raw.view(layout.dtype).reshape(shape)


def padded(msg: Image, padding: int) -> Image:
    """The same image with `padding` bytes of rubbish behind every row."""
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)
    wide = np.concatenate([rows, np.full((msg.height, padding), 0xAB, np.uint8)], axis=1)
    msg.step += padding
    msg.data = array.array("B", wide.tobytes())
    return msg


def with_data(msg: Any, data: bytes) -> Any:
    msg.data = array.array("B", data)
    return msg


def smooth_rgb(width: int, height: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is 60."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    return np.stack([x, y, np.full_like(x, 60.0)], axis=-1).astype(np.uint8)


def kind_of(read: Any, *arguments: Any) -> str:
    with pytest.raises(MessageError) as caught:
        read(*arguments)
    return caught.value.kind


@MODEST
@given(
    encoding=st.sampled_from(sorted(LAYOUTS)),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
    padding=st.sampled_from([0, 1, 3, 64]),
    big_endian=st.booleans(),
)
def test_raw_images_survive(encoding: str, width: int, height: int, padding: int, big_endian: bool) -> None:
    pixels = noise(encoding, width, height)
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder(">"))
    msg = to_image(Frame(pixels, encoding), 1_000_000_001, "camera")
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec, msg.header.frame_id) == (1, 1, "camera")
    assert msg.step == width * LAYOUTS[encoding].pixel_bytes
    frame = from_image(padded(msg, padding), camera(encoding, width, height))
    assert frame.encoding == encoding
    assert frame.pixels.dtype.newbyteorder("=") == LAYOUTS[encoding].dtype
    np.testing.assert_array_equal(frame.pixels, pixels)


@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_depth_is_read_in_the_messages_byte_order(is_bigendian: int) -> None:
    order = "<>"[is_bigendian]
    msg = Image(width=2, height=1, step=4, encoding="16UC1", is_bigendian=is_bigendian)
    frame = from_image(with_data(msg, struct.pack(order + "HH", 1, 513)), camera("16UC1", 2, 1))
    assert frame.pixels.tolist() == [[1, 513]]
    msg = Image(width=2, height=1, step=8, encoding="32FC1", is_bigendian=is_bigendian)
    frame = from_image(with_data(msg, struct.pack(order + "ff", 0.5, -2.25)), camera("32FC1", 2, 1))
    assert frame.pixels.tolist() == [[0.5, -2.25]]


@pytest.mark.parametrize("encoding", sorted(set(LAYOUTS) - set(BRIDGED)))
@pytest.mark.parametrize("padding", [0, 5])
def test_a_frame_is_a_read_only_view_of_its_message(encoding: str, padding: int) -> None:
    msg = padded(to_image(Frame(noise(encoding, 8, 6), encoding), 0, "camera"), padding)
    frame = from_image(msg, camera(encoding, 8, 6))
    assert np.shares_memory(frame.pixels, np.frombuffer(msg.data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0] = 0


def test_colours_come_out_as_rgb() -> None:
    rgb = noise("rgb8", 5, 4)
    alpha = np.full((4, 5, 1), 77, np.uint8)
    grey = noise("mono8", 5, 4)
    as_sent = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], axis=-1),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], axis=-1),
    }
    for encoding, pixels in as_sent.items():
        for padding in (0, 3):
            msg = padded(to_image(Frame(pixels, encoding), 0, "camera"), padding)
            image = frame_to_rgb(from_image(msg, camera(encoding, 5, 4)))
            assert image.dtype == np.uint8 and image.flags.c_contiguous
            np.testing.assert_array_equal(image, rgb, err_msg=encoding)
    np.testing.assert_array_equal(frame_to_rgb(Frame(grey, "mono8")), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("encoding", DEPTH)
def test_depth_has_no_colours(encoding: str) -> None:
    assert kind_of(frame_to_rgb, Frame(noise(encoding, 3, 3), encoding)) == "not_colour"


def test_an_image_unlike_the_contracts_camera_is_refused() -> None:
    front = camera("rgb8", 8, 6)
    good = Frame(noise("rgb8", 8, 6), "rgb8")
    assert kind_of(from_image, to_image(Frame(noise("bgr8", 8, 6), "bgr8"), 0, ""), front) == "wrong_encoding"
    assert kind_of(from_image, to_image(Frame(noise("rgb8", 6, 8), "rgb8"), 0, ""), front) == "wrong_size"
    nonsense = to_image(good, 0, "")
    nonsense.encoding = "x" * 1_000_000
    assert kind_of(from_image, nonsense, front) == "wrong_encoding"
    with pytest.raises(MessageError, match="an image of 8x6 pixels; the contract says 640x480"):
        from_image(to_image(good, 0, ""), camera("rgb8", 640, 480))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("wrong_size", {"width": 0}),
        ("wrong_size", {"height": 0}),
        ("wrong_size", {"width": 2**32 - 1, "height": 2**32 - 1, "step": 2**32 - 1}),
        ("truncated", {"step": 2**32 - 1}),
        ("truncated", {"step": 25}),
        ("bad_step", {"step": 23}),
        ("bad_step", {"step": 0}),
        ("truncated", {"data": array.array("B", bytes(143))}),
        ("truncated", {"data": array.array("B")}),
        ("oversized", {"data": array.array("B", bytes(145))}),
    ],
)
def test_a_broken_raw_image_is_refused(kind: str, changes: dict[str, Any]) -> None:
    msg = to_image(Frame(noise("rgb8", 8, 6), "rgb8"), 0, "")
    for name, value in changes.items():
        setattr(msg, name, value)
    assert kind_of(from_image, msg, camera("rgb8", 8, 6)) == kind


@MODEST
@given(
    width=st.integers(0, 2**32 - 1) | st.just(4),
    height=st.integers(0, 2**32 - 1) | st.just(3),
    step=st.integers(0, 2**32 - 1) | st.integers(0, 20),
    big_endian=st.integers(0, 255),
    data=st.binary(max_size=80),
    encoding=st.sampled_from(sorted(LAYOUTS)) | st.text(max_size=8),
)
def test_no_raw_image_does_worse_than_a_message_error(
    width: int, height: int, step: int, big_endian: int, data: bytes, encoding: str
) -> None:
    msg = Image(width=width, height=height, step=step, is_bigendian=big_endian, encoding=encoding)
    for known in LAYOUTS:
        try:
            frame = from_image(with_data(msg, data), camera(known, 4, 3))
        except MessageError:
            continue
        assert frame.pixels.shape[:2] == (3, 4)


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_compressed_images_survive(encoding: str) -> None:
    rgb = smooth_rgb(64, 48)
    msg = to_compressed_image(encode(rgb, encoding), 2_000_000_003, "camera")
    assert (msg.format, msg.header.stamp.sec, msg.header.stamp.nanosec) == (encoding, 2, 3)
    frame = from_compressed_image(msg, camera(encoding, 64, 48))
    assert np.shares_memory(frame.pixels, np.frombuffer(msg.data, np.uint8)) and not frame.pixels.flags.writeable
    image = frame_to_rgb(frame)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - rgb).max() <= (0 if encoding == "png" else 12)


def test_a_compressed_image_unlike_the_contracts_camera_is_refused() -> None:
    rgb = smooth_rgb(64, 48)
    for encoding, other in (("jpeg", "png"), ("png", "jpeg")):
        msg = to_compressed_image(encode(rgb, encoding), 0, "")
        assert kind_of(from_compressed_image, msg, camera(other, 64, 48)) == "wrong_encoding"
        assert kind_of(from_compressed_image, msg, camera(encoding, 48, 64)) == "wrong_size"


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_truncated_file_is_refused_at_any_length(encoding: str) -> None:
    whole = encode(smooth_rgb(16, 12), encoding).pixels.tobytes()
    for length in range(len(whole)):
        kind = kind_of(from_compressed_image, with_data(CompressedImage(), whole[:length]), camera(encoding, 16, 12))
        assert kind in ("truncated", "wrong_encoding")


def test_a_jpeg_padded_with_zeros_is_read() -> None:
    whole = encode(smooth_rgb(16, 12), "jpeg").pixels.tobytes()
    frame = from_compressed_image(with_data(CompressedImage(), whole + bytes(100)), camera("jpeg", 16, 12))
    assert frame_to_rgb(frame).shape == (12, 16, 3)


def resized(encoding: str, width: int, height: int) -> bytes:
    """A small file whose header claims another size."""
    data = bytearray(encode(smooth_rgb(16, 12), encoding).pixels.tobytes())
    if encoding == "png":
        data[16:24] = struct.pack(">II", width, height)
    else:
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_decompression_bomb_is_refused_before_anything_is_allocated(encoding: str) -> None:
    msg = with_data(CompressedImage(), resized(encoding, 60_000, 60_000))
    tracemalloc.start()
    try:
        assert kind_of(from_compressed_image, msg, camera(encoding, 16, 12)) == "wrong_size"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert (
        kind_of(from_compressed_image, with_data(msg, resized(encoding, 0, 12)), camera(encoding, 16, 12)) == "corrupt"
    )


def test_a_16_bit_png_is_no_colour_image() -> None:
    data = bytearray(encode(smooth_rgb(16, 12), "png").pixels.tobytes())
    data[24] = 16
    assert kind_of(from_compressed_image, with_data(CompressedImage(), bytes(data)), camera("png", 16, 12)) == (
        "wrong_encoding"
    )


def test_a_corrupt_png_never_becomes_an_image() -> None:
    data = bytearray(encode(noise("rgb8", 16, 12), "png").pixels.tobytes())
    data[len(data) // 2] ^= 0xFF
    frame = from_compressed_image(with_data(CompressedImage(), bytes(data)), camera("png", 16, 12))
    assert kind_of(frame_to_rgb, frame) == "corrupt"


def test_a_jpeg_without_a_frame_header_is_refused() -> None:
    endless = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000 + b"\xff\xd9"
    for data in (endless, b"\xff\xd8\xff\xda" + bytes(50) + b"\xff\xd9", b"\xff\xd8\xff\xd9"):
        assert kind_of(from_compressed_image, with_data(CompressedImage(), data), camera("jpeg", 16, 12)) == "corrupt"


@MODEST
@given(st.sampled_from(COMPRESSED), st.data())
def test_no_damaged_file_does_worse_than_a_message_error(encoding: str, data: st.DataObject) -> None:
    whole = bytearray(encode(smooth_rgb(16, 12), encoding).pixels.tobytes())
    for _ in range(data.draw(st.integers(1, 20))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = from_compressed_image(with_data(CompressedImage(), bytes(whole)), camera(encoding, 16, 12))
        assert frame_to_rgb(frame).shape == (12, 16, 3)
    except MessageError:
        pass


RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 200, 0), (0, 0, 200), (120, 120, 120)
PAINT = (RED, GREEN, BLUE, GREY)


def quarters(width: int, height: int) -> np.ndarray:
    """Red and green above, blue and grey below. (height, width, 3)"""
    image = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(PAINT):
        row, column = divmod(index, 2)
        image[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = colour
    return image


def as_sent(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """What a camera makes of it, by the encoding's definition. Colours must not change within a pair of pixels."""
    opaque = np.full((*rgb.shape[:2], 1), 255, np.uint8)
    if encoding.startswith("bayer"):
        channel_at = np.array(["rgb".index(site) for site in encoding.removeprefix("bayer_")[:4]]).reshape(2, 2)
        channel = np.tile(channel_at, (rgb.shape[0] // 2, rgb.shape[1] // 2))
        return np.take_along_axis(rgb, channel[..., None], axis=2)[..., 0]
    if encoding in ("uyvy", "yuv422", "yuyv", "yuv422_yuy2"):
        # ITU-R BT.601, luma 16 to 235.
        red, green, blue = (rgb[..., index] / 255.0 for index in range(3))
        y = 16.0 + 65.481 * red + 128.553 * green + 24.966 * blue
        u = 128.0 - 37.797 * red - 74.203 * green + 112.0 * blue
        v = 128.0 + 112.0 * red - 93.786 * green - 18.214 * blue
        chroma = np.where(np.arange(rgb.shape[1]) % 2 == 0, u, v)
        pair = (chroma, y) if encoding in ("uyvy", "yuv422") else (y, chroma)
        return np.stack(pair, axis=-1).round().astype(np.uint8)
    return {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, opaque], axis=-1),
        "bgra8": np.concatenate([rgb[..., ::-1], opaque], axis=-1),
        "mono8": rgb[..., 0],
    }[encoding.replace("16", "8")].astype(LAYOUTS[encoding].dtype) * (257 if encoding.endswith("16") else 1)


@pytest.mark.parametrize("encoding", get_args(get_type_hints(Camera)["encoding"]))
def test_every_encoding_that_a_contract_may_name_can_be_read(encoding: str) -> None:
    width, height = 16, 12
    rgb = quarters(width, height)
    if encoding in DEPTH:
        msg = to_image(Frame(noise(encoding, width, height), encoding), 0, "camera")
        assert kind_of(frame_to_rgb, from_image(msg, camera(encoding, width, height))) == "not_colour"
        return
    if encoding in COMPRESSED:
        frame = from_compressed_image(
            to_compressed_image(encode(rgb, encoding), 0, ""), camera(encoding, width, height)
        )
    else:
        msg = padded(to_image(Frame(as_sent(rgb, encoding), encoding), 0, "camera"), 3)
        frame = from_image(msg, camera(encoding, width, height))
    image = frame_to_rgb(frame)
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    expected = np.stack([rgb[..., 0]] * 3, axis=-1) if encoding.startswith("mono") else rgb
    # Away from the borders between colours, which a mosaic and a jpeg blur.
    inside = [(row, column) for row in (2, 3, 8, 9) for column in (3, 4, 11, 12)]
    tolerance = 25 if encoding == "jpeg" else 3
    for row, column in inside:
        difference = np.abs(image[row, column].astype(int) - expected[row, column])
        assert difference.max() <= tolerance, (row, column, image[row, column], expected[row, column])


def test_a_camera_that_needs_cv_bridge_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = load_contract(CONTRACT)
    deep = replace(contract, cameras={"front": replace(contract.cameras["front"], encoding="rgb16")})
    require_readable(deep)
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_readable(contract)
    with pytest.raises(ContractError, match=r"cameras.front.encoding: rgb16 is read through cv_bridge, which is not"):
        require_readable(deep)
    msg = to_image(Frame(noise("rgb16", 128, 128), "rgb16"), 0, "camera")
    assert kind_of(from_image, msg, deep.cameras["front"]) == "no_cv_bridge"


def test_words_in_the_other_byte_order_are_turned_round() -> None:
    words = noise("bgr16", 6, 4)
    msg = padded(to_image(Frame(words.astype(words.dtype.newbyteorder(">")), "bgr16"), 0, "camera"), 6)
    assert msg.is_bigendian
    assert np.array_equal(from_image(msg, camera("bgr16", 6, 4)).pixels, words)


@pytest.mark.parametrize("encoding", ["yuv422_yuy2", "bayer_grbg8", "rgb16"])
def test_a_broken_image_in_a_rare_encoding_is_refused(encoding: str) -> None:
    rare = camera(encoding, 8, 8)
    msg = to_image(Frame(noise(encoding, 8, 8), encoding), 0, "camera")
    size = len(msg.data)
    assert kind_of(from_image, with_data(msg, bytes(size - 1)), rare) == "truncated"
    assert kind_of(from_image, msg, replace(rare, width=16)) == "wrong_size"


def test_pixels_that_are_not_of_the_encoding_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="are not rgb8"):
        to_image(Frame(noise("mono8", 4, 4), "rgb8"), 0, "")
    with pytest.raises(ValueError, match="are not 16UC1"):
        to_image(Frame(noise("32FC1", 4, 4), "16UC1"), 0, "")
    with pytest.raises(ValueError, match="jpeg, png"):
        to_compressed_image(Frame(noise("mono8", 4, 4), "mono8"), 0, "")
