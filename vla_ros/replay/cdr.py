"""Joint states out of a bag's bytes, as all who write them mean them.

CDR aligns the numbers of a sequence. Of an empty one Fast DDS aligns them too and leaves behind its length up to four
bytes of anything; rosbags does not, and would read those bytes as the next sequence's length. Nothing reads a joint
state's velocities and efforts, so they are left alone.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from vla_ros.types import FloatArray

JOINT_STATE = "sensor_msgs/msg/JointState"

_ENCAPSULATION = 4
_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<"}


def read_joint_state(data: bytes, types: Any) -> Any:
    """-> rosbags' JointState without velocities and efforts. types: of a rosbags store.

    Raises ValueError or struct.error for bytes that are none.
    """
    reader = _Reader(data)
    stamp = types["builtin_interfaces/msg/Time"](*reader.numbers("iI"))
    header = types["std_msgs/msg/Header"](stamp, reader.text())
    names = [reader.text() for _ in range(reader.count(5))]
    positions = reader.doubles(reader.count(8))
    nothing = np.zeros(0)
    return types[JOINT_STATE](header, names, positions, nothing, nothing)


class _Reader:
    """Goes through serialized bytes. Alignment counts from behind the encapsulation."""

    def __init__(self, data: bytes) -> None:
        order = _ORDERS.get(data[:2])
        if order is None:
            raise ValueError("the encapsulation is not one of plain CDR")
        self._data, self._order, self._at = data, order, _ENCAPSULATION

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """Of four bytes each, by struct's letters."""
        self._align(4)
        found = struct.unpack_from(self._order + layout, self._data, self._at)
        self._at += 4 * len(layout)
        return found

    def count(self, least_bytes: int) -> int:
        """The length of a sequence whose elements take at least so many bytes."""
        (count,) = self.numbers("I")
        if count * least_bytes > len(self._data) - self._at:
            raise ValueError(f"a sequence of {count} where {len(self._data) - self._at} bytes are left")
        return int(count)

    def text(self) -> str:
        """A string, which ends with a zero."""
        length = self.count(1)
        end = self._at + length
        if length == 0 or self._data[end - 1]:
            raise ValueError("a string without its end")
        text, self._at = self._data[self._at : end - 1].decode(), end
        return text

    def doubles(self, count: int) -> FloatArray:
        """-> (count,)"""
        if not count:
            return np.zeros(0)
        self._align(8)
        found = np.frombuffer(self._data, f"{self._order}f8", count, self._at).astype(np.float64)
        self._at += 8 * count
        return found

    def _align(self, size: int) -> None:
        self._at += -(self._at - _ENCAPSULATION) % size
