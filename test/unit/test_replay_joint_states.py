"""Joint states are read from the bytes of everybody who writes them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from recorded_bags import STORE, joint_state

from vla_ros.errors import MessageError
from vla_ros.replay.topics import deserialize

KIND = "sensor_msgs/msg/JointState"
NAMES, STAMP_NS = ("shoulder", "a", "gripper_joint"), 1_700_000_000_000_000_005


def by_rosbags(positions: list[float]) -> bytes:
    names = NAMES[: len(positions)]
    return bytes(STORE.serialize_cdr(joint_state(names, positions, STAMP_NS), KIND))


def by_fast_dds(positions: list[float]) -> bytes:
    """The same, with what is left between the two empty sequences behind the positions."""
    plain = by_rosbags(positions)
    velocities_end = len(plain) - 4
    gap = -(velocities_end - 4) % 8
    return plain[:velocities_end] + b"\x52\x56\x07\x01"[:gap] + plain[velocities_end:]


@pytest.mark.parametrize("write", [by_rosbags, by_fast_dds])
@pytest.mark.parametrize("positions", [[0.25, -1.5, 1e-300], [0.25, -1.5], [0.5]])
def test_names_positions_and_stamp_are_read(write, positions):
    read = deserialize(write(positions), KIND)
    assert list(read.name) == list(NAMES[: len(positions)])
    assert read.position.tolist() == positions
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (1_700_000_000, 5)


def test_the_bytes_of_fast_dds_are_not_those_of_rosbags():
    assert len(by_fast_dds([0.25, -1.5, 1e-300])) == len(by_rosbags([0.25, -1.5, 1e-300])) + 4


def test_other_byte_order():
    message = joint_state(NAMES, [1.0, 2.0, 3.0], STAMP_NS)
    read = deserialize(bytes(STORE.serialize_cdr(message, KIND, little_endian=False)), KIND)
    assert read.position.tolist() == [1.0, 2.0, 3.0] and read.position.dtype == np.float64


def test_whatever_else_the_bytes_say_is_refused_in_words():
    whole = by_rosbags([0.25, -1.5, 1e-300])
    read_up_to = whole.index(struct.pack("<d", 1e-300)) + 8
    for length in range(read_up_to):
        with pytest.raises(MessageError, match="cannot be decoded"):
            deserialize(whole[:length], KIND)
    with pytest.raises(MessageError, match="a sequence of 4294967295 where"):
        deserialize(whole.replace(struct.pack("<I", 3), b"\xff" * 4, 1), KIND)
    with pytest.raises(MessageError, match="encapsulation"):
        deserialize(b"\x07\x07" + whole[2:], KIND)
