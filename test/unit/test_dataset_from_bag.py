"""`vla_ros dataset from-bag`: recordings become demonstrations, takeovers and all."""

from __future__ import annotations

import gc
import json
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from builders import pose_contract
from recorded_bags import (
    Said,
    boolean,
    header,
    pose_stamped,
    said_by,
    takeover_in_simulation,
    text,
    with_instruction,
    write_bag,
)
from recorded_builders import FRAME_NS, SPEED_M_S, Recording, at, picture, small_contract, where

from vla_ros import cli
from vla_ros.control.arbiter import Source
from vla_ros.data.reader import Dataset
from vla_ros.images import frame_to_rgb
from vla_ros.types import Frame

TOLD = ((-0.5, "push the puck"),)
TRACELESS = ("/guard/trace",)


def human_from(start_s: float, end_s: float) -> Any:
    def source(stamp_ns: int) -> Source:
        return Source.TELEOP if at(start_s) <= stamp_ns < at(end_s) else Source.POLICY

    return source


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated robot's, with pictures of 8 x 8, as a file."""
    path = tmp_path_factory.mktemp("contract") / "small.yaml"
    mapping = yaml.safe_load((Path(__file__).parents[2] / "config" / "sawyer_sim.yaml").read_text(encoding="utf-8"))
    cameras = {view: asdict(camera) for view, camera in small_contract().cameras.items()}
    path.write_text(yaml.safe_dump({**mapping, "cameras": cameras}), encoding="utf-8")
    return path


def bag(
    folder: Path,
    recording: Recording,
    told: Sequence[tuple[float, str]] = TOLD,
    more: Iterable[Said] = (),
    without: Iterable[str] = (),
) -> Path:
    return write_bag(folder, [*said_by(recording, told), *more], without)


def from_bag(contract: Path, output: Path, *arguments: Path | str) -> int:
    return cli.main(["dataset", "from-bag", *map(str, arguments), "--output", str(output), "--contract", str(contract)])


def test_the_bags_of_a_folder_are_recordings_of_their_own(contract: Path, tmp_path: Path) -> None:
    for name in ("try1", "try2"):
        bag(tmp_path / "bags" / name, Recording(2.0, human_from(0.95, 1.3)))
    assert from_bag(contract, tmp_path / "data", tmp_path / "bags") == 0
    dataset = Dataset.open(tmp_path / "data")
    assert [episode.facts["bag"] for episode in dataset.episodes] == ["try1", "try2"]


