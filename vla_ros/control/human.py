"""What a human's keys, sticks and buttons mean: pure functions from input devices to teleop commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.types import NS_PER_S, FloatArray, Twist

# A terminal tells of a key going down but not of it coming up: each press moves for this long.
PULSE_S = 0.3
_SLOWER, _FASTER = 0.8, 1.25

_LINEAR = {"w": (1, 0, 0), "s": (-1, 0, 0), "a": (0, 1, 0), "d": (0, -1, 0), "r": (0, 0, 1), "f": (0, 0, -1)}
_ANGULAR = {"u": (1, 0, 0), "o": (-1, 0, 0), "i": (0, 1, 0), "k": (0, -1, 0), "j": (0, 0, 1), "l": (0, 0, -1)}

KEYS_HELP = """\
  w/s  along +x/-x      u/o  roll  +/-      g      open or close the gripper
  a/d  along +y/-y      i/k  pitch +/-      + -    faster, slower
  r/f  along +z/-z      j/l  yaw   +/-      x      tell the policy to stop
  space  emergency stop                     q      quit
Each press moves for a moment; between presses the policy may move. x makes it wait for a new instruction."""


@dataclass(frozen=True)
class Speeds:
    """The largest speeds asked for: [m/s], [rad/s]."""

    linear_m_s: float
    angular_rad_s: float


@dataclass(frozen=True)
class Keyboard:
    """key: the motion key last pressed, moving until `until_ns` (steady); fraction: of the speeds.

    gripper: the opening last asked for, sent until `gripper_until_ns` (steady).
    """

    fraction: float = 1.0
    key: str = ""
    until_ns: int = 0
    gripper: float | None = None
    gripper_until_ns: int = 0


def gripper_pulse_s(max_rate_per_s: float) -> float:
    """How long the gripper's key acts: long enough for the whole range at the contract's rate [1/s]."""
    return max(PULSE_S, 1.0 / max_rate_per_s + 0.1)


def press(keyboard: Keyboard, key: str, now_ns: int, gripper_s: float) -> Keyboard:
    """One key. now_ns: steady; gripper_s: of `gripper_pulse_s`. Keys without a meaning change nothing."""
    if key in _LINEAR or key in _ANGULAR:
        return replace(keyboard, key=key, until_ns=now_ns + round(PULSE_S * NS_PER_S))
    if key == "g":
        # Motion ends here. The opening is sent in this pulse alone: sent again with a later motion key, it would undo
        # what the policy did with the gripper in between, and drop what it holds.
        opening = 1.0 if keyboard.gripper == 0.0 else 0.0
        until_ns = now_ns + round(gripper_s * NS_PER_S)
        return replace(keyboard, until_ns=now_ns, gripper=opening, gripper_until_ns=until_ns)
    if key in "+=":
        return replace(keyboard, fraction=min(1.0, keyboard.fraction * _FASTER))
    if key == "-":
        return replace(keyboard, fraction=max(0.05, keyboard.fraction * _SLOWER))
    return keyboard


def is_pulsing(keyboard: Keyboard, now_ns: int) -> bool:
    """Whether the deadman counts as held: for motion or for the gripper. now_ns: steady."""
    return now_ns < max(keyboard.until_ns, keyboard.gripper_until_ns)


def keyboard_twist(keyboard: Keyboard, speeds: Speeds, now_ns: int) -> Twist:
    """The twist of the key last pressed, in the base frame; zero after its pulse. now_ns: steady."""
    key = keyboard.key if now_ns < keyboard.until_ns else ""
    linear = np.array(_LINEAR.get(key, (0, 0, 0)), np.float64) * speeds.linear_m_s
    angular = np.array(_ANGULAR.get(key, (0, 0, 0)), np.float64) * speeds.angular_rad_s
    return Twist(linear * keyboard.fraction, angular * keyboard.fraction)


def keyboard_gripper(keyboard: Keyboard, now_ns: int) -> float | None:
    """The opening asked for, 0 closed to 1 open; None outside of its pulse. now_ns: steady."""
    return keyboard.gripper if now_ns < keyboard.gripper_until_ns else None


@dataclass(frozen=True)
class JoyMapping:
    """teleop_twist_joy's meanings. axes_*: index per x, y, z (roll, pitch, yaw), -1 for none; buttons likewise."""

    axes_linear: tuple[int, int, int]
    axes_angular: tuple[int, int, int]
    scale_linear_m_s: tuple[float, float, float]
    scale_linear_turbo_m_s: tuple[float, float, float]
    scale_angular_rad_s: tuple[float, float, float]
    scale_angular_turbo_rad_s: tuple[float, float, float]
    enable_button: int
    enable_turbo_button: int
    gripper_open_button: int
    gripper_close_button: int
    emergency_stop_button: int


