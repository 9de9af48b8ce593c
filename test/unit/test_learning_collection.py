"""`vla_ros collect` and `vla_ros train` as users call them: the same data however it came about, mistakes in words."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dataset_builders
import numpy as np
import pytest
import yaml
from learning_builders import write_demonstrations

from vla_ros import cli
from vla_ros.data.checks import check_dataset
from vla_ros.data.reader import Dataset
from vla_ros.images import frame_to_rgb
from vla_ros.resources import config_path
from vla_ros.types import Frame

VIEWS = ("wrist", "corner2")
MODEL = {"views": ["front"], "vision": {"backbone": "film_conv", "image_size": 32, "trainable_from": 0}}


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated robot's, with other cameras and smaller pictures."""
    path = tmp_path_factory.mktemp("contract") / "small.yaml"
    contract = yaml.safe_load(config_path("sawyer_sim").read_text(encoding="utf-8"))
    small = {**contract["cameras"]["wrist"], "width": 48, "height": 48}
    contract["cameras"] = {"wrist": small, "corner2": {**small, "topic": "camera/corner2/image_raw"}}
    path.write_text(yaml.safe_dump(contract), encoding="utf-8")
    return path


def collect(contract: Path, output: Path, episodes: int, workers: int) -> Dataset:
    """By the command: episodes of two quick tasks that look different in each."""
    words = ["collect", "--task", "drawer-close-v3", "--task", "reach-v3", "--varied", "light", "--seed", "3"]
    words += ["--episodes", str(episodes), "--workers", str(workers)]
    assert cli.main([*words, "--contract", str(contract), "--output", str(output)]) == 0
    return Dataset.open(output)


def pixels(dataset: Dataset, view: str) -> np.ndarray:
    return np.stack([frame_to_rgb(Frame(np.frombuffer(data, np.uint8), "png")) for data in dataset.images(view)])


@pytest.mark.timeout(300)
def test_a_dataset_is_the_same_with_any_number_of_workers_and_of_runs(contract: Path, tmp_path: Path) -> None:
    whole = collect(contract, tmp_path / "whole", episodes=2, workers=2)
    collect(contract, tmp_path / "resumed", episodes=1, workers=1)
    resumed = collect(contract, tmp_path / "resumed", episodes=2, workers=1)
    check_dataset(resumed)
    assert [episode.facts for episode in whole.episodes] == [episode.facts for episode in resumed.episodes]
    assert [episode.facts["metaworld_task"] for episode in whole.episodes] == ["drawer-close-v3", "reach-v3"] * 2
    assert all(episode.facts["success"] for episode in whole.episodes)
    assert whole.schema == resumed.schema
    assert {view: feature.shape for view, feature in whole.schema.views.items()} == dict.fromkeys(VIEWS, (48, 48, 3))
    for name in whole.schema.columns:
        assert np.array_equal(whole.column(name), resumed.column(name)), name
    for view in whole.schema.views:
        assert np.abs(pixels(whole, view).astype(int) - pixels(resumed, view)).max() <= 1


def said(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command answers to a mistake; it must be one sentence, perhaps with a list, and the status 2."""
    try:
        status = cli.main(words)
    except SystemExit as end:  # argparse's own
        status = int(end.code or 0)
    text = capsys.readouterr().err
    assert status == 2
    assert "Traceback" not in text
    return text.rpartition("error: ")[2]


@pytest.mark.timeout(120)
def test_nothing_outlives_a_collection_that_is_terminated(contract: Path, tmp_path: Path) -> None:
    words = ["collect", "--task", "reach-v3", "--workers", "1", "--contract", str(contract)]
    program = [sys.executable, "-m", "vla_ros.cli", *words, "--output", str(tmp_path / "data")]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL) as collecting:
        until(lambda: len(children(collecting.pid)) == 2)  # a worker, and what tracks its resources
        workers = children(collecting.pid)
        collecting.terminate()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def until(is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Process ids."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "name a plan, such as mt10, or the tasks with --task"),
        (("mt10", "--task", "push-v3"), "name a plan, such as mt10, or the tasks with --task"),
        (("mt11",), "there is no config file 'mt11' in config/collection; choose one of ablation.yaml"),
        (("./plans/mine.yaml",), "plans/mine.yaml"),
        (("--task", "fold-laundry"), "fold-laundry"),
        (("mt10", "--varied", "fog"), "'fog' cannot be varied; choose from light, colours, camera, distractors"),
        (("mt10", "--workers", "0"), "'0' is not a whole number of at least 1"),
        (("--task", "push-v3", "--episodes", "-3"), "'-3' is not a whole number of at least 1"),
        (("mt10", "--seed", "-1"), "'-1' is not a whole number of at least 0"),
        (("mt10", "--contract", "no_robot"), "there is no config file 'no_robot'; choose one of"),
        (("mt10", "--contract", "ur5e_servo"), "no simulation is of the robot ur5e_servo"),
        (("mt10", "--contract", "base_sim"), "'reach-v3' is not a task of this robot; choose from drive-red-box"),
    ],
)
def test_a_mistake_in_collecting_is_told_before_anything_is_written(
    words: Sequence[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in said(("collect", *words), capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").touch()
    answer = said(("collect", "--task", "push-v3", "--output", str(tmp_path)), capsys)
    assert "exists and is not a dataset; choose another folder" in answer
    other = dataset_builders.write(tmp_path / "other", 1)
    assert "is a dataset of other" in said(("collect", "--task", "push-v3", "--output", str(other)), capsys)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stepps": 5}, "stepps"),
        ({"data": ["nowhere"]}, "nowhere"),
        ({"contract": "no_robot"}, "there is no config file 'no_robot'"),
        ({"model": {**MODEL, "views": ["fornt"]}}, "sawyer_sim has no camera 'fornt'; choose from front, wrist, top"),
        ({"model": {**MODEL, "views": ["top"]}}, "has no view 'top'; it has front, wrist"),
        ({"model": {**MODEL, "decoder": {"dt_s": 0.07}}}, "model.decoder.dt_s is 0.07 s; it must be a multiple of"),
        ({"batch_size": 1000}, "level 1.0 has 10 frames; a batch has 1000"),
    ],
)
def test_a_mistake_in_training_is_told_in_words(
    changes: dict[str, object],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    write_demonstrations(tmp_path / "data", 4, frames=5)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"data": ["data"], "model": MODEL, **changes}), encoding="utf-8")
    assert expected in said(("train", str(recipe)), capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("mt11",), "there is no config file 'mt11' in config/training; choose one of ablation.yaml, delayed-reach-"),
        (("none/recipe.yaml",), "none/recipe.yaml"),
        (("mt10", "--threads", "0"), "'0' is not a whole number of at least 1"),
    ],
)
def test_a_recipe_that_there_is_not_is_answered_with_those_that_there_are(
    words: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    assert expected in said(("train", *words), capsys)
