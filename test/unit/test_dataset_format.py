"""The files are those of LeRobot's dataset format v3.0: names, keys and types are pinned here."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dataset_builders import SCHEMA, VIDEO_SCHEMA, write

from vla_ros.data.info import Totals, to_info

FRAMES = {
    "observation.images.front": "struct<bytes: binary, path: string>",
    "observation.images.wrist": "struct<bytes: binary, path: string>",
    "observation.state": "fixed_size_list<element: float>[3]",
    "action": "fixed_size_list<element: float>[2]",
    "subtask_index": "int64",
    "is_perturbed": "bool",
    "label.visible": "fixed_size_list<element: bool>[3]",
    "timestamp": "float",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
EPISODES = {
    "episode_index": "int64",
    "tasks": "list<element: string>",
    "length": "int64",
    "data/chunk_index": "int64",
    "data/file_index": "int64",
    "dataset_from_index": "int64",
    "dataset_to_index": "int64",
    "meta/episodes/chunk_index": "int64",
    "meta/episodes/file_index": "int64",
    "metaworld_task": "string",
    "success": "bool",
    "seed": "int64",
    "score": "double",
}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("format") / "dataset", 3)


def types_of(path: Path) -> dict[str, str]:
    schema = pq.read_schema(path)
    return {name: str(schema.field(name).type).replace("item:", "element:") for name in schema.names}


def test_the_files_have_their_places(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".lock",
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/subtasks.parquet",
        "meta/tasks.parquet",
    }


def test_info_has_the_keys_of_the_format(folder: Path) -> None:
    info = json.loads((folder / "meta/info.json").read_text(encoding="utf-8"))
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "sawyer_sim",
        "total_episodes": 3,
        "total_frames": 12,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 20,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "units": {"length": "m", "angle": "rad"},
        "facts": {"metaworld_task": "string", "success": "bool", "seed": "int64", "score": "float64"},
    }
    assert list(features) == list(FRAMES)
    assert features["observation.images.front"] == {
        "dtype": "image",
        "shape": [12, 16, 3],
        "names": ["height", "width", "channels"],
    }
    assert features["action"] == {"dtype": "float32", "shape": [2], "names": ["velocity", "gripper"]}
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}


def test_info_of_a_video_says_how_it_is_encoded() -> None:
    info = to_info(VIDEO_SCHEMA, Totals())
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    feature = info["features"]["observation.images.front"]
    assert feature["dtype"] == "video"
    assert set(feature["info"]) == {
        "video.height",
        "video.width",
        "video.codec",
        "video.pix_fmt",
        "video.is_depth_map",
        "video.fps",
        "video.channels",
        "has_audio",
    }


def test_frames_have_the_types_of_the_format(folder: Path) -> None:
    assert types_of(folder / "data/chunk-000/file-000.parquet") == FRAMES


def test_frames_say_what_they_are_to_the_library_datasets(folder: Path) -> None:
    metadata = pq.read_schema(folder / "data/chunk-000/file-000.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert list(features) == list(FRAMES)
    assert features["observation.images.wrist"] == {"_type": "Image"}
    assert features["index"] == {"dtype": "int64", "_type": "Value"}
    assert features["action"] == {"feature": {"dtype": "float32", "_type": "Value"}, "length": 2, "_type": "Sequence"}


def test_episodes_have_the_columns_of_the_format(folder: Path) -> None:
    types = types_of(folder / "meta/episodes/chunk-000/file-000.parquet")
    statistics = {name: types.pop(name) for name in list(types) if name.startswith("stats/")}
    assert types == EPISODES
    assert set(statistics) == {f"stats/{feature}/{name}" for feature in FRAMES for name in STATISTICS}
    assert statistics["stats/action/mean"] == "list<element: double>"
    assert statistics["stats/action/count"] == "list<element: int64>"
    assert statistics["stats/observation.images.front/min"] == "list<element: list<element: list<element: double>>>"


def test_statistics_have_the_keys_of_the_format(folder: Path) -> None:
    statistics = json.loads((folder / "meta/stats.json").read_text(encoding="utf-8"))
    assert set(statistics) == set(FRAMES)
    assert all(tuple(values) == STATISTICS for values in statistics.values())
    assert [len(channel) for channel in statistics["observation.images.front"]["mean"]] == [1, 1, 1]


@pytest.mark.parametrize(("name", "rows"), [("task", 2), ("subtask", 3)])
def test_sentences_are_labels_of_rows_for_pandas(folder: Path, name: str, rows: int) -> None:
    table = pq.read_table(folder / f"meta/{name}s.parquet")
    assert table.schema.names == [f"{name}_index", name]
    assert table.column(f"{name}_index").to_pylist() == list(range(rows))
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == [name]


def test_the_schema_survives_a_round_trip(folder: Path) -> None:
    from vla_ros.data.reader import Dataset

    assert Dataset.open(folder).schema == SCHEMA
