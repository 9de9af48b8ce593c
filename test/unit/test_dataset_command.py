"""`vla_ros dataset inspect`: what it says of a good dataset, and of one that is not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dataset_builders import HEIGHT, SCHEMA, SENTENCES, WIDTH, record, with_column, write
from PIL import Image

from vla_ros import cli
from vla_ros.data.episode import EpisodeRecord, Fact
from vla_ros.data.reader import Dataset
from vla_ros.data.schema import Feature, Schema
from vla_ros.data.summary import Summary, summarise
from vla_ros.data.writer import DatasetWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def summary_of(folder: Path, *episodes: EpisodeRecord, schema: Schema = SCHEMA) -> Summary:
    with DatasetWriter(folder, schema) as writer:
        for episode in episodes:
            writer.add(episode)
    return summarise(Dataset.open(folder))


def test_it_says_what_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, 5)
    assert cli.main(["dataset", "inspect", str(folder)]) == 0
    said, progress = capsys.readouterr()
    assert "sawyer_sim, 5 episodes, 19 frames at 20 Hz" in said
    assert "front 16x12 image, wrist 16x12 image" in said
    assert "length m, angle rad" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["task-0", "3", "67%", "12", "3", "4", "5", "1"] in rows
    assert ["task-1", "2", "50%", "7", "3", "3.5", "4", "1"] in rows
    assert ["open", "the", "drawer", "3"] in rows
    assert any(row[:1] == ["action.gripper"] and len(row) == 5 for row in rows)
    assert said.splitlines()[-1] == "every frame was read and every picture decoded: nothing is wrong"
    assert "checking" in progress


def test_json_is_all_that_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, 5)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert cli.main(["dataset", "inspect", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["episodes"], told["frames"], told["fps"]) == (5, 19, 20)
    assert told["sentences"] == dict(zip(SENTENCES, (3, 2), strict=True))
    assert [task["successes"] for task in told["tasks"]] == [2, 1]
    assert sum(told["subtasks"].values()) == 19
    assert told["size_bytes"] == sum(path.stat().st_size for path in folder.rglob("*.[pj]*"))


def test_the_contact_sheet_shows_an_episode_of_each_task(folder: Path, tmp_path: Path) -> None:
    write(folder, 5)
    sheet = tmp_path / "pictures" / "sheet.png"
    assert cli.main(["dataset", "inspect", str(folder), "--contact-sheet", str(sheet)]) == 0
    image = Image.open(sheet)
    tasks, views, columns = 2, 2, 6
    assert image.size == (columns * (WIDTH + 4), tasks * (18 + views * (HEIGHT + 4)))
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]
    last = record(2, 5).images["front"][4]  # task-0: episode 0 is not successful, episode 2 is
    left = 4 * (WIDTH + 4)
    shown = np.asarray(image)[18 : 18 + HEIGHT, left : left + WIDTH]
    np.testing.assert_array_equal(shown, np.asarray(Image.open(BytesIO(last))))


def test_what_is_wrong_ends_with_status_2_and_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, 1)
    (folder / "data/chunk-000/file-000.parquet").unlink()
    assert cli.main(["dataset", "inspect", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "file-000.parquet is missing" in said.err


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dataset", "inspect", str(tmp_path)]) == 2
    assert "info.json does not exist: this folder is not a dataset" in capsys.readouterr().err


def test_a_missing_library_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, 1)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert cli.main(["dataset", "inspect", str(folder)]) == 2
    assert "datasets need tqdm, which is not installed: pip install pyarrow tqdm" in capsys.readouterr().err


def test_a_sheet_of_no_pictures_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = Schema("arm", 5, {"action": Feature("float32", (1,))})
    summary_of(folder, EpisodeRecord("go", {}, {"action": np.ones(3, np.float32)}, {}), schema=schema)
    assert cli.main(["dataset", "inspect", str(folder), "--contact-sheet", str(tmp_path / "sheet.png")]) == 2
    assert "has no pictures" in capsys.readouterr().err


def test_without_facts_episodes_are_counted_by_sentence(folder: Path) -> None:
    schema = replace(SCHEMA, facts={})
    summary = summary_of(folder, *(replace(record(seed), facts={}) for seed in range(3)), schema=schema)
    assert [(task.name, task.episodes, task.successes) for task in summary.tasks] == [
        (SENTENCES[0], 2, None),
        (SENTENCES[1], 1, None),
    ]


def long(number: int, **facts: Fact) -> EpisodeRecord:
    """Two seconds of all subtasks."""
    item = with_column(record(number, 40), subtask_index=np.arange(40) % 3)
    return replace(item, facts={**item.facts, "success": True, **facts})


def test_an_even_dataset_has_no_warnings(folder: Path) -> None:
    assert summary_of(folder, long(0), long(1)).warnings == ()


@pytest.mark.parametrize(
    ("episodes", "warning"),
    [
        (
            [long(seed, metaworld_task="a") for seed in range(4)] + [long(5, metaworld_task="b")],
            "uneven: 4 episodes of a, 1 of b",
        ),
        ([long(0), long(1, success=False)], "1 of 2 episodes are not successful"),
        (
            [long(0), replace(record(1, 19), facts=long(1).facts)],
            "1 episodes are shorter than 1 s, the first of them episode 1",
        ),
        ([long(0), long(2, seed=0)], "1 episodes occur more than once, such as seed 0 of task-0"),
        ([with_column(long(0), subtask_index=np.zeros(40, int))], "subtasks that no frame has: grasp, pull"),
        (
            [with_column(long(0), action=np.tile([0.5, 1.0], (40, 1)) * np.linspace(0, 1, 40)[:, None] ** [1, 0])],
            "values that never change: action.gripper",
        ),
    ],
)
def test_what_looks_odd_is_warned_of(folder: Path, episodes: list[EpisodeRecord], warning: str) -> None:
    assert warning in summary_of(folder, *episodes).warnings
