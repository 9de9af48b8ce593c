"""A base that is shown to whoever imitates it: what is recorded, and from when on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.learning.collection_plan import Plan, takes_of
from vla_ros.learning.demonstration import Noise, Take
from vla_ros.learning.driving import demonstrate_driving
from vla_ros.policy.driving import REACH_M, thing_of, things_in
from vla_ros.resources import config_path
from vla_ros.sim.base import BaseRobot
from vla_ros.sim.room import draw_room

LIMITS = load_contract(config_path("base_sim")).limits
TASK = "drive-red-box"
CALM = Noise(rate_per_s=0.0)


@pytest.fixture(scope="module")
def robot() -> Iterator[BaseRobot]:
    with BaseRobot(TASK, image_size=(24, 24)) as robot:
        yield robot


def takes() -> list[Take]:
    plan = Plan(redirected={TASK: 6}, noise=CALM, contract="base_sim")
    return takes_of(plan)


@pytest.mark.parametrize("take", takes(), ids=lambda take: f"{take.variation} {take.task}")
def test_who_is_told_something_else_on_the_way_is_recorded_from_there_to_the_other_thing(
    robot: BaseRobot, take: Take
) -> None:
    shown = demonstrate_driving(robot, take, LIMITS)
    privileged = shown.columns["observation.environment_state"].astype(float)
    start = draw_room(take.world, take.variation).start
    first, last = privileged[0], privileged[-1]
    gone_m, turned_rad = np.hypot(*(first[:2] - start[:2])), abs(first[2] - start[2])
    assert gone_m > 0.1 or turned_rad > 0.1
    assert shown.success
    goal = things_in(last)[thing_of(take.task)]
    assert np.hypot(*(goal[:2] - last[:2])) - goal[2] <= REACH_M
    assert shown.columns["next.success"][-1]
    assert not shown.columns["next.success"][0]


def test_the_same_take_is_the_same_again(robot: BaseRobot) -> None:
    first, second = (demonstrate_driving(robot, takes()[0], LIMITS) for _ in range(2))
    assert all(np.array_equal(first.columns[name], second.columns[name]) for name in first.columns)
