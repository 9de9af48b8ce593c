"""Meta-World's MT50 as it is reported for policies that see: ten episodes of each task, 400 steps at most.

The protocol is that of LeRobot's environment `metaworld`: one picture from the camera corner2 at (0.75, 0.075, 0.7)
and four numbers of state. The groups of difficulty are those by which SmolVLA (Shukor et al., 2025) reports it, from
Seo et al., "Masked world models for visual control", 2022.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vla_ros.contract import Contract
from vla_ros.learning.evaluation.statistics import Rate
from vla_ros.learning.evaluation.subject import Subject
from vla_ros.learning.evaluation.suites import MT50

_VIEW, _SIDE_PX, _RATE_HZ = "corner2", 480, 80.0
_STATE = "hand's position and how far the fingers are apart"

_GROUPS = {
    "medium": "basketball bin-picking box-close coffee-pull coffee-push hammer peg-insert-side push-wall soccer sweep "
    "sweep-into",
    "hard": "assembly hand-insert pick-out-of-hole pick-place push push-back",
    "very hard": "shelf-place disassemble stick-pull stick-push pick-place-wall",
}


def groups() -> Mapping[str, tuple[str, ...]]:
    """Difficulty -> tasks; easy are all that no other group has."""
    named = {group: tuple(f"{task}-v3" for task in tasks.split()) for group, tasks in _GROUPS.items()}
    others = {task for tasks in named.values() for task in tasks}
    return {"easy": tuple(task for task in MT50 if task not in others), **named}


def group_rates(tasks: Mapping[str, Any]) -> Mapping[str, Rate]:
    """Difficulty -> successes of its tasks. tasks: task -> rate, of a suite's summary."""
    return {
        group: Rate(sum(rate["successes"] for rate in found), sum(rate["episodes"] for rate in found))
        for group, members in groups().items()
        if (found := [tasks[task] for task in members if task in tasks])
    }


def differences(subject: Subject, contract: Contract, latency: Mapping[str, Any]) -> Sequence[str]:
    """What is not as published, in sentences. latency: of the log."""
    limits, ticks = contract.limits, latency["inference_ticks"]
    return [
        *_of_cameras(subject, contract),
        f"state: measured and commanded pose, gripper and joints instead of four numbers ({_STATE})",
        f"the guard limits the hand to {limits.max_linear_velocity_m_s:g} m/s and "
        f"{limits.max_linear_acceleration_m_s2:g} m/s2, stops it, can latch, and keeps commands in the task's own box; "
        "published runs are without limits",
        f"inference takes {ticks} steps of 12.5 ms, while the robot moves on; in published runs the world waits for it",
        "an action is a commanded pose at each step; published runs give velocities and an effort",
        "a task is told by this package's usual sentence for it, not by the descriptions that were published",
        "worlds are drawn from the same spaces, but by this package's own test variations",
        "demonstrations to learn from are whatever this checkpoint learned from, not the published data set",
    ]


def _of_cameras(subject: Subject, contract: Contract) -> Sequence[str]:
    views = _views(subject)
    if not views:
        return ["the policy looks through no camera: it reads the simulator's state, or nothing"]
    cameras = [contract.cameras[view] for view in views]
    width, height, rate_hz = max((camera.width, camera.height, camera.rate_hz) for camera in cameras)
    named = [] if views == (_VIEW,) else [f"cameras {', '.join(views)} instead of {_VIEW} alone"]
    return [
        *named,
        f"pictures of {width} x {height} instead of {_SIDE_PX} x {_SIDE_PX} pixels",
        f"a new picture every {1e3 / rate_hz:g} ms instead of at every step of {1e3 / _RATE_HZ:g} ms",
    ]


def _views(subject: Subject) -> tuple[str, ...]:
    if subject.checkpoint is None:
        return ()
    return tuple(json.loads((subject.checkpoint / "config.json").read_text(encoding="utf-8"))["model"]["views"])
