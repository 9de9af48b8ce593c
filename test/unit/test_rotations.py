"""Many rotations at once are those of `geometry`, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros import geometry, rotations
from vla_ros.types import FloatArray

vectors = st.lists(st.floats(-4.0, 4.0), min_size=3, max_size=3).map(np.array)
quaternions = vectors.map(geometry.from_rotation_vector)


@given(st.lists(st.tuples(quaternions, quaternions), min_size=1, max_size=5))
def test_rotations_between_pairs(pairs: list[tuple[FloatArray, FloatArray]]) -> None:
    starts, ends = (np.array(side) for side in zip(*pairs, strict=True))
    found = rotations.between(starts, ends)
    for vector, start, end in zip(found, starts, ends, strict=True):
        again = geometry.multiply(geometry.from_rotation_vector(vector), start)
        assert abs(again @ end) == pytest.approx(1.0, abs=1e-9), (
            "the same rotation, whichever way round half a turn goes"
        )
        assert np.linalg.norm(vector) <= np.pi + 1e-9


@given(st.lists(vectors, min_size=1, max_size=6))
def test_turning_step_by_step(velocities_rad_s: list[FloatArray]) -> None:
    found = rotations.turned(np.array([velocities_rad_s]), dt_s=0.1)[0]
    quaternion = geometry.IDENTITY
    for velocity, there in zip(velocities_rad_s, found, strict=True):
        assert abs(quaternion @ there) == pytest.approx(1.0, abs=1e-9)
        quaternion = geometry.multiply(geometry.from_rotation_vector(velocity * 0.1), quaternion)
