"""The scripted driver: what it does of what it sees, and that it arrives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.contract_file import load_contract
from vla_ros.control.chunks import validate_chunk
from vla_ros.errors import PolicyError, SimError
from vla_ros.policy.driving import (
    BASE_RADIUS_M,
    PRIVILEGED_WIDTH,
    SIGHT_RAD,
    TASKS,
    THING_WIDTH,
    THINGS,
    Drive,
    Phase,
    decide,
    heading_of,
    quaternion_of,
    thing_of,
    to_rows,
)
from vla_ros.policy.oracle import create
from vla_ros.resources import config_path
from vla_ros.sim.room import HALF_M, draw_room, radius_m
from vla_ros.sim.variations import Variation
from vla_ros.types import ANGULAR_VELOCITY, GRIPPER, LINEAR_VELOCITY, POSITION, FloatArray, Observation, Pose

RED_BOX, BLUE_BALL = THINGS.index("red box"), THINGS.index("blue ball")
CONTRACT = load_contract(config_path("base_sim"))


def world(base: tuple[float, float, float], things: dict[int, tuple[float, float]]) -> FloatArray:
    privileged = np.zeros(PRIVILEGED_WIDTH)
    privileged[:3] = base
    for thing, place in things.items():
        start = 5 + THING_WIDTH * thing
        privileged[start : start + THING_WIDTH] = *place, radius_m(thing), 1.0
    return privileged


def after(task: str, index: int, seconds: float) -> tuple[float, float, str]:
    """Of a run without physics: how near the thing's edge it ended, the least room it had [m], and its last phase."""
    dt_s, room, thing = 0.05, draw_room(task, Variation("test", index)), thing_of(task)
    (x, y, heading), forward, turning = room.start, 0.0, 0.0
    places = {other: (float(place[0]), float(place[1])) for other, place in room.things.items()}
    least_m, drive = math.inf, None
    for _ in range(round(seconds / dt_s)):
        drive = decide(world((x, y, heading), places), thing)
        forward += float(np.clip(drive.forward_m_s - forward, -1.25 * dt_s, 1.25 * dt_s))
        turning += float(np.clip(drive.turn_rad_s - turning, -4.0 * dt_s, 4.0 * dt_s))
        heading += turning * dt_s
        x, y = x + forward * math.cos(heading) * dt_s, y + forward * math.sin(heading) * dt_s
        edges = [math.dist((x, y), place) - radius_m(other) for other, place in places.items()]
        least_m = min(least_m, *edges, HALF_M - abs(x), HALF_M - abs(y))
    assert drive is not None
    return math.dist((x, y), places[thing]) - radius_m(thing), least_m - BASE_RADIUS_M, drive.phase.name


@pytest.mark.parametrize("index", range(len(TASKS)))
def test_it_arrives_in_rooms_of_every_task_and_touches_nothing(index: int) -> None:
    gap_m, least_m, phase = after(TASKS[index], 100 + index, 16.0)
    assert phase == "STAY"
    assert 0.2 < gap_m < 0.4
    assert least_m > 0.03


@given(st.floats(-math.pi, math.pi), st.floats(-math.pi, math.pi), st.floats(0.8, 3.0))
def test_out_of_sight_it_turns_left_and_in_sight_towards_the_thing(
    heading: float, bearing: float, far_m: float
) -> None:
    place = (far_m * math.cos(heading + bearing), far_m * math.sin(heading + bearing))
    drive = decide(world((0.0, 0.0, heading), {RED_BOX: place}), RED_BOX)
    if abs(bearing) > SIGHT_RAD + 1e-6:
        assert drive == Drive(0.0, 1.0, Phase.SEARCH)
    elif abs(bearing) < SIGHT_RAD - 1e-6:
        assert drive.phase is Phase.APPROACH
        assert drive.turn_rad_s * bearing >= 0.0
        assert 0.0 <= drive.forward_m_s <= CONTRACT.limits.max_linear_velocity_m_s


def test_what_it_does_depends_on_nothing_before() -> None:
    seen = world((0.0, 0.0, 0.3), {RED_BOX: (1.5, 0.2), BLUE_BALL: (0.8, 0.2)})
    assert decide(seen, RED_BOX) == decide(seen.copy(), RED_BOX)


def test_it_goes_round_what_is_in_the_way_and_ignores_what_is_not() -> None:
    blocked = decide(world((0.0, 0.0, 0.0), {RED_BOX: (1.8, 0.0), BLUE_BALL: (0.8, -0.1)}), RED_BOX)
    assert blocked.phase is Phase.AVOID
    assert blocked.turn_rad_s > 0.0, "the ball is to the right"
    for place in ((0.8, 0.8), (-0.8, 0.0), (2.5, 0.0)):
        free = decide(world((0.0, 0.0, 0.0), {RED_BOX: (1.8, 0.0), BLUE_BALL: place}), RED_BOX)
        assert free.phase is Phase.APPROACH


def test_it_refuses_a_thing_that_is_not_there_and_a_task_that_is_none() -> None:
    with pytest.raises(PolicyError, match="there is no blue ball in this room"):
        decide(world((0.0, 0.0, 0.0), {RED_BOX: (1.0, 0.0)}), BLUE_BALL)
    with pytest.raises(PolicyError, match="'push-v3' is not a way to drive; choose one of drive-red-box"):
        thing_of("push-v3")
    with pytest.raises(SimError, match="'push-v3' is not a task of the simulated base"):
        draw_room("push-v3", Variation("train", 0))


@given(st.floats(-math.pi, math.pi))
def test_a_heading_survives_as_a_quaternion(heading: float) -> None:
    back = heading_of(quaternion_of(heading))
    assert math.cos(back - heading) == pytest.approx(1.0)
    assert quaternion_of(heading)[3] >= 0.0


def test_rows_are_arcs_that_a_differential_drive_can_follow() -> None:
    start = Pose(np.array([1.0, 2.0, 0.0]), quaternion_of(3.0))  # turns past pi
    rows = to_rows(Drive(0.4, 1.0, Phase.APPROACH), start, 0.1, 8)
    headings = np.array([heading_of(row[3:7]) for row in rows])
    ahead = np.stack([np.cos(headings), np.sin(headings), np.zeros(8)], axis=1)
    assert rows[:, LINEAR_VELOCITY] == pytest.approx(0.4 * ahead)
    assert rows[:, ANGULAR_VELOCITY] == pytest.approx(np.tile([0.0, 0.0, 1.0], (8, 1)))
    assert np.diff(rows[:, POSITION], axis=0) == pytest.approx(0.1 * rows[:-1, LINEAR_VELOCITY])
    assert rows[0, POSITION] == pytest.approx(start.position)
    assert (rows[:, GRIPPER] == 0.5).all()


def test_the_oracle_of_a_base_understands_training_and_held_out_sentences() -> None:
    oracle = create(CONTRACT, {})
    pose = Pose(np.zeros(3), quaternion_of(0.0))
    privileged = world((0.0, 0.0, 0.0), {RED_BOX: (1.5, 0.2), BLUE_BALL: (1.0, -1.0)})

    def rows(sentence: str) -> FloatArray:
        chunk = oracle.predict(Observation(7, sentence, {}, pose, pose, np.zeros(2), 0.5, privileged))
        validate_chunk(chunk)
        return chunk.rows

    assert np.array_equal(rows("drive to the red box"), rows("park beside the crate that is red"))
    assert not np.array_equal(rows("drive to the red box"), rows("drive to the blue ball"))
    with pytest.raises(PolicyError, match="no task is called 'push the puck to the goal'"):
        rows("push the puck to the goal")
