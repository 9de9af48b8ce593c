"""`vla_ros demo` as a user runs it: what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import Process, own_domain
from PIL import Image

from vla_ros.bags import BagReader
from vla_ros.contract_file import load_contract
from vla_ros.control.intents import Reason
from vla_ros.ros.recorded_frames import recorded_frames

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
TASK = "window-open-v3"
DEMO_TIMEOUT_S = 90.0
LATE = {Reason.POLICY_SILENT.value, Reason.FEEDBACK_STALE.value, Reason.CLOCK_STOPPED.value, "the guard slept"}


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with own_domain() as env:
        yield env


def demo(output: Path) -> list[str]:
    return [sys.executable, "-m", "vla_ros.cli", "demo", "--policy", "oracle", "--task", TASK, "--output", str(output)]


def test_a_task_is_done_and_leaves_a_bag_a_picture_and_a_summary(env: dict[str, str], tmp_path: Path) -> None:
    with Process(demo(tmp_path), env) as process:
        assert process.wait(DEMO_TIMEOUT_S) == 0, process.output()

    (episode,) = json.loads((tmp_path / "summary.json").read_text())
    assert (episode["task"], episode["success"], episode["latches"]) == (TASK, True, 0)
    assert set(episode["stopped"]) <= LATE, "six processes on a busy machine may be late, and nothing else"
    (row,) = (tmp_path / "summary.md").read_text().splitlines()[2:]
    assert [cell.strip() for cell in row.split("|")][2:4] == [f"{TASK} test:0", "yes"]

    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    cameras = CONTRACT.cameras.values()
    assert pixels.shape[0] > sum(camera.height for camera in cameras), "one band: a title, and a row per camera"
    assert pixels[-next(iter(cameras)).height :].std() > 20.0

    frames = recorded_frames(tmp_path / "bag", CONTRACT)
    taken = {view: [stamp for stamp in stamps if stamp <= episode["ended_ns"]] for view, stamps in frames.items()}
    assert set(taken) == set(CONTRACT.cameras) and all(taken.values())
    with BagReader(tmp_path / "bag") as reader:
        commands = sum(1 for _ in reader.messages([f"/{CONTRACT.outputs.pose}"]))
    robot_s = (episode["ended_ns"] - episode["began_ns"]) * 1e-9
    assert commands > 0.5 * robot_s * CONTRACT.rates.guard_hz


NO_SIMULATOR = """
import sys

class Finder:
    def find_spec(self, name, *_):
        if name == "mujoco":
            raise RuntimeError("no simulator on this machine")

if "sim" in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
"""


def test_a_simulation_that_cannot_start_is_named_at_once_with_the_log(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SIMULATOR)
    output = tmp_path / "demo"
    began_s = time.monotonic()
    with Process(demo(output), {**env, "PYTHONPATH": str(tmp_path)}) as process:
        assert process.wait(DEMO_TIMEOUT_S) == 2, process.output()
        last = process.output().splitlines()[-1]
    assert time.monotonic() - began_s < 30.0
    assert last.startswith("error: sim ended with exit status 1") and str(output / "nodes.log") in last, last
    assert "no simulator on this machine" in (output / "nodes.log").read_text()
