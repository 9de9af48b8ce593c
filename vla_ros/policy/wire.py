"""What the policy node and its worker say to each other: msgpack maps of numpy arrays, never pickle.

Arrays are encoded as openpi's client encodes them. A frame is two big-endian 32-bit words, the payload's length and
the request's id (0 for what answers no request), and the payload.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import WorkerError

Message = Mapping[str, Any]

MAX_FRAME_BYTES = 256 * 2**20
MAX_REQUEST_ID = 2**32 - 1
HEADER = struct.Struct(">II")

# Booleans, integers and floats of a stated width. Everything else (objects, records, strings) is refused.
_BYTES = [np.dtype(kind) for kind in ("?", "i1", "u1")]
_WORDS = [
    np.dtype(f"{order}{kind}") for order in "<>" for kind in ("i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8")
]
_DTYPES = {dtype.str: dtype for dtype in (*_BYTES, *_WORDS)}
_ARRAY_KEYS = {b"__ndarray__", b"data", b"dtype", b"shape"}
_SCALAR_KEYS = {b"__npgeneric__", b"data", b"dtype"}


def encode(message: Message) -> bytes:
    """A map as msgpack. Raises WorkerError for what cannot be said."""
    try:
        with _packing:
            return bytes(_packer.pack(message))
    except (TypeError, ValueError, OverflowError) as error:
        raise WorkerError(f"the message cannot be encoded: {error}") from None


def decode(payload: bytes | bytearray) -> dict[str, Any]:
    """The map in a payload; its arrays are read-only. Raises WorkerError for anything else."""
    try:
        message = msgpack.unpackb(payload, object_hook=_unpack, ext_hook=_refuse_extension)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WorkerError(f"the message is not msgpack: {error}") from None
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise WorkerError("the message is not a map with text keys")
    return message


def frame(request_id: int, payload: bytes) -> bytes:
    """Header and payload. Raises WorkerError if the payload is too large or the id is not one."""
    if len(payload) > MAX_FRAME_BYTES:
        raise WorkerError(f"the message has {len(payload)} bytes; at most {MAX_FRAME_BYTES} are allowed")
    if not 0 <= request_id <= MAX_REQUEST_ID:
        raise WorkerError(f"the request id {request_id} is not in 0 to {MAX_REQUEST_ID}")
    return HEADER.pack(len(payload), request_id) + payload


def receive(connection: socket.socket) -> tuple[int, bytearray] | None:
    """Wait for the next frame (request id, payload) on a blocking socket. None: the stream has ended.

    An observation is large: it is read straight to where it stays. Raises WorkerError for an absurd length.
    """
    header = _receive_exactly(connection, HEADER.size)
    if header is None:
        return None
    length, request_id = _parse_header(header)
    payload = _receive_exactly(connection, length)
    return None if payload is None else (request_id, payload)


def _receive_exactly(connection: socket.socket, size: int) -> bytearray | None:
    received = bytearray(size)
    missing = memoryview(received)
    while missing:
        count = connection.recv_into(missing, 0, socket.MSG_WAITALL)  # less, where a signal came in between
        if not count:
            return None
        missing = missing[count:]
    return received


def _parse_header(data: bytearray) -> tuple[int, int]:
    """-> the payload's length, the request's id."""
    length, request_id = HEADER.unpack_from(data)
    if length > MAX_FRAME_BYTES:
        raise WorkerError(f"a frame claims {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
    return length, request_id


class FrameReader:
    """Cuts a byte stream into frames, for who must not wait for the rest of one."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Add bytes; the frames (request id, payload) that they complete. Raises WorkerError for an absurd length."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= HEADER.size:
            length, request_id = _parse_header(self._buffer)
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append((request_id, bytes(memoryview(self._buffer)[HEADER.size : end])))
            del self._buffer[:end]
        return frames


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str not in _DTYPES:
        raise TypeError(f"arrays of dtype {value.dtype} are not allowed")
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": np.ascontiguousarray(value).data,
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} is not allowed")


# One for all messages: a new packer's buffer costs more than to fill it.
_packer, _packing = msgpack.Packer(default=_pack), threading.Lock()


def _unpack(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _unpack_array(value)
    if b"__npgeneric__" in value:
        return _unpack_scalar(value)
    return value


def _unpack_array(value: dict[Any, Any]) -> NDArray[Any]:
    if value.keys() != _ARRAY_KEYS or not isinstance(value[b"data"], bytes):
        raise WorkerError("an array in the message is malformed")
    dtype, shape, data = _dtype(value[b"dtype"]), value[b"shape"], value[b"data"]
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise WorkerError(f"an array in the message has the shape {shape!r}")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise WorkerError(f"an array in the message has {len(data)} bytes, which is not {shape} of {dtype}")
    array: NDArray[Any] = np.ndarray(tuple(shape), dtype, buffer=data)
    return array


def _unpack_scalar(value: dict[Any, Any]) -> Any:
    if value.keys() != _SCALAR_KEYS or not isinstance(value[b"data"], bool | int | float):
        raise WorkerError("a number in the message is malformed")
    return _dtype(value[b"dtype"]).type(value[b"data"])


def _dtype(text: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or text not in _DTYPES:
        raise WorkerError(f"an array in the message has the dtype {text!r}; only numbers are allowed")
    return _DTYPES[text]


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise WorkerError(f"the message holds the msgpack extension {code}; none is allowed")
