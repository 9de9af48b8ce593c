from __future__ import annotations

import contextlib
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_ros.errors import WorkerError
from vla_ros.policy import messages, wire
from vla_ros.types import Chunk, Needs, Observation, Pose

NUMBERS = st.sampled_from(["|b1", "|u1", "<i4", ">i2", "<f4", "<f8", ">f8", "<u8"])
ARRAYS = NUMBERS.flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0)))


def observation(**changes: Any) -> Observation:
    pose = Pose(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]))
    fields: dict[str, Any] = {
        "t_obs_ns": 12_500_000,
        "instruction": "open the drawer",
        "images": {"front": np.arange(48, dtype=np.uint8).reshape(4, 4, 3)},
        "ee_pose": pose,
        "commanded_pose": pose,
        "joint_positions": np.linspace(0.0, 1.0, 9),
        "gripper": 0.5,
    }
    return Observation(**{**fields, **changes})


@given(ARRAYS)
def test_arrays_survive_the_wire_bit_for_bit(array: np.ndarray[Any, Any]) -> None:
    back = wire.decode(wire.encode({"a": array}))["a"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_arrays_look_as_openpi_s_client_writes_them() -> None:
    packed = msgpack.unpackb(wire.encode({"a": np.array([[1, 2]], np.int16), "s": np.int32(7)}))
    assert packed["a"] == {b"__ndarray__": True, b"data": b"\1\0\2\0", b"dtype": "<i2", b"shape": [1, 2]}
    assert packed["s"] == {b"__npgeneric__": True, b"data": 7, b"dtype": "<i4"}
    assert wire.decode(wire.encode({"s": np.int32(7)}))["s"] == np.int32(7)


def array_map(**changes: Any) -> bytes:
    fields = {"__ndarray__": True, "data": bytes(8), "dtype": "<f8", "shape": [1], **changes}
    return bytes(msgpack.packb({"a": {key.encode(): value for key, value in fields.items()}}))


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"dtype": "|V8"},
        {"dtype": "f8,f8"},
        {"dtype": "<c8"},
        {"dtype": "<U2"},
        {"dtype": "<f1"},
        {"dtype": 8},
        {"shape": [2]},
        {"shape": [-1]},
        {"shape": [-1, -1]},
        {"shape": [True]},
        {"shape": [1.0]},
        {"shape": "1"},
        {"shape": [2**62, 2**62]},
        {"shape": [0, 2**63 + 1], "data": b""},
        {"shape": [1] * 100},
        {"data": "12345678"},
        {"extra": 1},
    ],
    ids=str,
)
def test_arrays_that_are_not_plain_numbers_are_refused(changes: dict[str, Any]) -> None:
    assert wire.decode(array_map())["a"].shape == (1,)
    with pytest.raises(WorkerError):
        wire.decode(array_map(**changes))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x01",
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": 1})[:-1],
        msgpack.packb({"a": 1}) + b"\x00",
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 5_000 + b"\x00",
        msgpack.packb({"s": {b"__npgeneric__": True, b"data": "1", b"dtype": "<i4"}}),
        msgpack.packb({"s": {b"__npgeneric__": True, b"data": math.nan, b"dtype": "<i4"}}),
    ],
)
def test_payloads_that_are_not_maps_are_refused(payload: bytes) -> None:
    with pytest.raises(WorkerError):
        wire.decode(payload)


@pytest.mark.parametrize(
    "value", [object(), np.array([None]), np.zeros(1, "V4"), np.array(["a"]), np.array([1j]), 2**70, {1, 2}]
)
def test_what_cannot_be_said_is_not_encoded(value: object) -> None:
    with pytest.raises(WorkerError):
        wire.encode({"a": value})


@given(st.binary(max_size=200))
def test_garbage_is_a_worker_error_and_nothing_else(payload: bytes) -> None:
    for decode in (wire.decode, messages.decode_answer, messages.decode_observation):
        with contextlib.suppress(WorkerError):
            decode(payload)


