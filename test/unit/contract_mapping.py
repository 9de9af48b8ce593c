"""A valid contract as YAML gives it, to be spoilt one key at a time."""

from __future__ import annotations

import copy
from typing import Any

REMOVE = object()


def valid_mapping() -> dict[str, Any]:
    """A pose contract in which every optional key is given, fresh each time."""
    return copy.deepcopy(_VALID)


def spoilt(path: str, value: Any) -> dict[str, Any]:
    """A valid mapping with the value at a dotted path replaced, added, or taken away (REMOVE)."""
    mapping = valid_mapping()
    *parents, last = path.split(".")
    place: Any = mapping
    for key in parents:
        place = place[key]
    if value is REMOVE:
        del place[last]
    else:
        place[last] = value
    return mapping


_VALID: dict[str, Any] = {
    "name": "arm",
    "description": "an arm for tests",
    "command_interface": "pose",
    "units": {"length": "m", "angle": "rad"},
    "frames": {"base": "base_link", "tool": "tool0"},
    "rates": {"policy_hz": 50.0, "guard_hz": 100.0},
    "cameras": {
        "front": {
            "topic": "camera/front/image_raw",
            "transport": "raw",
            "encoding": "rgb8",
            "width": 64,
            "height": 48,
            "rate_hz": 10.0,
            "max_age_s": 0.3,
            "frame": "camera_front",
        },
        "wrist": {
            "topic": "camera/wrist/image_raw/compressed",
            "transport": "compressed",
            "encoding": "jpeg",
            "width": 64,
            "height": 48,
            "rate_hz": 20.0,
            "max_age_s": 0.2,
            "frame": "camera_wrist",
            "required": False,
        },
    },
    "max_camera_skew_s": 0.05,
    "feedback": {
        "ee_pose": {"topic": "ee_pose", "rate_hz": 50.0, "max_age_s": 0.2, "required": True},
        "ee_twist": {"topic": "ee_twist", "rate_hz": 50.0, "max_age_s": 0.2, "required": False},
        "joint_states": {
            "topic": "joint_states",
            "rate_hz": 50.0,
            "max_age_s": 0.2,
            "required": True,
            "joints": ["shoulder", "elbow"],
        },
    },
    "outputs": {"pose": "target_pose", "twist": "target_twist"},
    "gripper": {
        "interface": "gripper_command",
        "topic": "gripper_command",
        "closed_at": 0.0,
        "open_at": 1.0,
        "max_rate_per_s": 2.0,
        "at_start": 1.0,
        "joint": "finger",
        "max_effort": 10.0,
    },
    "limits": {
        "workspace_m": {"min": [-0.5, -0.5, 0.0], "max": [0.5, 0.5, 0.5]},
        "max_linear_velocity_m_s": 0.3,
        "max_linear_acceleration_m_s2": 1.5,
        "max_angular_velocity_rad_s": 0.6,
        "max_angular_acceleration_rad_s2": 3.0,
        "max_target_jump_m": 0.1,
        "max_target_jump_rad": 0.3,
        "max_following_error_m": 0.1,
        "max_following_error_rad": 0.3,
        "joint_margin": 0.1,
        "joints": {"shoulder": {"min": -2.0, "max": 2.0}, "elbow": {"min": -1.0, "max": 1.0}},
    },
    "timeouts": {
        "policy_s": 0.1,
        "teleop_s": 0.2,
        "deadman_s": 0.2,
        "inference_s": 1.0,
        "clock_s": 0.5,
        "frozen_camera_s": 0.5,
        "driver_s": 0.1,
    },
    "stop_time_s": 0.2,
    "emergency_stop": {"topic": "emergency_stop", "required": True, "silence_s": 0.5},
}
