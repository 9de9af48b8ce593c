"""A camera whose pixels stand still while the robot moves."""

from __future__ import annotations

import numpy as np
import pytest
from builders import HOME
from policy_bench import PolicyBench, rows

from vla_ros.control.policy_state import PolicyReason
from vla_ros.control.policy_tick import policy_tick

FROZEN = PolicyReason.CAMERA_FROZEN


def _commanding() -> PolicyBench:
    bench = PolicyBench().asked()
    bench.reply(rows(100)).tick()
    return bench


def _move(bench: PolicyBench, seconds: float, speed_m_s: float) -> list[PolicyReason]:
    reasons = []
    for _ in range(round(seconds / bench.period_s)):
        bench.position = bench.position + np.array([speed_m_s * bench.period_s, 0.0, 0.0])
        reasons.append(bench.tick().status.reason)
        if bench.state.pending:
            bench.reply(rows(100))
    return reasons


def test_a_still_robot_may_see_the_same_for_ever():
    bench = _commanding()
    bench.frozen = list(bench.cameras)
    assert FROZEN not in _move(bench, 5.0, 0.0)


def test_live_cameras_of_a_moving_robot_are_not_frozen():
    assert FROZEN not in _move(_commanding(), 2.0, 0.3)


@pytest.mark.parametrize("delay_s", [0.0, 0.15])
def test_a_robot_that_starts_from_a_long_rest_has_no_frozen_camera(delay_s):
    bench = _commanding()
    bench.camera_delay_s = dict.fromkeys(bench.cameras, delay_s)
    bench.frozen = list(bench.cameras)
    _move(bench, 2.0, 0.0)
    bench.frozen = []
    assert FROZEN not in _move(bench, 1.0, 0.5)


def test_a_camera_that_freezes_during_motion_is_found_within_its_bound_and_two_frames():
    bench = _commanding()
    _move(bench, 0.3, 0.2)
    bench.frozen = ["top"]
    reasons = _move(bench, 1.5, 0.2)
    bound_s = bench.config.contract.timeouts.frozen_camera_s
    assert reasons[-1] is FROZEN and reasons.index(FROZEN) * bench.period_s <= bound_s + 0.2


def test_a_frozen_camera_stays_frozen_when_the_tool_comes_back():
    bench = _commanding()
    bench.frozen = ["top"]
    _move(bench, 1.0, 0.1)
    bench.position = HOME
    assert set(_move(bench, 0.3, 0.0)) == {FROZEN}
    bench.frozen = []
    assert FROZEN not in _move(bench, 0.3, 0.0)[20:]


def test_the_state_before_a_tick_is_left_alone():
    bench = _commanding()
    before = bench.state
    first = policy_tick(before, bench.inputs, bench.now, bench.config)
    second = policy_tick(before, bench.inputs, bench.now, bench.config)
    assert first.trace == second.trace and bench.state is before