@given(st.lists(st.tuples(st.integers(0, wire.MAX_REQUEST_ID), st.binary(max_size=50)), max_size=5), st.data())
def test_frames_are_found_wherever_the_stream_is_cut(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(wire.frame(*one) for one in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = wire.FrameReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == frames


@pytest.mark.parametrize("sizes", [(), (0,), (1_000_000, 0, 3)])
def test_whole_frames_are_received_until_the_stream_ends(sizes: tuple[int, ...]) -> None:
    frames = [(index, bytes([index]) * size) for index, size in enumerate(sizes)]
    reader, writer = socket.socketpair()
    with reader, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(_send_and_close, writer, b"".join(wire.frame(*one) for one in frames))
        assert [wire.receive(reader) for _ in frames] == frames
        assert wire.receive(reader) is None
        sent.result()


@pytest.mark.parametrize("length", [3, 12])
def test_a_stream_that_ends_within_a_frame_has_ended(length: int) -> None:
    reader, writer = socket.socketpair()
    with reader:
        _send_and_close(writer, wire.frame(1, bytes(100))[:length])
        assert wire.receive(reader) is None


def _send_and_close(writer: socket.socket, data: bytes) -> None:
    with writer:
        writer.sendall(data)


def test_a_frame_of_absurd_length_is_refused_before_it_is_read() -> None:
    with pytest.raises(WorkerError, match="claims"):
        wire.FrameReader().feed(b"garbage garbage")
    reader, writer = socket.socketpair()
    with reader, writer, pytest.raises(WorkerError, match="claims"):
        writer.sendall(b"garbage garbage")
        wire.receive(reader)


@pytest.mark.parametrize("vector", [None, np.arange(45.0)])
def test_observations_survive_the_wire(vector: Any) -> None:
    sent = observation(privileged=vector, joint_positions=vector)
    back = messages.decode_observation(messages.encode_observation(sent))
    assert (back.t_obs_ns, back.instruction, back.gripper) == (sent.t_obs_ns, sent.instruction, sent.gripper)
    np.testing.assert_array_equal(back.images["front"], sent.images["front"])
    np.testing.assert_array_equal(back.commanded_pose.quaternion, sent.commanded_pose.quaternion)
    for received in (back.joint_positions, back.privileged):
        if vector is None:
            assert received is None
        else:
            np.testing.assert_array_equal(received, vector)


def test_an_observation_s_bytes_do_not_depend_on_the_order_of_its_views() -> None:
    front, wrist = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)
    one = messages.encode_observation(observation(images={"front": front, "wrist": wrist}))
    other = messages.encode_observation(observation(images={"wrist": wrist, "front": front}))
    assert one == other
    assert one != messages.encode_observation(observation())


@pytest.mark.parametrize(
    "changes",
    [
        {"images": {"front": np.zeros((4, 4), np.uint8)}},
        {"images": {"front": np.zeros((4, 4, 4), np.uint8)}},
        {"images": {"front": np.zeros((4, 4, 3), np.float32)}},
        {"ee_pose": Pose(np.zeros(4), np.zeros(4))},
        {"joint_positions": np.zeros((3, 3))},
        {"instruction": None},
        {"t_obs_ns": 1.5},
    ],
)
def test_malformed_observations_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WorkerError):
        messages.decode_observation(messages.encode_observation(observation(**changes)))


def test_answers_survive_the_wire() -> None:
    hello = messages.Hello("hold", Needs(("front", "wrist"), privileged=True), 42)
    assert messages.decode_answer(messages.encode_answer(hello)) == hello
    failure = messages.Failure("no")
    assert messages.decode_answer(messages.encode_answer(failure)) == failure
    chunk = Chunk(5, 0.0125, np.full((3, 14), math.nan))
    plan = messages.decode_answer(messages.encode_answer(messages.Plan(chunk, 0.25)))
    assert isinstance(plan, messages.Plan)
    assert (plan.inference_s, plan.chunk.t_obs_ns, plan.chunk.dt_s) == (0.25, 5, 0.0125)
    np.testing.assert_array_equal(plan.chunk.rows, chunk.rows)


@pytest.mark.parametrize("rows", [None, "rows", np.zeros(14), np.zeros((1, 2, 14)), [[1.0], [1.0, 2.0]], [[object()]]])
def test_a_chunk_whose_rows_are_no_table_is_not_sent(rows: Any) -> None:
    with pytest.raises(WorkerError, match="chunk is malformed"):
        messages.encode_answer(messages.Plan(Chunk(0, 0.1, rows), 0.0))