@dataclass(frozen=True, eq=False)
class JoyCommand:
    """One joystick message read. gripper: None while neither button is pressed."""

    deadman: bool
    twist: Twist
    gripper: float | None
    emergency_stop: bool


def read_joy(axes: Sequence[float], buttons: Sequence[int], mapping: JoyMapping) -> JoyCommand:
    """What sensor_msgs/Joy says. An axis or button that the device lacks counts as released."""
    turbo = _pressed(buttons, mapping.enable_turbo_button)
    deadman = turbo or _pressed(buttons, mapping.enable_button)
    linear = mapping.scale_linear_turbo_m_s if turbo else mapping.scale_linear_m_s
    angular = mapping.scale_angular_turbo_rad_s if turbo else mapping.scale_angular_rad_s
    twist = Twist(_scaled(axes, mapping.axes_linear, linear), _scaled(axes, mapping.axes_angular, angular))
    gripper = {
        (True, False): 1.0,
        (False, True): 0.0,
    }.get((_pressed(buttons, mapping.gripper_open_button), _pressed(buttons, mapping.gripper_close_button)))
    return JoyCommand(deadman, twist, gripper, _pressed(buttons, mapping.emergency_stop_button))


def is_late(stamp_ns: int, now_ns: int, max_age_s: float) -> bool:
    """Whether a message was made too long ago [ROS ns]: no evidence of a held deadman. A stamp of 0 says nothing."""
    return stamp_ns != 0 and now_ns - stamp_ns > max_age_s * NS_PER_S


def joy_mapping(values: Mapping[str, float]) -> JoyMapping:
    """From ROS parameters with teleop_twist_joy's names."""

    def axes(name: str, parts: Sequence[str]) -> tuple[int, int, int]:
        first, second, third = (int(values[f"{name}.{part}"]) for part in parts)
        return first, second, third

    def scales(name: str, parts: Sequence[str]) -> tuple[float, float, float]:
        first, second, third = (float(values[f"{name}.{part}"]) for part in parts)
        return first, second, third

    return JoyMapping(
        axes("axis_linear", LINEAR_PARTS),
        axes("axis_angular", ANGULAR_PARTS),
        scales("scale_linear", LINEAR_PARTS),
        scales("scale_linear_turbo", LINEAR_PARTS),
        scales("scale_angular", ANGULAR_PARTS),
        scales("scale_angular_turbo", ANGULAR_PARTS),
        int(values["enable_button"]),
        int(values["enable_turbo_button"]),
        int(values["gripper_open_button"]),
        int(values["gripper_close_button"]),
        int(values["emergency_stop_button"]),
    )


LINEAR_PARTS = ("x", "y", "z")
ANGULAR_PARTS = ("roll", "pitch", "yaw")


def _pressed(buttons: Sequence[int], index: int) -> bool:
    return 0 <= index < len(buttons) and buttons[index] != 0


def _scaled(axes: Sequence[float], indices: tuple[int, int, int], scales: tuple[float, float, float]) -> FloatArray:
    pairs = zip(indices, scales, strict=True)
    return np.array([axes[index] * scale if 0 <= index < len(axes) else 0.0 for index, scale in pairs])
