"""Which row of a plan is due."""

from __future__ import annotations

import numpy as np
import pytest
from builders import UPRIGHT, pose
from policy_bench import rows
from scipy.spatial.transform import Rotation

from vla_ros.control.chunks import make_row, target_at, validate_chunk
from vla_ros.types import NS_PER_S, Chunk

T0 = 5 * NS_PER_S


def _at(chunk: Chunk, seconds: float):
    return target_at(chunk, T0 + round(seconds * NS_PER_S))


def test_rows_are_interpolated_between_their_instants():
    chunk = Chunk(T0, 0.1, rows(4, speed_m_s=0.5))
    for seconds in (0.0, 0.05, 0.1, 0.299, 0.3):
        assert np.allclose(_at(chunk, seconds).pose.position, pose(0.5 * seconds).position)


def test_before_its_first_and_after_its_last_row_a_chunk_says_nothing():
    chunk = Chunk(T0, 0.1, rows(4))
    assert target_at(chunk, T0 - 1) is None and target_at(chunk, T0) is not None
    assert target_at(chunk, chunk.end_ns) is not None and target_at(chunk, chunk.end_ns + 1) is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rotations_are_interpolated_by_slerp_whatever_their_sign(sign):
    made = rows(2)
    half = Rotation.from_euler("z", 0.5) * Rotation.from_quat(UPRIGHT)
    made[1, 3:7] = sign * (Rotation.from_euler("z", 1.0) * Rotation.from_quat(UPRIGHT)).as_quat()
    found = _at(Chunk(T0, 0.1, made), 0.05).pose.quaternion
    assert (Rotation.from_quat(found) * half.inv()).magnitude() < 1e-7


def test_the_gripper_is_the_last_due_rows():
    made = rows(3)
    made[:, 13] = [0.0, 1.0, 0.25]
    chunk = Chunk(T0, 0.1, made)
    assert [_at(chunk, t).gripper for t in (0.0, 0.099, 0.1, 0.19, 0.2)] == [0.0, 0.0, 1.0, 1.0, 0.25]


def test_a_row_survives_the_way_through_a_target():
    chunk = Chunk(T0, 0.1, rows(3))
    assert np.allclose(make_row(_at(chunk, 0.1)), chunk.rows[1])


def test_a_good_chunk_passes():
    validate_chunk(Chunk(T0, 0.0125, rows(2)))
