"""When a gripper's action server is asked, and the mapping between openings and the driver's values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vla_ros.contract_file import load_contract
from vla_ros.ros.goal_gate import FORGET_S, RETRY_S, SPACING_S, GoalGate

CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
TICK_S = 0.01


class Asker:
    """A guard that wants an opening every tick, and a server that answers when told."""

    def __init__(self) -> None:
        self.gate = GoalGate()
        self.now_s = 100.0
        self.sent: list[tuple[float, float]] = []
        self.goal_id = 0

    def tick(self, opening: float, is_there: bool = True) -> bool:
        """Whether a goal was sent."""
        self.now_s += TICK_S
        goal_id = self.gate.ask(opening, is_there, round(self.now_s * 1e9))
        if goal_id is not None:
            self.goal_id = goal_id
            self.sent.append((self.now_s, opening))
        return goal_id is not None

    def run(self, opening: float, seconds: float, is_there: bool = True) -> int:
        """How many goals were sent."""
        return sum(self.tick(opening, is_there) for _ in range(round(seconds / TICK_S)))

    def answer(self, accepted: bool, goal_id: int | None = None) -> None:
        self.gate.answered(goal_id or self.goal_id, accepted, round(self.now_s * 1e9))


def test_an_accepted_opening_is_asked_for_once() -> None:
    asker = Asker()
    assert asker.tick(1.0)
    asker.answer(True)
    assert asker.run(1.0, 20.0) == 0


def test_one_goal_waits_for_its_answer_at_a_time_and_the_newest_opening_follows() -> None:
    asker = Asker()
    assert asker.tick(1.0)
    assert asker.run(0.0, FORGET_S / 2) == 0
    asker.answer(True)
    assert asker.tick(0.0)


def test_a_ramp_is_no_flood_and_ends_where_it_should() -> None:
    asker = Asker()
    for step in range(101):
        if asker.tick(step / 100):
            asker.answer(True)
    for _ in range(20):
        if asker.tick(1.0):
            asker.answer(True)
    assert len(asker.sent) <= 1.2 / SPACING_S + 1
    assert asker.sent[-1][1] == 1.0


def test_a_rejected_goal_is_asked_again_but_not_at_once() -> None:
    asker = Asker()
    asker.tick(1.0)
    asker.answer(False)
    assert asker.run(1.0, RETRY_S - 2 * TICK_S) == 0
    assert asker.run(1.0, 4 * TICK_S) == 1


def test_a_server_that_was_gone_is_asked_again() -> None:
    asker = Asker()
    asker.tick(1.0)
    asker.answer(True)
    assert asker.run(1.0, 1.0, is_there=False) == 0
    assert asker.tick(1.0)


def test_a_server_that_vanishes_before_it_answers_is_asked_again_and_its_late_answer_ignored() -> None:
    asker = Asker()
    asker.tick(1.0)
    assert asker.run(1.0, FORGET_S + 2 * TICK_S) == 1
    asker.answer(False, goal_id=1)
    asker.answer(True, goal_id=2)
    assert asker.run(1.0, 10.0) == 0


def test_after_a_pause_nothing_is_taken_for_known() -> None:
    asker = Asker()
    asker.tick(1.0)
    asker.answer(True)
    asker.now_s += 2 * FORGET_S
    assert asker.tick(1.0)


@pytest.mark.parametrize(("closed_at", "open_at"), [(0.0, 1.0), (0.8, 0.0), (-100.0, 255.0)])
def test_openings_and_driver_values_are_inverse(closed_at: float, open_at: float) -> None:
    gripper = replace(load_contract(CONTRACT).gripper, closed_at=closed_at, open_at=open_at)
    assert (gripper.driver_value(0.0), gripper.driver_value(1.0)) == (closed_at, open_at)
    assert [gripper.opening(gripper.driver_value(opening)) for opening in (0.0, 0.3, 1.0)] == pytest.approx(
        [0.0, 0.3, 1.0]
    )
