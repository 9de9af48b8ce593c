"""What goes into a dataset comes out again, whatever happens to its writer."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_builders import FPS, SCHEMA, SENTENCES, assert_holds, lengths, opened, picture, record, records, write

from vla_ros.data import writer as writer_module
from vla_ros.data.reader import Dataset
from vla_ros.data.schema import Feature
from vla_ros.data.writer import DatasetWriter
from vla_ros.errors import DataError

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


@contextmanager
def files_of(episodes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "_FILE_EPISODES", episodes)
        yield


def test_what_is_written_is_read(folder: Path) -> None:
    dataset = opened(write(folder, 5))
    assert (dataset.fps, dataset.frames, dataset.tasks) == (FPS, sum(lengths(5)), SENTENCES)
    assert_holds(dataset, 5)


def test_the_own_columns_count(folder: Path) -> None:
    dataset = opened(write(folder, 3))
    assert dataset.column("index").tolist() == list(range(12))
    assert dataset.column("episode_index").tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert dataset.column("frame_index").tolist() == [*range(3), *range(4), *range(5)]
    assert dataset.column("task_index").tolist() == [0] * 3 + [1] * 4 + [0] * 5
    np.testing.assert_allclose(dataset.column("timestamp")[3:7], np.arange(4) / FPS)
    assert [(episode.from_index, episode.to_index) for episode in dataset.episodes] == [(0, 3), (3, 7), (7, 12)]


def test_a_dataset_of_several_files_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files_of(2, monkeypatch):
        write(folder, 5)
    dataset = opened(folder)
    assert [path.name for path in dataset.data_files] == ["file-000.parquet", "file-001.parquet", "file-002.parquet"]
    assert_holds(dataset, 5)


def test_files_end_when_they_are_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_FILE_BYTES", 1)
    assert len(opened(write(folder, 3)).data_files) == 3


def test_files_beyond_the_thousandth_begin_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.data.tables.CHUNK_FILES", 2)
    monkeypatch.setattr(writer_module, "CHUNK_FILES", 2)
    with files_of(1, monkeypatch):
        write(folder, 2)
        write(folder, 1)
    dataset = opened(folder)
    assert [path.parent.name for path in dataset.data_files] == ["chunk-000", "chunk-000", "chunk-001"]
    assert_holds(dataset, 3)


def test_a_writer_goes_on_where_another_ended(folder: Path) -> None:
    write(folder, 2)
    with DatasetWriter(folder, SCHEMA) as writer:
        assert writer.facts == tuple(item.facts for item in records(2))
        assert writer.frames == sum(lengths(2))
    write(folder, 3)
    assert_holds(opened(folder), 5)


def test_facts_tell_of_episodes_that_are_not_on_the_disk_yet(folder: Path) -> None:
    with DatasetWriter(folder, SCHEMA) as writer:
        writer.add(record(7))
        assert [facts["seed"] for facts in writer.facts] == [7]
        with pytest.raises(DataError, match="has no complete episode yet"):
            Dataset.open(folder)


def test_statistics_are_of_all_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files_of(2, monkeypatch):
        write(folder, 3)
    write(folder, 2)
    values = np.concatenate([item.columns["action"] for item in records(5)]).astype(np.float64)
    statistics = opened(folder).statistics()["action"]
    assert statistics.count == len(values)
    for name, expected in (
        ("min", values.min(0)),
        ("max", values.max(0)),
        ("mean", values.mean(0)),
        ("std", values.std(0)),
    ):
        np.testing.assert_allclose(statistics.values[name], expected, rtol=1e-9)
    assert (np.diff([statistics.values[name] for name in ("q01", "q10", "q50", "q90", "q99")], axis=0) >= 0).all()


def test_statistics_of_images_are_per_channel_from_0_to_1(folder: Path) -> None:
    with DatasetWriter(folder, SCHEMA) as writer:
        writer.add(record(1, length=1))
    statistics = opened(folder).statistics()["observation.images.front"]
    pixels = picture(100).reshape(-1, 3) / 255
    assert statistics.count == 1
    for name, expected in (
        ("min", pixels.min(0)),
        ("max", pixels.max(0)),
        ("mean", pixels.mean(0)),
        ("std", pixels.std(0)),
    ):
        np.testing.assert_allclose(statistics.values[name].reshape(3), expected, atol=1e-12)


def test_a_dataset_of_another_schema_is_refused(folder: Path) -> None:
    write(folder, 1)
    wider = replace(SCHEMA, features={**SCHEMA.features, "action": Feature("float32", (3,))})
    with pytest.raises(DataError, match="is a dataset of other features: action; choose another folder"):
        DatasetWriter(folder, wider)
    with pytest.raises(DataError, match="of another fps: 20, not 10"):
        DatasetWriter(folder, replace(SCHEMA, fps=10))
    assert_holds(opened(folder), 1)


def test_a_folder_of_something_else_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="exists and is not a dataset"):
        DatasetWriter(folder, SCHEMA)
    assert [path.name for path in folder.parent.rglob("*")] == ["dataset", "notes.txt"]


def test_an_empty_folder_becomes_a_dataset(folder: Path) -> None:
    folder.mkdir()
    assert_holds(opened(write(folder, 1)), 1)


def test_a_closed_writer_takes_nothing(folder: Path) -> None:
    with DatasetWriter(folder, SCHEMA) as writer:
        pass
    writer.close()
    with pytest.raises(DataError, match="the writer is closed"):
        writer.add(record(0))


def test_an_interrupted_block_keeps_the_episodes_that_were_added(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), DatasetWriter(folder, SCHEMA) as writer:
        writer.add(record(0, lengths(1)[0]))
        raise KeyboardInterrupt
    assert_holds(opened(folder), 1)


def test_a_disk_that_refuses_is_said_and_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, 1)
    writer = DatasetWriter(folder, SCHEMA)
    writer.add(records(2)[1])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_as_a_full_disk)
        with pytest.raises(DataError, match=r"file-001\.parquet cannot be written: .*No space left"):
            writer.close()
    assert_holds(opened(folder), 1)


def fail_as_a_full_disk(path: Path, target: Path) -> None:
    raise OSError(28, "No space left on device")


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dataset_builders import SCHEMA, write
from vla_ros.data.writer import DatasetWriter

folder, renames = Path(sys.argv[2]), int(sys.argv[3])
replace = Path.replace

def replace_or_die(path, target):
    global renames
    if renames == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    renames -= 1
    return replace(path, target)

Path.replace = replace_or_die
write(folder, 1)
"""


