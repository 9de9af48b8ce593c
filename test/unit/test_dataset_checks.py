"""Each way in which a dataset can be wrong is named: the file, the row, the column."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builders import SCHEMA, VIEWS, write

from vla_ros.data.checks import check_dataset
from vla_ros.data.reader import Dataset
from vla_ros.errors import DataError
from vla_ros.images import encode

INFO, STATISTICS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
FRAMES = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
Break = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Episodes of 3, 4 and 5 frames."""
    return write(tmp_path / "dataset", 3)


def check(folder: Path, decode_images: bool = True) -> None:
    check_dataset(Dataset.open(folder), decode_images)


def in_json(file: str, change: Callable[[dict[str, Any]], object]) -> Break:
    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        change(content)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return apply


def in_column(file: str, name: str, change: Callable[[list[Any]], object]) -> Break:
    """Change a column's values, its type stays."""

    def apply(folder: Path) -> None:
        table = pq.read_table(folder / file)
        position = table.schema.names.index(name)
        values = table.column(name).to_pylist()
        change(values)
        field = table.schema.field(position)
        pq.write_table(table.set_column(position, field, pa.array(values, field.type)), folder / file)

    return apply


def at(row: int, value: Any) -> Callable[[list[Any]], None]:
    def put(values: list[Any]) -> None:
        values[row] = value

    return put


def inside(row: int, place: int | str, value: Any) -> Callable[[list[Any]], None]:
    def put(values: list[Any]) -> None:
        values[row][place] = value

    return put


def without_column(file: str, name: str) -> Break:
    def apply(folder: Path) -> None:
        pq.write_table(pq.read_table(folder / file).drop_columns([name]), folder / file)

    return apply


def retyped(file: str, name: str, kind: pa.DataType, values: list[Any]) -> Break:
    def apply(folder: Path) -> None:
        table = pq.read_table(folder / file)
        column = pa.array(values, kind)
        pq.write_table(table.set_column(table.schema.names.index(name), name, column), folder / file)

    return apply


def cut(file: str, keep: float) -> Break:
    def apply(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * keep)])

    return apply


def flipped(file: str, place: float) -> Break:
    """One bit, so far into the file."""

    def apply(folder: Path) -> None:
        data = bytearray((folder / file).read_bytes())
        data[int(len(data) * place)] ^= 1
        (folder / file).write_bytes(data)

    return apply


def removed(file: str) -> Break:
    return lambda folder: (folder / file).unlink()


def text(file: str, content: str) -> Break:
    def apply(folder: Path) -> None:
        (folder / file).write_text(content, encoding="utf-8")

    return apply


def first_rows(file: str, count: int) -> Break:
    return lambda folder: pq.write_table(pq.read_table(folder / file).slice(0, count), folder / file)


def half_an_image(values: list[Any]) -> None:
    values[7]["bytes"] = values[7]["bytes"][:-20]


def broken_pixels(values: list[Any]) -> None:
    data = bytearray(values[7]["bytes"])
    data[45] ^= 0xFF
    values[7]["bytes"] = bytes(data)


