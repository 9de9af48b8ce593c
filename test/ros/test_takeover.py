"""A human takes over with the deadman and hands back: at once, without a jump, and to a policy that looks anew."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from faults import ALLOWANCE_S, expect_reobservation
from helpers import wait_for
from rig import Rig, running_rig

from vla_ros.types import NS_PER_S

TRACE = "guard/trace"
PUSHES = ((0.3, 0.0, 0.0), (-0.3, 0.0, 0.0), (0.0, 0.0, 0.3), (0.0, 0.0, -0.3), (0.0, 0.2, 0.2))


@pytest.fixture(scope="module")
def module() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


@pytest.fixture
def rig(module: Rig) -> Rig:
    module.get_going()
    return module


def first_heard(rig: Rig, held: bool, from_ns: int) -> dict[str, Any]:
    """The first tick that has the deadman's new value among its inputs."""

    def found() -> dict[str, Any] | None:
        return next((tick for tick in rig.records.traces(TRACE, from_ns) if held in _deadman(tick)), None)

    tick: dict[str, Any] = wait_for(found, 5.0, f"the guard hears deadman {held}")
    return tick


def _deadman(tick: dict[str, Any]) -> list[bool]:
    return [entry["value"] for entry in tick["inputs"] if entry["channel"] == "teleop/deadman"]


def velocity(tick: dict[str, Any]) -> np.ndarray:
    return np.array(tick["command"]["linear"])


def test_the_tick_that_hears_the_deadman_obeys_the_human(rig: Rig) -> None:
    held_ns = rig.take_over(PUSHES[0])
    tick = first_heard(rig, True, held_ns)
    assert tick["source"] == "teleop"
    passage_s = (tick["steady_ns"] - held_ns) / NS_PER_S
    assert passage_s <= 1.0 / rig.contract.rates.guard_hz + ALLOWANCE_S
    wait_for(lambda: np.allclose(velocity(rig.records.newest(TRACE)), PUSHES[0]), 5.0, "moving as the human wants")
    print(f"deadman held -> human in command: {1000.0 * passage_s:.1f} ms")


def test_released_deadman_hands_back_only_after_reobservation(rig: Rig) -> None:
    held_ns = rig.take_over(PUSHES[2])
    first_heard(rig, True, held_ns)
    released_ns = rig.hand_back()
    tick = first_heard(rig, False, released_ns)
    assert tick["source"] != "teleop"
    assert "observe again" in tick["text"]
    human = [before for before in rig.records.traces(TRACE, held_ns) if before["source"] == "teleop"]
    assert expect_reobservation(rig, human[-1]["ros_ns"], tick["steady_ns"])
    rig.await_motion()


def moves_as(rig: Rig, push: tuple[float, float, float]) -> bool:
    return np.allclose(velocity(rig.records.newest(TRACE)), push)


def test_acceleration_limit_holds_across_takeover_and_release(rig: Rig) -> None:
    limits = rig.contract.limits
    changes: set[tuple[str, str]] = set()
    pairs = 0
    for push in PUSHES:
        held_ns = rig.take_over(push)
        first_heard(rig, True, held_ns)
        wait_for(partial(moves_as, rig, push), 5.0, "moving as told")
        first_heard(rig, False, rig.hand_back())
        rig.await_motion()
        for before, after in consecutive(rig.records.traces(TRACE, held_ns - NS_PER_S // 4)):
            pairs += 1
            changes.add((before["source"], after["source"]))
            change = np.linalg.norm(velocity(after) - velocity(before))
            assert change <= limits.max_linear_acceleration_m_s2 * after["dt_s"] + 1e-9, (before, after)
            step = np.array(after["command"]["position"]) - np.array(before["command"]["position"])
            assert np.abs(step - velocity(after) * after["dt_s"]).max() <= 1e-6, "pose and twist agree"
    assert pairs > 100
    assert changes >= {("policy", "teleop"), ("teleop", "nobody")}, f"{changes} without takeover and release"


def consecutive(ticks: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of ticks with none between: a trace line that was lost on the way shows as a longer time than dt."""
    for before, after in pairwise(ticks):
        elapsed_s = (after["steady_ns"] - before["steady_ns"]) / NS_PER_S
        if before["command"] and after["command"] and abs(elapsed_s - after["dt_s"]) < 1e-9:
            yield before, after
