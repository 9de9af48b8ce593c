"""Loops that make no cycles are not searched for them again and again; what a cycle holds does not stay for good."""

from __future__ import annotations

import gc
import weakref

import pytest

from vla_ros.garbage import seldom_collected


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def _searches() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_values_without_cycles_are_hardly_searched() -> None:
    def make_values() -> int:
        before = _searches()
        for _ in range(5):
            assert len([[number] for number in range(5_000)]) == 5_000
        return _searches() - before

    usual = make_values()
    with seldom_collected():
        assert make_values() * 10 < usual


def test_what_a_cycle_holds_is_freed_in_the_end() -> None:
    with seldom_collected():
        cycle = weakref.ref(_Cycle())
        made = 0
        while cycle() is not None and made < 1_000_000:
            made += len([_Cycle() for _ in range(1_000)])
        assert cycle() is None


def test_all_is_as_before_behind_it_even_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="oops"), seldom_collected():
        assert gc.get_freeze_count() > 0
        raise ValueError("oops")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
