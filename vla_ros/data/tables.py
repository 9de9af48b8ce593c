"""The tables of a dataset as parquet: frames, episodes, tasks. Names and types are LeRobot's, format v3.0."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_ros.data.episode import EpisodeRecord, Fact
from vla_ros.data.files import replacing
from vla_ros.data.info import CHUNK_FILES
from vla_ros.data.schema import IMAGE_PREFIX, OWN_FEATURES, Feature, Schema
from vla_ros.data.statistics import NAMES, Statistics

EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS_PATH, SUBTASKS_PATH = "meta/tasks.parquet", "meta/subtasks.parquet"
STATISTICS_PATH = "meta/stats.json"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ARROW = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
_FACTS = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_ROW_GROUP = 512  # frames that a reader holds at a time


@dataclass(frozen=True, eq=False)
class Chapter:
    """One episode on its way to the disk. own: LeRobot's own columns; statistics: by feature."""

    record: EpisodeRecord
    own: Mapping[str, NDArray[Any]]
    statistics: Mapping[str, Statistics]

    @property
    def length(self) -> int:
        """Frames."""
        return self.record.length


def file_path(pattern: str, number: int, video_key: str = "") -> str:
    """Where the file with this number lies, relative to the dataset's folder."""
    chunk, file = divmod(number, CHUNK_FILES)
    return pattern.format(chunk_index=chunk, file_index=file, video_key=video_key)


def write_table(path: Path, table: pa.Table) -> None:
    """Whole or not at all. Raises DataError."""
    with replacing(path) as draft:
        pq.write_table(
            table,
            draft,
            row_group_size=_ROW_GROUP,
            compression="snappy",
            use_dictionary=False,  # encoded images and measurements do not repeat
            write_page_checksum=True,  # a bit that flips in a float would still be a float
        )


def frames_schema(schema: Schema) -> pa.Schema:
    """Columns of data/. Scalars are plain, vectors lists of fixed size, images files beside a path that is empty."""
    stored = {name: feature for name, feature in schema.all_features.items() if feature.dtype != "video"}
    kinds = {"info": {"features": {name: _hugging_face(feature) for name, feature in stored.items()}}}
    return pa.schema(
        [pa.field(name, _arrow(feature)) for name, feature in stored.items()],
        metadata={"huggingface": json.dumps(kinds)},
    )


def frames_table(schema: Schema, chapters: Sequence[Chapter]) -> pa.Table:
    """All frames of the episodes, one row each."""
    arrow = frames_schema(schema)
    return pa.table([_frames_column(name, arrow, chapters) for name in arrow.names], schema=arrow)


def episodes_schema(schema: Schema) -> pa.Schema:
    """Columns of meta/episodes: LeRobot's, and the facts."""
    place = [(f"videos/{key}/{name}", kind) for key in schema.video_keys for name, kind in _VIDEO_PLACE.items()]
    statistics = [
        (f"stats/{name}/{statistic}", _statistic_type(feature, statistic))
        for name, feature in schema.all_features.items()
        for statistic in NAMES
    ]
    facts = [(name, _FACTS[kind]) for name, kind in schema.facts.items()]
    return pa.schema([*_EPISODE, *place, *_DATA_PLACE, *statistics, *_EPISODES_PLACE, *facts])


def episodes_table(schema: Schema, chapters: Sequence[Chapter], number: int) -> pa.Table:
    """A row per episode. number: of the file that their frames are in, of their videos, and of this file."""
    seconds, rows = 0.0, []
    for chapter in chapters:
        end = seconds + chapter.length / schema.fps
        rows.append(_episode_row(schema, chapter, number, (seconds, end)))
        seconds = end
    return pa.Table.from_pylist(rows, schema=episodes_schema(schema))


