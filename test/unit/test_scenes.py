"""What may differ in a world beside its variation: looks, openings; and what can be seen and is held in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from vla_ros.errors import SimError
from vla_ros.learning.experts import Expert
from vla_ros.policy.metaworld_action import CONTROL_DT_S, to_gripper, to_velocity
from vla_ros.sim.objects import GOAL, THINGS
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.scenes import KINDS, PLAIN, Kind, Originals, Scene
from vla_ros.sim.variations import Variation
from vla_ros.types import ImageArray

WORLD = "drawer-open-v3"
TRAIN_0 = Variation("train", 0)
HALF_OPEN = Scene(opening=0.5, shows_goal=False)


@pytest.fixture(scope="module")
def shared_robot() -> Iterator[SimRobot]:
    with SimRobot(WORLD, TRAIN_0, image_size=(64, 64)) as robot:
        yield robot


@pytest.fixture
def robot(shared_robot: SimRobot) -> SimRobot:
    shared_robot.reset(WORLD, TRAIN_0)
    return shared_robot


def pictures(robot: SimRobot, scene: Scene = PLAIN) -> Mapping[str, ImageArray]:
    robot.reset(WORLD, TRAIN_0, scene)
    return robot.render()


def difference(one: Mapping[str, ImageArray], other: Mapping[str, ImageArray]) -> dict[str, float]:
    """Of the grey levels of each view, on average."""
    return {view: float(np.abs(one[view].astype(int) - other[view]).mean()) for view in one}


def drive(robot: SimRobot, steps: int) -> np.ndarray:
    """All numbers of the robot after it has moved a little."""
    goal = robot.state().commanded.position + np.array([0.05, 0.1, -0.05])
    for _ in range(steps):
        robot.step(goal, 0.8)
    state = robot.state()
    return np.concatenate([state.pose.position, state.twist.linear, state.joints.positions, state.privileged])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_varied_looks_different_for_each_seed_and_the_same_for_one(robot: SimRobot, kind: Kind) -> None:
    plain, one, again, other = (
        pictures(robot, scene) for scene in (PLAIN, Scene((kind,), 1), Scene((kind,), 1), Scene((kind,), 2))
    )
    assert difference(one, again) == dict.fromkeys(one, 0.0)
    assert difference(one, plain)["front"] > 0.2
    assert difference(one, other)["front"] > 0.2


def test_looks_never_touch_the_physics(robot: SimRobot) -> None:
    robot.reset(WORLD, TRAIN_0)
    plain = drive(robot, 40)
    robot.reset(WORLD, TRAIN_0, Scene(KINDS, 3))
    robot.render()
    assert np.array_equal(drive(robot, 40), plain)


def test_a_scene_leaves_nothing_behind(robot: SimRobot) -> None:
    plain = pictures(robot)
    before = Originals.of(robot.physics[0])
    pictures(robot, Scene(KINDS, 3, opening=0.6, shows_goal=False))
    assert difference(pictures(robot), plain) == dict.fromkeys(plain, 0.0)
    after = Originals.of(robot.physics[0])
    assert [name for name, value in before.fields.items() if not np.array_equal(value, after.fields[name])] == []


def test_light_comes_from_another_side(robot: SimRobot) -> None:
    robot.reset(WORLD, TRAIN_0)
    before = robot.physics[1].light_xdir.copy()
    robot.reset(WORLD, TRAIN_0, Scene(("light",), 4))
    now = robot.physics[1].light_xdir
    assert np.linalg.norm(now, axis=1) == pytest.approx([1.0] * len(now))
    assert (np.abs(now - before).max(axis=1) > 0.01).all()


@pytest.mark.parametrize("view", ["wrist", "corner2"])
def test_a_camera_of_the_model_is_bumped_too(view: str) -> None:
    with SimRobot(WORLD, TRAIN_0, view_names=(view,), image_size=(64, 64)) as robot:
        assert difference(pictures(robot, Scene(("camera",), 4)), pictures(robot))[view] > 0.2


@pytest.mark.parametrize("kind", ["camera", "light"])
def test_the_first_picture_looks_as_the_following_ones(robot: SimRobot, kind: Kind) -> None:
    first = pictures(robot, Scene((kind,), 4))
    model, data = robot.physics
    mujoco.mj_forward(model, data)
    assert difference(robot.render(), first) == dict.fromkeys(first, 0.0)


def test_distractors_stand_away_from_what_the_task_is_about(robot: SimRobot) -> None:
    counts = set()
    for seed in range(20):
        robot.reset(WORLD, TRAIN_0, Scene(("distractors",), seed))
        places = robot.state().privileged[[4, 5, 36, 37]].reshape(2, 2)
        things = robot._look.distractors
        counts.add(len(things))
        for thing in things:
            assert np.linalg.norm(places - thing.position[:2], axis=1).min() > 0.14
            assert thing.position[2] == thing.size[2]
    assert counts <= {0, 1, 2, 3, 4} and len(counts) > 2


def test_what_cannot_be_varied_is_refused_with_the_choices(robot: SimRobot) -> None:
    with pytest.raises(SimError, match="'fog' cannot be varied; choose from light, colours, camera, distractors"):
        robot.reset(WORLD, TRAIN_0, Scene(("fog",)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("opening", "open_m"), [(0.0, 0.0), (0.5, 0.08), (1.0, 0.16)])
def test_a_drawer_starts_as_far_open_as_the_scene_says(robot: SimRobot, opening: float, open_m: float) -> None:
    robot.reset(WORLD, TRAIN_0, replace(HALF_OPEN, opening=opening))
    assert robot.opening_m == pytest.approx(open_m, abs=1e-6)
    here = robot.state().commanded.position
    for _ in range(20):
        robot.step(here, 0.5)
    assert robot.opening_m == pytest.approx(open_m, abs=0.003)  # it does not fall shut


def test_a_half_open_drawer_is_seen_where_it_is(robot: SimRobot) -> None:
    handles = []
    for opening in (0.0, 0.5):
        robot.reset(WORLD, TRAIN_0, replace(HALF_OPEN, opening=opening))
        handles.append(robot.state().privileged[4:7])
    assert handles[1] - handles[0] == pytest.approx([0.0, -0.08, 0.0], abs=1e-6)


def test_what_has_no_opening_is_refused() -> None:
    with SimRobot("push-v3", TRAIN_0) as robot:
        with pytest.raises(SimError, match="nothing of push-v3 can be half open; choose a task of a drawer"):
            robot.reset("push-v3", TRAIN_0, HALF_OPEN)
        with pytest.raises(SimError, match="nothing of push-v3"):
            _ = robot.opening_m


def test_an_opening_that_is_no_share_of_the_way_is_refused(robot: SimRobot) -> None:
    with pytest.raises(SimError, match=r"an opening of 1\.5 .* choose 0 \(closed\) to 1 \(open\)"):
        robot.reset(WORLD, TRAIN_0, replace(HALF_OPEN, opening=1.5))


def test_the_goals_marker_is_seen_unless_it_is_hidden(robot: SimRobot) -> None:
    pictures(robot)
    assert robot.visible("top").get(GOAL, 0) > 0
    robot.reset(WORLD, TRAIN_0, replace(PLAIN, shows_goal=False))
    assert GOAL not in robot.visible("top")


def test_what_is_visible_has_names_and_leaves_the_pictures_as_they_were(robot: SimRobot) -> None:
    before = pictures(robot, Scene(("distractors",), 2))
    seen = robot.visible("front")
    assert seen["drawer"] > 30
    assert seen["robot"] > 30
    assert set(seen) <= {*THINGS, "robot", "table"}
    assert sum(seen.values()) <= 64 * 64
    assert difference(robot.render(), before) == dict.fromkeys(before, 0.0)


def test_a_thing_is_held_between_both_fingers_alone() -> None:
    with SimRobot("pick-place-v3", TRAIN_0) as robot:
        expert, held = Expert("pick-place-v3"), []
        for _ in range(150):
            state = robot.state()
            action = expert.decide(robot.observed_as("pick-place-v3")).action
            robot.step(state.commanded.position + to_velocity(action) * CONTROL_DT_S, to_gripper(action))
            held.append(robot.held())
        assert held[0] == frozenset()
        assert held[-1] == {"small object"}
        lifted_m = robot.state().privileged[6]
        assert lifted_m > 0.03


def test_a_closed_fist_holds_nothing(robot: SimRobot) -> None:
    here = robot.state().commanded.position
    for _ in range(60):
        robot.step(here, 0.0)
    assert robot.held() == frozenset()
