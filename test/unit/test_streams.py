"""Which samples are welcome, and how old they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import UPRIGHT, pose, twist

from vla_ros.control.streams import Streams, absorb, age_s, age_text, is_fresh, trace_of
from vla_ros.types import JointState, Now, Pose, Sample

MS = 1_000_000
NOW = Now(ros_ns=10_000 * MS, steady_ns=500 * MS)


def _sample(stamp_ms: int | None = None, received_ms: int = 500, value: Any = 1.0) -> Sample[Any]:
    return Sample("c", value, None if stamp_ms is None else stamp_ms * MS, received_ms * MS)


def _absorb(streams: Streams, sample: Sample[Any], depth: int) -> Streams:
    return absorb(streams, [sample], NOW, lambda _channel: depth)


def test_age_is_the_worse_of_reception_and_stamp():
    assert age_s(_sample(9_700, 400), NOW) == pytest.approx(0.3)
    assert age_s(_sample(9_950, 300), NOW) == pytest.approx(0.2)
    assert age_s(_sample(None, 300), NOW) == pytest.approx(0.2)


def test_a_sample_is_fresh_up_to_its_bound_and_nothing_is_never_fresh():
    assert is_fresh(_sample(9_800), NOW, 0.2) and not is_fresh(_sample(9_799), NOW, 0.2)
    assert not is_fresh(None, NOW, 1e9)
    assert age_text(None, NOW) == "never heard"


@pytest.mark.parametrize(
    ("stamps_ms", "kept_ms", "refusal"),
    [
        ([9_000, 9_000], [9_000], "stamp not increasing"),
        ([9_000, 8_999], [9_000], "stamp not increasing"),
        ([10_101], [], "stamp from the future"),
        ([10_100], [10_100], None),
    ],
)
def test_stamps_increase_and_do_not_lie_in_the_future(stamps_ms, kept_ms, refusal):
    streams = Streams()
    for stamp_ms in stamps_ms:
        streams = _absorb(streams, _sample(stamp_ms), 4)
    assert [sample.stamp_ns for sample in streams.history("c")] == [stamp * MS for stamp in kept_ms]
    assert streams.refused == ({} if refusal is None else {f"c: {refusal}": 1})


@pytest.mark.parametrize(
    "value",
    [
        np.nan,
        np.inf,
        np.array([1.0, np.nan]),
        twist(x=np.nan),
        twist(angular=(0.0, -np.inf, 0.0)),
        pose(z=np.nan),
        pose(x=1e200),
        Pose(np.zeros(3), 1.01 * UPRIGHT),
        Pose(np.zeros(3), np.full(4, np.nan)),
        JointState(("a",), np.array([np.inf])),
    ],
)
def test_what_is_not_finite_or_not_a_rotation_is_refused(value):
    streams = _absorb(Streams(), _sample(9_000, value=value), 4)
    assert streams.newest("c") is None and sum(streams.refused.values()) == 1


def test_a_history_keeps_the_newest():
    streams = Streams()
    for stamp_ms in range(9_000, 9_010):
        streams = _absorb(streams, _sample(stamp_ms), 3)
    assert [sample.stamp_ns // MS for sample in streams.history("c")] == [9_007, 9_008, 9_009]


def test_absorbing_leaves_the_old_streams_alone():
    before = _absorb(Streams(), _sample(9_000), 3)
    _absorb(before, _sample(9_001), 3)
    assert len(before.history("c")) == 1


def test_clearing_keeps_the_counts():
    streams = _absorb(_absorb(Streams(), _sample(9_000), 3), _sample(9_000), 3)
    assert streams.cleared().newest("c") is None and streams.cleared().refused == streams.refused
    assert streams.only(["c"]).newest("c") and streams.only(["d"]).newest("c") is None
    assert streams.without("c").newest("c") is None


def test_a_trace_names_stamped_inputs_and_quotes_unstamped_ones():
    assert trace_of(_sample(9_000, 400), NOW) == {"channel": "c", "receive_age_s": 0.1, "stamp_ns": 9_000 * MS}
    assert trace_of(_sample(None, 400, "stop"), NOW) == {"channel": "c", "receive_age_s": 0.1, "value": "stop"}


def test_samples_of_one_tick_are_taken_as_one_after_the_other():
    samples = [_sample(stamp_ms) for stamp_ms in (9_000, 9_000, 9_001, 9_002)]
    at_once = absorb(Streams(), samples, NOW, lambda _channel: 2)
    one_by_one = Streams()
    for sample in samples:
        one_by_one = _absorb(one_by_one, sample, 2)
    assert at_once.history("c") == one_by_one.history("c") == tuple(samples[2:])
    assert at_once.refused == one_by_one.refused == {"c: stamp not increasing": 1}
