"""Lining up by header stamp."""

from __future__ import annotations

import numpy as np
import pytest
from builders import pose

from vla_ros.control.alignment import common_instant, nearest, pose_at
from vla_ros.control.streams import Samples
from vla_ros.types import Sample

MS = 1_000_000


def _frames(*stamps_ms: int) -> Samples:
    return tuple(Sample("c", stamp, stamp * MS, 0) for stamp in stamps_ms)


@pytest.mark.parametrize(
    ("histories", "expected_ms"),
    [
        ([(100, 200), (100, 200)], 200),
        ([(100, 200), (100,)], 100),
        ([(100, 200), (120, 190)], 200),
        ([(100, 200), (60, 150)], 200),
        ([(100, 200), (149,)], 149),
        ([(100,), (151,)], None),
        ([(100,), ()], None),
    ],
)
def test_the_common_instant_is_the_newest_stamp_within_the_skew_of_all(histories, expected_ms):
    found = common_instant([_frames(*history) for history in histories], 0.05)
    assert found == (None if expected_ms is None else expected_ms * MS)


def test_nearest_looks_both_ways():
    assert [nearest(_frames(100, 200), at * MS).value for at in (0, 149, 151, 900)] == [100, 100, 200, 200]


def test_poses_are_interpolated_and_never_extrapolated():
    history = tuple(Sample("p", pose(x), at * MS, 0) for at, x in ((100, 0.0), (200, 0.1)))
    found = [pose_at(history, at * MS).position[0] for at in (0, 100, 150, 200, 500)]
    assert np.allclose(found, [0.0, 0.0, 0.05, 0.1, 0.1])


def test_a_sample_without_a_stamp_cannot_be_lined_up():
    with pytest.raises(ValueError, match="carries no stamp"):
        common_instant([(Sample("c", 0, None, 0),)], 0.05)
