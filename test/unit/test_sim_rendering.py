"""Pictures of the simulated robot: real OpenGL, no display."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import mujoco
import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.errors import SimError
from vla_ros.sim import rendering
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.scenes import Look

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")


@pytest.fixture(scope="module")
def shared_robot() -> Iterator[SimRobot]:
    with SimRobot("pick-place-v3") as robot:
        yield robot


def drive(robot: SimRobot, position: tuple[float, float, float], steps: int) -> Mapping[str, np.ndarray]:
    for _ in range(steps):
        robot.step(np.array(position), 0.5)
    return robot.render()


def test_the_views_are_the_contracts(shared_robot: SimRobot) -> None:
    images = shared_robot.render()
    assert {name: image.shape for name, image in images.items()} == {
        name: (camera.height, camera.width, 3) for name, camera in CONTRACT.cameras.items()
    }
    for image in images.values():
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.std() > 20.0


def test_every_view_shows_the_hand_move(shared_robot: SimRobot) -> None:
    near = drive(shared_robot, (0.0, 0.6, 0.2), 60)
    far = drive(shared_robot, (0.1, 0.75, 0.1), 60)
    for name in near:
        assert (np.abs(near[name].astype(int) - far[name]).max(axis=2) > 30).mean() > 0.02, name


def test_a_still_scene_gives_the_same_picture(shared_robot: SimRobot) -> None:
    first, second = shared_robot.render(), shared_robot.render()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_corner2_is_the_models_moved_and_turned_round() -> None:
    with SimRobot("pick-place-v3", view_names=("corner2",)) as robot:
        picture = robot.render()["corner2"]
        model, data = robot.physics
        model.cam_pos[model.camera("corner2").id] = (0.75, 0.075, 0.7)
        mujoco.mj_forward(model, data)
        renderer = rendering.Renderer(model, rendering.choose_backend(), 128, 128)
        renderer.look = Look({"upside down": "corner2"})
        assert np.array_equal(picture, np.flip(renderer.draw(data, "upside down"), (0, 1)))
        renderer.close()


def test_pictures_are_upright(shared_robot: SimRobot) -> None:
    """Raised, the cyan finger goes up in the front view; moved to the far side of the table, up in the top view."""
    low = finger_row(drive(shared_robot, (0.0, 0.6, 0.08), 80)["front"])
    high = finger_row(drive(shared_robot, (0.0, 0.6, 0.3), 80)["front"])
    assert high < low - 10
    near, far = drive(shared_robot, (0.0, 0.5, 0.2), 80)["top"], drive(shared_robot, (0.0, 0.8, 0.2), 80)["top"]
    assert red_row(far) < red_row(near) - 5


def finger_row(image: np.ndarray) -> float:
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    rows, _ = np.nonzero((green > 120) & (blue > 120) & (red < 60))
    return float(rows.mean())


def red_row(image: np.ndarray) -> float:
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    rows, _ = np.nonzero((red > 80) & (green < 60) & (blue < 60))
    return float(rows.min())


def test_size_and_views_can_be_chosen() -> None:
    with SimRobot("reach-v3", view_names=("top",), image_size=(96, 64)) as robot:
        images = robot.render()
        assert {name: image.shape for name, image in images.items()} == {"top": (64, 96, 3)}
        robot.close()
        assert np.array_equal(robot.render()["top"], images["top"])


def test_without_opengl_the_apt_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_works", lambda _: False)
    with pytest.raises(SimError, match=r"tried egl, osmesa.*apt-get install -y libegl1"):
        rendering.choose_backend.__wrapped__()


def test_where_egl_fails_osmesa_is_tried_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    tried: list[str] = []

    def works(backend: str) -> bool:
        tried.append(backend)
        return backend != "egl"

    monkeypatch.setattr(rendering, "_works", works)
    assert rendering.choose_backend.__wrapped__() == "osmesa"
    assert tried == ["egl", "osmesa"]


def test_where_egl_fails_osmesa_draws() -> None:
    if not rendering._works("osmesa"):
        pytest.skip("OSMesa is not installed (apt-get install libosmesa6)")
    # In a process of its own: this one has EGL's OpenGL loaded. A GLVND without vendors gives no EGL display.
    code = """
        from vla_ros.sim import rendering
        from vla_ros.sim.robot import SimRobot
        with SimRobot("reach-v3") as robot:
            images = robot.render().values()
        print(rendering.choose_backend(), *(image.std() > 20.0 for image in images))
    """
    env = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    env["__EGL_VENDOR_LIBRARY_FILENAMES"] = os.devnull
    words = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["osmesa", "True", "True", "True"], done.stdout + done.stderr


def test_a_backend_named_by_the_user_is_the_only_one_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MUJOCO_GL", "osmesa")
    tried: list[str] = []

    def works(backend: str) -> bool:
        tried.append(backend)
        return True

    monkeypatch.setattr(rendering, "_works", works)
    assert rendering.choose_backend.__wrapped__() == "osmesa"
    assert tried == ["osmesa"]