def test_a_recording_becomes_what_it_shows(contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bag(tmp_path / "try1", Recording(2.0, human_from(0.95, 1.3)))
    assert from_bag(contract, tmp_path / "data", path) == 0
    said = capsys.readouterr().out
    assert "try1: 1 episode, 19 frames (1.9 s); a human took over 1 time, for 3 frames" in said
    assert f"{tmp_path / 'data'}: 1 episode, 19 frames at 10 Hz" in said
    dataset = Dataset.open(tmp_path / "data")
    (episode,) = dataset.episodes
    assert episode.task == "push the puck"
    assert (episode.facts["bag"], episode.facts["start_ns"], episode.facts["outcome"]) == ("try1", at(0), "unknown")
    assert np.flatnonzero(dataset.column("is_intervention")).tolist() == [10, 11, 12]
    assert not dataset.column("is_between_pictures").any()
    times_s = np.arange(19) / 10
    state, action = dataset.column("observation.state"), dataset.column("action")
    np.testing.assert_allclose(state[:, 0], SPEED_M_S * times_s, atol=1e-6)
    np.testing.assert_allclose(state[:, 7], SPEED_M_S * times_s, atol=1e-6)
    np.testing.assert_allclose(action[:, 0], SPEED_M_S * (times_s + 0.1), atol=1e-6)
    np.testing.assert_allclose(action[:, 7], SPEED_M_S, atol=1e-6)
    np.testing.assert_array_equal(state[:, 15], 8.0 * np.arange(19))
    for frame, data in enumerate(dataset.images("wrist")):
        rgb = frame_to_rgb(Frame(np.frombuffer(data, np.uint8), "png"))
        np.testing.assert_array_equal(rgb, picture(at(frame / 10)).pixels)
    assert cli.main(["dataset", "inspect", str(tmp_path / "data")]) == 0


def test_without_a_trace_the_deadman_and_what_the_robot_obeyed_say_nearly_the_same(
    contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(2.0, human_from(0.95, 1.3))
    for name, without in (("traced", ()), ("traceless", TRACELESS)):
        assert from_bag(contract, tmp_path / "data" / name, bag(tmp_path / name, recording, without=without)) == 0
    assert capsys.readouterr().out.count("without guard/trace: who was in command is guessed") == 1
    traced, traceless = (Dataset.open(tmp_path / "data" / name) for name in ("traced", "traceless"))
    for column in ("observation.state", "action", "is_intervention"):
        np.testing.assert_allclose(traced.column(column)[1:], traceless.column(column)[1:], atol=1e-6)


def test_where_the_policy_tells_of_its_sets_its_silence_is_nobody_in_command(contract: Path, tmp_path: Path) -> None:
    spoken = [
        Said("/policy/instruction", at(s) - 1000, header(at(s), "0" * 16 + "/5")) for s in np.arange(0.0, 1.0, 0.0125)
    ]
    path = bag(tmp_path / "bag", Recording(2.0), more=spoken, without=TRACELESS)
    assert from_bag(contract, tmp_path / "data", path) == 0
    assert Dataset.open(tmp_path / "data").frames == 11


@pytest.mark.parametrize(
    ("success", "outcomes"),
    [
        ({0.0: False, 0.8: True, 1.2: True, 1.6: False}, ["success", "failure"]),
        ({0.0: True, 0.5: True}, ["unknown", "unknown"]),
        ({0.0: False, 1.7: True}, ["failure", "success"]),
    ],
)
def test_a_new_instruction_begins_an_episode_and_each_has_its_own_outcome(
    success: dict[float, bool], outcomes: list[str], contract: Path, tmp_path: Path
) -> None:
    told = ((-0.5, "push"), (0.5, " push "), (1.0, "pull"))
    more = [Said("/sim/success", at(s) + 5, boolean(value)) for s, value in success.items()]
    assert from_bag(contract, tmp_path / "data", bag(tmp_path / "bag", Recording(2.0), told, more)) == 0
    episodes = Dataset.open(tmp_path / "data").episodes
    assert [(e.task, e.length, e.facts["outcome"]) for e in episodes] == [
        ("push", 10, outcomes[0]),
        ("pull", 9, outcomes[1]),
    ]


def test_an_instruction_that_the_recorder_missed_is_known_from_the_guards_trace(contract: Path, tmp_path: Path) -> None:
    path = bag(tmp_path / "heard", Recording(2.0), ((-0.5, "push"),), without=("/command",))
    assert from_bag(contract, tmp_path / "data", path) == 0
    said = [one for one in said_by(Recording(2.0)) if one.topic != "/guard/trace"]
    traces = [one for one in said_by(Recording(2.0)) if one.topic == "/guard/trace"]
    known = [with_instruction(one, "pull") for one in traces]
    assert from_bag(contract, tmp_path / "data", write_bag(tmp_path / "known", [*said, *known])) == 0
    episodes = Dataset.open(tmp_path / "data").episodes
    assert [(episode.task, episode.length) for episode in episodes] == [("push", 19), ("pull", 19)]


def test_what_is_left_out_is_counted(contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def source(stamp_ns: int) -> Source:
        return Source.NOBODY if at(0.35) <= stamp_ns < at(1.0) else Source.POLICY

    broken = [Said("/ee_pose", at(0.11), pose_stamped(where(at(0.105)), at(0.105), frame="world"))]
    path = bag(tmp_path / "bag", Recording(3.0, source), more=broken)
    assert from_bag(contract, tmp_path / "data", path) == 0
    said = capsys.readouterr().out
    assert "1 episode, 19 frames" in said
    assert "left out: 1 too short episode, 3 frames" in said
    assert "gaps: nobody in command (1); messages refused: ee_pose: wrong_frame (1)" in said


def test_what_is_in_the_dataset_is_not_added_again_and_another_bag_of_the_same_name_is(
    contract: Path, tmp_path: Path
) -> None:
    one, other = tmp_path / "a" / "bag", tmp_path / "b" / "bag"
    for folder in (one, other):
        folder.parent.mkdir()
    bag(one, Recording(2.0))
    bag(other, Recording(2.0, human_from(0.5, 1.0)))
    assert from_bag(contract, tmp_path / "data", one) == 0
    assert from_bag(contract, tmp_path / "data", one, other) == 0
    assert from_bag(contract, tmp_path / "data", other, one) == 0
    dataset = Dataset.open(tmp_path / "data")
    assert [int(dataset.column("is_intervention")[e.from_index : e.to_index].sum()) for e in dataset.episodes] == [0, 5]


KILLED = """
import os, sys
from vla_ros import cli
from vla_ros.data import writer
flush = writer.DatasetWriter._flush
def flush_and_die(self):
    flush(self)
    os.kill(os.getpid(), 9)
writer._FILE_EPISODES = 1
writer.DatasetWriter._flush = flush_and_die
cli.main(sys.argv[1:])
"""


def test_a_run_that_was_killed_goes_on(contract: Path, tmp_path: Path) -> None:
    told = ((-0.5, "push"), (1.0, "pull"))
    path = bag(tmp_path / "bag", Recording(2.0), told)
    arguments = ["dataset", "from-bag", str(path), "--output", str(tmp_path / "data"), "--contract", str(contract)]
    child = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL
    assert [episode.task for episode in Dataset.open(tmp_path / "data").episodes] == ["push"]
    assert cli.main(arguments) == 0
    assert [episode.task for episode in Dataset.open(tmp_path / "data").episodes] == ["push", "pull"]


def test_a_damaged_bag_is_used_up_to_the_damage(
    contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bag(tmp_path / "bag", Recording(40.0))
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert from_bag(contract, tmp_path / "data", path) == 0
    assert "is damaged and was read up to" in capsys.readouterr().out
    assert 50 < Dataset.open(tmp_path / "data").frames < 300


@pytest.mark.parametrize(
    "spoilt",
    [
        {"command": {"position": [0.0, 0.0]}},
        {"command": {"position": ["NaN"] * 3, "quaternion": [0.0, 0.0, 0.0, 1.0]}},
        {"ros_ns": 1e999},
        {"source": "the cat"},
    ],
    ids=["short", "no numbers", "endless", "nobody known"],
)
def test_traces_that_no_guard_writes_are_counted_and_left_out(
    spoilt: dict[str, Any], contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = list(said_by(Recording(2.0), ((-0.5, "push"),)))
    for index, one in enumerate(said):
        if one.topic == "/guard/trace" and one.received_ns > at(1.0):
            said[index] = replace(one, message=text(json.dumps({**json.loads(one.message.data), **spoilt})))
    assert from_bag(contract, tmp_path / "data", write_bag(tmp_path / "bag", said)) == 0
    assert re.search(r"guard/trace: bad_(trace|json) \(\d+\)", capsys.readouterr().out)
    assert 0 < Dataset.open(tmp_path / "data").frames < 15  # of 19


@pytest.mark.parametrize(
    ("without", "arguments", "sentence"),
    [
        (("/camera/top/image_raw",), (), r"lacks /camera/top/image_raw (sensor_msgs/msg/Image), which is required"),
        (
            ("/command", "/guard/trace"),
            (),
            "lacks /command (std_msgs/msg/String), so that nobody knows what the robot was to do",
        ),
        (("/guard/trace", "/target_twist"), (), "lacks /target_twist (geometry_msgs/msg/TwistStamped), and there is"),
        ((), ("--rate", "15"), "15 frames/s and camera front's 10 Hz do not meet; choose a multiple or a fraction"),
        ((), ("--namespace", "left"), "lacks /left/"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    without: tuple[str, ...],
    arguments: tuple[str, ...],
    sentence: str,
    contract: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = bag(tmp_path / "bag", Recording(0.5), without=without)
    assert from_bag(contract, tmp_path / "data", path, *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "data").exists()


def test_another_robots_bag_is_refused(contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bag(tmp_path / "bag", Recording(1.0))
    assert from_bag(Path("sawyer_sim"), tmp_path / "data", path) == 2
    assert "8x8 pixels; the contract says 128x128" in capsys.readouterr().err


def test_a_bag_of_nothing_but_a_robot_at_rest_says_why_there_is_no_episode(
    contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bag(tmp_path / "bag", Recording(1.0, lambda _: Source.NOBODY))
    assert from_bag(contract, tmp_path / "data", path) == 2
    assert "there is no episode in" in (error := capsys.readouterr().err)
    assert "gaps: nobody in command (1)" in error


@contextmanager
def few_objects() -> Iterator[None]:
    """As in a young process: garbage is collected the more rarely, the more objects other tests have left."""
    gc.collect()
    gc.freeze()
    gc.collect()
    try:
        yield
    finally:
        gc.unfreeze()


def test_memory_does_not_grow_with_the_recording(contract: Path, tmp_path: Path) -> None:
    """Once it is longer than the few chunks that a bag's reader holds."""
    peaks = []
    for seconds in (2.0, 10.0, 40.0):  # the first brings imports
        recording = Recording(seconds, lambda _: Source.NOBODY, tick_ns=FRAME_NS)
        path = bag(tmp_path / f"bag{seconds}", recording)
        with few_objects():
            tracemalloc.start()
            assert from_bag(contract, tmp_path / f"data{seconds}", path) == 2
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]


def test_a_takeover_in_simulation_becomes_data(tmp_path: Path) -> None:
    contract = pose_contract()
    said = takeover_in_simulation("drawer-open-v3", contract, 240, range(60, 120))
    path = write_bag(tmp_path / "bag", said)
    assert from_bag(Path("sawyer_sim"), tmp_path / "data", path, "--rate", "20") == 0
    dataset = Dataset.open(tmp_path / "data")
    human = dataset.column("is_intervention")
    assert 13 <= int(human.sum()) <= 15
    action = dataset.column("action")
    np.testing.assert_allclose(action[human][5:-1, 9], 0.1, atol=0.01)
    state = dataset.column("observation.state")
    for episode in dataset.episodes:
        rows = slice(episode.from_index, episode.to_index - 1)
        np.testing.assert_allclose(action[rows, :3], state[episode.from_index + 1 : episode.to_index, 7:10], atol=1e-6)
    assert cli.main(["dataset", "inspect", str(tmp_path / "data")]) == 0
