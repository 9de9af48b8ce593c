"""Which earlier frames a sample comes with: of its own episode, before it, and as a live policy would have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed")

from vla_ros.learning.earlier import drawn, looked_back

STARTS = np.array([0, 0, 100, 100])


def test_a_network_looks_back_at_the_cameras_instants_and_not_past_the_beginning() -> None:
    found = looked_back(STARTS, np.array([0, 5, 103, 110]), 3, 2)
    assert found.numbers.tolist() == [[0, 0, 0], [5, 1, 3], [103, 103, 101], [104, 106, 108]]
    assert found.here.tolist() == [[False] * 3, [False, True, True], [False, False, True], [True] * 3]


def test_without_history_there_is_nothing_to_look_back_at() -> None:
    assert looked_back(STARTS, STARTS, 0, 2).numbers.shape == (4, 0)


@given(st.integers(0, 30), st.integers(1, 6), st.integers(0, 1000))
def test_what_is_remembered_went_before_and_is_in_order(age: int, count: int, seed: int) -> None:
    starts = np.full(20, 100)
    found = drawn(starts, starts + age, count, np.random.default_rng(seed))
    known = min(age, count)
    assert set(found.here.sum(axis=1).tolist()) <= {0, known}
    for numbers, here in zip(found.numbers, found.here, strict=True):
        real = numbers[here]
        assert ((real >= 100) & (real < 100 + age)).all()
        assert (np.diff(real) > 0).all()
        assert (numbers[~here] == 100 + age).all()
        assert (np.diff(here.astype(int)) >= 0).all(), "absent ones come first"


def test_all_that_went_before_is_remembered_about_equally_often_and_now_and_then_nothing() -> None:
    starts = np.zeros(4000, np.int64)
    found = drawn(starts, starts + 10, 5, np.random.default_rng(0))
    assert 0.07 < (~found.here.any(axis=1)).mean() < 0.13
    counts = np.bincount(found.numbers[found.here], minlength=10)
    assert counts.min() > 0.9 * counts.max()
