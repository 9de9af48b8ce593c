"""What keys, sticks and buttons mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.control.human import (
    KEYS_HELP,
    PULSE_S,
    JoyMapping,
    Keyboard,
    Speeds,
    gripper_pulse_s,
    is_late,
    is_pulsing,
    joy_mapping,
    keyboard_gripper,
    keyboard_twist,
    press,
    read_joy,
)
from vla_ros.types import NS_PER_S

SPEEDS = Speeds(linear_m_s=0.2, angular_rad_s=0.5)
GRIPPER_S = 0.6
# x, y, z and yaw from the sticks; no roll, no pitch.
MAPPING = JoyMapping(
    axes_linear=(1, 0, 4),
    axes_angular=(-1, -1, 3),
    scale_linear_m_s=(0.1, 0.1, 0.05),
    scale_linear_turbo_m_s=(0.25, 0.25, -0.2),
    scale_angular_rad_s=(0.3, 0.3, 0.3),
    scale_angular_turbo_rad_s=(0.8, 0.8, 0.8),
    enable_button=4,
    enable_turbo_button=5,
    gripper_open_button=0,
    gripper_close_button=1,
    emergency_stop_button=8,
)
AXES = (1.0, 0.5, 0.0, -1.0, 1.0)


def at(seconds: float) -> int:
    """Steady time [ns], as large as an uptime makes it."""
    return 10**15 + round(seconds * NS_PER_S)


def pressed(keys: str, start: Keyboard | None = None, at_s: float = 0.0) -> Keyboard:
    """After these keys, all at one instant."""
    keyboard = start or Keyboard()
    for key in keys:
        keyboard = press(keyboard, key, at(at_s), GRIPPER_S)
    return keyboard


def buttons(*held: int) -> list[int]:
    return [int(index in held) for index in range(9)]


def moves(keyboard: Keyboard, at_s: float) -> bool:
    twist = keyboard_twist(keyboard, SPEEDS, at(at_s))
    return bool(np.any(twist.linear) or np.any(twist.angular))


@pytest.mark.parametrize(
    ("keys", "part", "axis"),
    [(keys, "linear", axis) for axis, keys in enumerate(["ws", "ad", "rf"])]
    + [(keys, "angular", axis) for axis, keys in enumerate(["uo", "ik", "jl"])],
)
def test_a_pair_of_keys_moves_both_ways_along_one_axis(keys, part, axis):
    full = SPEEDS.linear_m_s if part == "linear" else SPEEDS.angular_rad_s
    for key, sign in zip(keys, (1.0, -1.0), strict=True):
        twist = keyboard_twist(pressed(key), SPEEDS, at(0.0))
        expected = np.zeros(6)
        expected[axis + (0 if part == "linear" else 3)] = sign * full
        assert np.concatenate([twist.linear, twist.angular]) == pytest.approx(expected)


def test_a_press_moves_for_one_pulse():
    keyboard = pressed("w")
    for inside in (0.0, PULSE_S - 0.001):
        assert is_pulsing(keyboard, at(inside))
        assert moves(keyboard, inside)
    for after in (PULSE_S, 1000.0):
        assert not is_pulsing(keyboard, at(after))
        assert not moves(keyboard, after)


def test_nothing_is_held_before_the_first_key():
    assert not is_pulsing(Keyboard(), at(0.0))
    assert not moves(Keyboard(), 0.0)
    assert keyboard_gripper(Keyboard(), at(0.0)) is None


def test_a_repeated_key_prolongs_and_another_one_turns():
    keyboard = pressed("w", pressed("w"), at_s=0.2)
    assert moves(keyboard, 0.2 + PULSE_S - 0.001)
    assert not moves(keyboard, 0.2 + PULSE_S)
    turned = pressed("l", keyboard, at_s=0.3)
    twist = keyboard_twist(turned, SPEEDS, at(0.3))
    assert not np.any(twist.linear)
    assert twist.angular[2] == -SPEEDS.angular_rad_s


@pytest.mark.parametrize("key", ["z", "W", "\x1b", "\ufffd", "1"])
def test_other_keys_change_nothing(key):
    keyboard = pressed("wg-")
    assert press(keyboard, key, at(0.1), GRIPPER_S) == keyboard


def test_speed_keys_stay_between_a_twentieth_and_all_and_move_nothing():
    assert pressed("+++").fraction == pressed("=").fraction == 1.0
    assert pressed("-").fraction == pytest.approx(0.8)
    assert pressed("-+").fraction == pytest.approx(1.0)
    assert pressed("-" * 50).fraction == 0.05
    assert not is_pulsing(pressed("-+"), at(0.0))
    slow = keyboard_twist(pressed("--w"), SPEEDS, at(0.0))
    assert slow.linear[0] == pytest.approx(0.64 * SPEEDS.linear_m_s)
    assert keyboard_twist(pressed("--u"), SPEEDS, at(0.0)).angular[0] == pytest.approx(0.64 * SPEEDS.angular_rad_s)


def test_the_gripper_closes_first_and_then_alternates():
    keyboard, openings = Keyboard(), []
    for press_s in (0.0, 5.0, 5.1, 20.0):
        keyboard = pressed("g", keyboard, press_s)
        openings.append(keyboard_gripper(keyboard, at(press_s)))
    assert openings == [0.0, 1.0, 0.0, 1.0]


def test_the_gripper_is_told_for_its_own_pulse_under_a_held_deadman():
    keyboard = pressed("g")
    assert keyboard_gripper(keyboard, at(GRIPPER_S - 0.001)) == 0.0
    assert is_pulsing(keyboard, at(GRIPPER_S - 0.001))
    assert keyboard_gripper(keyboard, at(GRIPPER_S)) is None
    assert not is_pulsing(keyboard, at(GRIPPER_S))


def test_a_later_motion_key_does_not_repeat_an_old_gripper_wish():
    opened = pressed("g", pressed("g"), at_s=1.0)
    assert keyboard_gripper(opened, at(1.0)) == 1.0
    # Meanwhile the policy has closed the gripper around something.
    keyboard = pressed("w", opened, at_s=10.0)
    assert moves(keyboard, 10.0)
    assert keyboard_gripper(keyboard, at(10.0)) is None


def test_motion_and_gripper_keep_their_own_pulses():
    keyboard = pressed("w", pressed("g"), at_s=0.1)
    assert moves(keyboard, 0.1 + PULSE_S - 0.001)
    assert not moves(keyboard, 0.1 + PULSE_S)
    assert keyboard_gripper(keyboard, at(0.1 + PULSE_S)) == 0.0
    assert is_pulsing(keyboard, at(0.1 + PULSE_S))
    moved_last = pressed("w", pressed("g"), at_s=0.5)
    assert keyboard_gripper(moved_last, at(0.7)) is None
    assert is_pulsing(moved_last, at(0.7))


def test_the_gripper_key_ends_motion():
    assert not moves(pressed("wg"), 0.0)


@pytest.mark.parametrize(("rate_per_s", "pulse_s"), [(2.0, 0.6), (0.5, 2.1), (40.0, PULSE_S), (1000.0, PULSE_S)])
def test_the_gripper_pulse_lasts_for_the_whole_range(rate_per_s, pulse_s):
    assert gripper_pulse_s(rate_per_s) == pytest.approx(pulse_s)


def test_every_moving_key_is_in_the_help():
    for key in "wsadrfuoikjlg+-xq":
        assert key in KEYS_HELP.replace("/", " ").split(), key


def test_the_deadman_is_either_button_and_nothing_else():
    for held, deadman in [((), False), ((4,), True), ((5,), True), ((4, 5), True), ((0, 1, 2, 3, 6, 7, 8), False)]:
        assert read_joy(AXES, buttons(*held), MAPPING).deadman is deadman


def test_sticks_are_scaled_and_turbo_has_scales_of_its_own():
    slow = read_joy(AXES, buttons(4), MAPPING).twist
    assert slow.linear == pytest.approx([0.05, 0.1, 0.05])
    assert slow.angular == pytest.approx([0.0, 0.0, -0.3])
    for held in [(5,), (4, 5)]:
        fast = read_joy(AXES, buttons(*held), MAPPING).twist
        assert fast.linear == pytest.approx([0.125, 0.25, -0.2])
        assert fast.angular == pytest.approx([0.0, 0.0, -0.8])


@pytest.mark.parametrize(("held", "opening"), [((), None), ((0,), 1.0), ((1,), 0.0), ((0, 1), None)])
def test_gripper_buttons(held, opening):
    assert read_joy(AXES, buttons(4, *held), MAPPING).gripper == opening


def test_the_stop_button_needs_no_deadman():
    assert read_joy(AXES, buttons(8), MAPPING).emergency_stop
    assert not read_joy(AXES, buttons(0, 1, 2, 3, 4, 5, 6, 7), MAPPING).emergency_stop


def test_what_a_device_lacks_is_at_rest():
    joy = read_joy([], [], MAPPING)
    assert (joy.deadman, joy.gripper, joy.emergency_stop) == (False, None, False)
    assert not np.any(joy.twist.linear)
    # Two axes, and one button less than the deadman's number: an index of -1 is none, not the last.
    few = read_joy([0.5, 1.0], [1, 0, 0, 1], replace(MAPPING, emergency_stop_button=-1, axes_angular=(-1, -1, -1)))
    assert (few.deadman, few.gripper, few.emergency_stop) == (False, 1.0, False)
    assert few.twist.linear == pytest.approx([0.1, 0.05, 0.0])
    assert not np.any(few.twist.angular)


def test_parameters_become_a_mapping():
    values: dict[str, float] = {
        "axis_linear.x": 1,
        "axis_linear.y": 0,
        "axis_linear.z": 4,
        "axis_angular.roll": -1,
        "axis_angular.pitch": -1,
        "axis_angular.yaw": 3,
        "scale_linear.x": 0.1,
        "scale_linear.y": 0.1,
        "scale_linear.z": 0.05,
        "scale_linear_turbo.x": 0.25,
        "scale_linear_turbo.y": 0.25,
        "scale_linear_turbo.z": -0.2,
        **{f"scale_angular.{part}": 0.3 for part in ("roll", "pitch", "yaw")},
        **{f"scale_angular_turbo.{part}": 0.8 for part in ("roll", "pitch", "yaw")},
        "enable_button": 4,
        "enable_turbo_button": 5,
        "gripper_open_button": 0,
        "gripper_close_button": 1,
        "emergency_stop_button": 8,
    }
    assert joy_mapping(values) == MAPPING


@pytest.mark.parametrize(
    ("age_s", "late"),
    [(0.0, False), (0.3, False), (0.301, True), (3600.0, True), (-1.0, False)],
)
def test_a_message_is_late_by_its_stamp(age_s, late):
    now_ns = 1_700_000_000 * NS_PER_S
    assert is_late(now_ns - round(age_s * NS_PER_S), now_ns, 0.3) is late


def test_no_stamp_is_not_late():
    assert not is_late(0, 1_700_000_000 * NS_PER_S, 0.3)
