"""Pictures from a thread of their own: the same pictures, misses that are counted, failures that are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from vla_ros.errors import SimError
from vla_ros.sim import photographer, rendering
from vla_ros.sim.photographer import Photographer
from vla_ros.sim.rendering import Renderer
from vla_ros.sim.robot import SimRobot
from vla_ros.types import ImageArray

VIEWS, SIZE = ("front", "wrist"), (96, 64)
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def robot() -> Iterator[SimRobot]:
    with SimRobot("reach-v3", view_names=VIEWS, image_size=SIZE) as robot:
        for _ in range(20):
            robot.step(np.array([0.1, 0.7, 0.2]), 0.5)
        yield robot


class Album:
    """Where pictures arrive."""

    def __init__(self) -> None:
        self.pictures: dict[int, Mapping[str, ImageArray]] = {}
        self.arrived = threading.Event()

    def __call__(self, stamp_ns: int, pictures: Mapping[str, ImageArray]) -> None:
        self.pictures[stamp_ns] = pictures
        self.arrived.set()


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_only_what_is_asked_for_is_drawn(robot: SimRobot) -> None:
    album = Album()
    photographer = Photographer(VIEWS, SIZE, album)
    photographer.shoot(7, *robot.physics, VIEWS[:1])
    assert album.arrived.wait(TIMEOUT_S)
    photographer.close()
    assert set(album.pictures[7]) == set(VIEWS[:1])


def test_pictures_are_those_that_the_robot_draws_itself(robot: SimRobot) -> None:
    album = Album()
    photographer = Photographer(VIEWS, SIZE, album)
    photographer.shoot(7, *robot.physics)
    assert album.arrived.wait(TIMEOUT_S)
    photographer.close()
    expected = robot.render()
    assert set(album.pictures[7]) == set(VIEWS)
    for view, picture in album.pictures[7].items():
        difference = np.abs(picture.astype(int) - expected[view])
        assert picture.shape == (64, 96, 3) and picture.std() > 20.0
        assert (difference.max(axis=2) > 8).mean() < 0.01, view


def test_a_prepared_model_is_drawn_at_once(robot: SimRobot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    class Studio(photographer._Studio):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            opened.append(words[0])

    monkeypatch.setattr(photographer, "_Studio", Studio)
    album = Album()
    cameras = Photographer(VIEWS, SIZE, album)
    model, data = robot.physics
    cameras.prepare(model)
    assert (opened, album.pictures) == ([model], {})
    cameras.shoot(7, model, data)
    assert album.arrived.wait(TIMEOUT_S)
    assert (opened, set(album.pictures)) == ([model], {7})
    cameras.close()


def test_preparing_ends_where_drawing_has_failed(robot: SimRobot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_gl_context", no_context)
    cameras = Photographer(VIEWS, SIZE, Album())
    for _ in range(3):
        cameras.prepare(robot.physics[0])
    with pytest.raises(SimError, match="no context"):
        cameras.shoot(7, *robot.physics)
    cameras.close()


def no_context(*_: object) -> None:
    raise SimError("no context")


def test_an_instant_while_the_last_is_drawn_is_missed_and_counted(robot: SimRobot) -> None:
    album = Album()
    photographer = Photographer(VIEWS, SIZE, album)
    for stamp_ns in (1, 2, 3):  # far less than it takes to open OpenGL
        photographer.shoot(stamp_ns, *robot.physics)
    assert album.arrived.wait(TIMEOUT_S)
    assert (set(album.pictures), photographer.missed) == ({1}, 2)
    album.arrived.clear()
    photographer.shoot(4, *robot.physics)
    assert album.arrived.wait(TIMEOUT_S)
    photographer.close()
    assert set(album.pictures) == {1, 4}


def test_what_fails_in_the_callers_hands_is_told_by_the_next_shot(robot: SimRobot) -> None:
    def fail(_stamp_ns: int, _pictures: Mapping[str, ImageArray]) -> None:
        raise ValueError("the shelf\nis full")

    photographer = Photographer(VIEWS, SIZE, fail)
    photographer.shoot(1, *robot.physics)
    wait_until(lambda: photographer.failure, "a failure")
    with pytest.raises(SimError, match="the cameras ended: ValueError: the shelf is full"):
        photographer.shoot(2, *robot.physics)
    photographer.close()


def test_what_fails_while_drawing_is_told_by_the_next_shot(robot: SimRobot, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise KeyError("top")

    monkeypatch.setattr(Renderer, "draw", fail)
    photographer = Photographer(VIEWS, SIZE, Album())
    photographer.shoot(1, *robot.physics)
    wait_until(lambda: photographer.failure, "a failure")
    with pytest.raises(SimError, match="the cameras ended: KeyError"):
        photographer.shoot(2, *robot.physics)
    photographer.close()