SMALL = encode(np.zeros((4, 4, 3), np.uint8), "png").pixels.tobytes()
WRONG: Mapping[str, tuple[Break, str]] = {
    # what meta/info.json declares
    "info missing": (removed(INFO), r"info\.json does not exist: this folder is not a dataset"),
    "info not JSON": (text(INFO, "{"), r"info\.json cannot be read"),
    "info a list": (text(INFO, "[]"), r"info\.json does not hold a JSON object"),
    "another version": (
        in_json(INFO, lambda info: info.update(codebase_version="v2.1")),
        r"info\.json: codebase_version is 'v2\.1'.*; choices: v3\.0",
    ),
    "a key missing": (in_json(INFO, lambda info: info.pop("fps")), r"info\.json: fps is missing"),
    "no units": (in_json(INFO, lambda info: info.pop("units")), r"info\.json: no units are declared"),
    "unknown unit": (
        in_json(INFO, lambda info: info["units"].update(angle="deg")),
        r"info\.json: the unit of angle is 'deg'; choices: rad",
    ),
    "unknown dtype": (
        in_json(INFO, lambda info: info["features"]["action"].update(dtype="float16")),
        r"features\.action\.dtype is 'float16'",
    ),
    "own feature missing": (
        in_json(INFO, lambda info: info["features"].pop("timestamp")),
        r"info\.json: the feature timestamp is missing",
    ),
    "totals": (
        in_json(INFO, lambda info: info.update(total_episodes=4)),
        "tells of 4 episodes and 12 frames, meta/episodes of 3 and 12",
    ),
    # the other files of meta/
    "statistics missing": (removed(STATISTICS), r"stats\.json does not exist"),
    "statistics incomplete": (
        in_json(STATISTICS, lambda statistics: statistics["action"].pop("std")),
        r"stats\.json does not hold min, max, .*: KeyError\('std'\)",
    ),
    "statistics too narrow": (
        in_json(STATISTICS, lambda statistics: statistics["action"].update(std=[1.0])),
        r"stats\.json: std of action must be finite, of shape \(2,\)",
    ),
    "sentences missing": (removed(TASKS), r"tasks\.parquet is missing"),
    "sentences renumbered": (in_column(TASKS, "task_index", at(0, 5)), r"tasks\.parquet: task_index does not count"),
    "another sentence": (
        in_column(TASKS, "task", at(1, "close the drawer")),
        r"the sentence of episode 1, 'push the puck to the goal', is not in meta/tasks\.parquet",
    ),
    "sentence lost": (first_rows(TASKS, 1), r"meta/tasks\.parquet has 1 sentences of 2"),
    "subtask lost": (
        first_rows("meta/subtasks.parquet", 1),
        r"file-000\.parquet, row \d+: subtask_index is not one of the 1 subtasks",
    ),
    "episodes missing": (removed(EPISODES), "meta/episodes of 0 and 0"),
    "episodes truncated": (cut(EPISODES, 0.5), r"episodes/chunk-000/file-000\.parquet is truncated or not a parquet"),
    "an episode's column missing": (without_column(EPISODES, "length"), r"file-000\.parquet: the column length is mi"),
    "an episode's fact missing": (without_column(EPISODES, "seed"), r"file-000\.parquet: the column seed is missing"),
    "an episode's fact empty": (
        in_column(EPISODES, "seed", at(1, None)),
        r"episodes/chunk-000/file-000\.parquet, row 1: the column seed is empty",
    ),
    "an episode's fact of another type": (
        retyped(EPISODES, "seed", pa.string(), ["0", "1", "2"]),
        "the column seed is of string; it must be of int64",
    ),
    "a hole between episodes": (
        in_column(EPISODES, "dataset_from_index", at(1, 4)),
        r"row 1: episode 1 of 4 frames from 4 to 7; episode 1 from 3 is due",
    ),
    "two sentences": (
        in_column(EPISODES, "tasks", at(2, ["a", "b"])),
        r"file-000\.parquet, row 2: 2 sentences; an episode must have one",
    ),
    # the frames
    "frames missing": (removed(FRAMES), r"data/chunk-000/file-000\.parquet is missing"),
    "frames truncated": (cut(FRAMES, 0.9), r"data/chunk-000/file-000\.parquet is truncated or not a parquet file"),
    "frames not parquet": (text(FRAMES, "PAR1"), r"data/chunk-000/file-000\.parquet is truncated or not"),
    "a bit flipped": (flipped(FRAMES, 0.1), r"data/chunk-000/file-000\.parquet is corrupt"),
    "fewer rows": (first_rows(FRAMES, 11), r"file-000\.parquet has 11 rows; meta/episodes tells of 12"),
    "column missing": (without_column(FRAMES, "action"), r"file-000\.parquet: the column action is missing"),
    "wrong width": (
        retyped(FRAMES, "action", pa.list_(pa.float32(), 3), [[0, 0, 0]] * 12),
        r"file-000\.parquet: the column action is of fixed_size_list<.*>\[3\]; it must be of .*\[2\]",
    ),
    "wrong type": (
        retyped(FRAMES, "is_perturbed", pa.int64(), [0] * 12),
        "the column is_perturbed is of int64; it must be of bool",
    ),
    "empty value": (in_column(FRAMES, "subtask_index", at(5, None)), r"parquet, row 5: the column subtask_index is em"),
    "empty vector": (  # which pyarrow before 26 cannot even read
        in_column(FRAMES, "action", at(6, None)),
        r"parquet(, row 6: the column action is empty| is corrupt: Expected all lists to be of size=2)",
    ),
    "empty in a vector": (in_column(FRAMES, "action", inside(6, 1, None)), r"row 6: the column action is empty"),
    "NaN": (in_column(FRAMES, "action", inside(8, 1, float("nan"))), r"row 8: action is not a finite number"),
    "infinite": (in_column(FRAMES, "observation.state", inside(2, 0, float("inf"))), r"row 2: observation\.state is"),
    "stamp goes back": (in_column(FRAMES, "timestamp", at(5, 0.01)), r"row 5: timestamp is not the frame's number"),
    "index": (in_column(FRAMES, "index", at(4, 99)), r"row 4: index does not count on"),
    "episode_index": (in_column(FRAMES, "episode_index", at(3, 0)), r"row 3: episode_index does not count on"),
    "frame_index": (in_column(FRAMES, "frame_index", at(3, 3)), r"row 3: frame_index does not count on"),
    "task_index": (in_column(FRAMES, "task_index", at(9, 1)), r"row 9: task_index does not count on"),
    "subtask_index": (in_column(FRAMES, "subtask_index", at(9, 3)), r"row 9: subtask_index is not one of the 3"),
    # the pictures
    "no image": (
        in_column(FRAMES, "observation.images.wrist", inside(1, "bytes", None)),
        r"row 1: the image of observation\.images\.wrist: there is none",
    ),
    "no image's struct": (
        in_column(FRAMES, "observation.images.wrist", at(1, None)),
        r"row 1: the column observation\.images\.wrist is empty",
    ),
    "image truncated": (
        in_column(FRAMES, "observation.images.front", half_an_image),
        r"row 7: the image of observation\.images\.front: the png file has no end",
    ),
    "image of another size": (
        in_column(FRAMES, "observation.images.front", inside(7, "bytes", SMALL)),
        r"row 7: the image of observation\.images\.front: 4x4 pixels; it must be 16x12",
    ),
    "image not an image": (
        in_column(FRAMES, "observation.images.front", inside(7, "bytes", b"GIF89a")),
        r"row 7: the image of observation\.images\.front: the data is not a png file",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(folder: Path, name: str) -> None:
    check(folder)
    break_it, complaint = WRONG[name]
    break_it(folder)
    with pytest.raises(DataError, match=complaint):
        check(folder, decode_images=False)


def test_pixels_that_do_not_decode_are_found_by_looking_at_them(folder: Path) -> None:
    in_column(FRAMES, "observation.images.front", broken_pixels)(folder)
    check(folder, decode_images=False)
    with pytest.raises(DataError, match=r"row 7: the image of observation\.images\.front: .* does not decode"):
        check(folder)


def test_columns_are_checked_as_they_are_read(folder: Path) -> None:
    without_column(FRAMES, "action")(folder)
    retyped(FRAMES, "is_perturbed", pa.int64(), [0] * 12)(folder)
    in_column(FRAMES, "observation.images.wrist", inside(1, "bytes", None))(folder)
    dataset = Dataset.open(folder)
    with pytest.raises(DataError, match=r"file-000\.parquet: the column action is missing"):
        dataset.column("action")
    with pytest.raises(DataError, match="is of int64; it must be of bool"):
        dataset.column("is_perturbed")
    with pytest.raises(DataError, match=r"file-000\.parquet, row 1: observation\.images\.wrist has no image"):
        list(dataset.images("wrist"))


def test_an_unknown_column_or_view_names_the_known_ones(folder: Path) -> None:
    dataset = Dataset.open(folder)
    with pytest.raises(DataError, match=r"has no column actoin; choose one of observation\.state, action"):
        dataset.column("actoin")
    with pytest.raises(DataError, match=r"has no column observation\.images\.front; choose"):
        dataset.column("observation.images.front")
    with pytest.raises(DataError, match=f"has no view left; choose one of {', '.join(VIEWS)}"):
        dataset.images("left")


def test_keys_that_lerobot_may_add_are_passed_over(folder: Path) -> None:
    in_json(INFO, lambda info: info.update(tools=[]))(folder)
    in_json(INFO, lambda info: info["features"]["action"].update(unit="m/s"))(folder)
    check(folder)
    assert Dataset.open(folder).schema == SCHEMA


def test_progress_counts_every_frame(folder: Path) -> None:
    seen: list[int] = []
    check_dataset(Dataset.open(folder), on_frames=seen.append)
    assert sum(seen) == 12