def names_table(names: Sequence[str], name: str) -> pa.Table:
    """name: "task" or "subtask". Sentences with their index, read by pandas with the sentence as the row's label."""
    index = f"{name}_index"
    labels = {"name": name, "field_name": name, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    numbers = {"name": index, "field_name": index, "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    pandas = {
        "index_columns": [name],
        "column_indexes": [],
        "columns": [numbers, labels],
        "creator": {"library": "pyarrow", "version": pa.__version__},
    }
    arrow = pa.schema([(index, pa.int64()), (name, pa.string())], metadata={"pandas": json.dumps(pandas)})
    return pa.table([pa.array(range(len(names)), pa.int64()), pa.array(names, pa.string())], schema=arrow)


_EPISODE = [("episode_index", pa.int64()), ("tasks", pa.list_(pa.string())), ("length", pa.int64())]
_DATA_PLACE = [
    (name, pa.int64()) for name in ("data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")
]
_EPISODES_PLACE = [(f"meta/episodes/{name}", pa.int64()) for name in ("chunk_index", "file_index")]
_VIDEO_PLACE = {
    "chunk_index": pa.int64(),
    "file_index": pa.int64(),
    "from_timestamp": pa.float64(),
    "to_timestamp": pa.float64(),
}


def _episode_row(schema: Schema, chapter: Chapter, number: int, video_s: tuple[float, float]) -> dict[str, Any]:
    chunk, file = divmod(number, CHUNK_FILES)
    first = int(chapter.own["index"][0])
    row: dict[str, Any] = {
        "episode_index": int(chapter.own["episode_index"][0]),
        "tasks": [chapter.record.task],
        "length": chapter.length,
        "dataset_from_index": first,
        "dataset_to_index": first + chapter.length,
    }
    for prefix in ("data", "meta/episodes", *(f"videos/{key}" for key in schema.video_keys)):
        row |= {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}
    for key in schema.video_keys:
        row |= {f"videos/{key}/from_timestamp": video_s[0], f"videos/{key}/to_timestamp": video_s[1]}
    for name, statistics in chapter.statistics.items():
        row |= {f"stats/{name}/{statistic}": values for statistic, values in statistics.to_lists().items()}
    facts: Mapping[str, Fact] = chapter.record.facts
    return row | dict(facts)


def _statistic_type(feature: Feature, statistic: str) -> pa.DataType:
    if statistic == "count":
        return pa.list_(pa.int64())
    return pa.list_(pa.list_(pa.list_(pa.float64()))) if feature.is_visual else pa.list_(pa.float64())


def _arrow(feature: Feature) -> pa.DataType:
    if feature.is_visual:
        return _IMAGE
    kind, (width,) = _ARROW[feature.dtype], feature.shape
    return kind if width == 1 else pa.list_(kind, width)


def _hugging_face(feature: Feature) -> dict[str, Any]:
    """The same in the words of the library `datasets`, which knows an image by them."""
    if feature.is_visual:
        return {"_type": "Image"}
    value = {"dtype": feature.dtype, "_type": "Value"}
    (width,) = feature.shape
    return value if width == 1 else {"feature": value, "length": width, "_type": "Sequence"}


def _frames_column(name: str, arrow: pa.Schema, chapters: Sequence[Chapter]) -> pa.ChunkedArray:
    kind = arrow.field(name).type
    if kind == _IMAGE:
        view = name.removeprefix(IMAGE_PREFIX)
        return pa.chunked_array([_images(chapter.record.images[view]) for chapter in chapters], type=kind)
    return pa.chunked_array(
        [_numbers((c.own if name in OWN_FEATURES else c.record.columns)[name], kind) for c in chapters], type=kind
    )


def _images(files: Sequence[bytes]) -> pa.Array:
    encoded = pa.array(files, pa.binary())
    return pa.StructArray.from_arrays([encoded, pa.nulls(len(files), pa.string())], fields=list(_IMAGE))


def _numbers(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """values: (T,) or (T, n)."""
    if values.ndim == 1:
        return pa.array(values, kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(values), kind.value_type), values.shape[1])