@pytest.mark.parametrize("renames", range(5))  # of: frames, sentences, episodes, statistics, info
def test_a_writer_killed_at_any_rename_leaves_what_was_complete(folder: Path, renames: int) -> None:
    write(folder, 2)
    child = subprocess.run([sys.executable, "-c", CHILD, HERE, folder, str(renames)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert any(folder.rglob(".*.draft"))
    assert_holds(opened(folder), 2)
    write(folder, 2)
    assert_holds(opened(folder), 4)
    assert opened(folder).statistics()["action"].count == sum(lengths(4))
    assert not any(folder.rglob(".*.draft"))
    assert len(list(folder.rglob("file-*.parquet"))) == 4


def test_a_writer_killed_while_it_creates_the_folder_leaves_none(folder: Path) -> None:
    child = subprocess.run([sys.executable, "-c", CHILD, HERE, folder, "2"], check=False)
    assert child.returncode == -signal.SIGKILL
    assert not folder.exists()
    assert_holds(opened(write(folder, 1)), 1)


HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dataset_builders import SCHEMA
from vla_ros.data.writer import DatasetWriter

with DatasetWriter(Path(sys.argv[2]), SCHEMA):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_one_process_writes_at_a_time(folder: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(HERE), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(DataError, match="is being written by another process"):
            DatasetWriter(folder, SCHEMA)
        child.communicate("")
    assert_holds(opened(write(folder, 1)), 1)


def test_the_lock_is_let_go_when_the_schema_is_refused(folder: Path) -> None:
    write(folder, 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DataError):
        DatasetWriter(folder, replace(SCHEMA, fps=10))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
