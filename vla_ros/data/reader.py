"""Read a dataset: its episodes, whole columns, and pictures one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vla_ros.data.index import Episode, open_parquet, read_episodes, read_subtasks, read_table, read_tasks
from vla_ros.data.info import Totals, read_info, read_json
from vla_ros.data.schema import IMAGE_PREFIX, Feature, Schema
from vla_ros.data.statistics import NAMES, Statistics, from_lists
from vla_ros.data.tables import STATISTICS_PATH, frames_schema
from vla_ros.data.videos import decode_video
from vla_ros.errors import DataError
from vla_ros.images import encode

_BATCH_FRAMES = 64


@dataclass(frozen=True, eq=False)
class Dataset:
    """What is known of a dataset without reading its frames. tasks: the sentences, by task_index."""

    folder: Path
    schema: Schema
    totals: Totals
    tasks: tuple[str, ...]
    episodes: tuple[Episode, ...]

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Reads and checks meta/. Raises DataError, naming the file."""
        schema, totals = read_info(folder, read_subtasks(folder))
        if totals.episodes == 0:
            raise DataError(f"{folder} has no complete episode yet")
        tasks = read_tasks(folder)
        if len(tasks) < totals.tasks:
            raise DataError(f"{folder}: meta/tasks.parquet has {len(tasks)} sentences of {totals.tasks}")
        return cls(folder, schema, totals, tasks[: totals.tasks], read_episodes(folder, schema, totals))

    @property
    def fps(self) -> int:
        """Frames per second."""
        return self.schema.fps

    @property
    def frames(self) -> int:
        """Of all episodes."""
        return self.totals.frames

    @property
    def data_files(self) -> dict[Path, tuple[Episode, ...]]:
        """The files of frames in order, each with the episodes that are in it."""
        return _grouped({episode: episode.data_path for episode in self.episodes})

    def video_files(self, key: str) -> dict[Path, tuple[Episode, ...]]:
        """The same for the videos of a feature."""
        return _grouped({episode: episode.videos[key].path for episode in self.episodes})

    def statistics(self) -> dict[str, Statistics]:
        """Of every feature, over all episodes. Raises DataError."""
        path = self.folder / STATISTICS_PATH
        lists = read_json(path)
        try:
            return {name: from_lists({key: lists[name][key] for key in NAMES}) for name in self.schema.all_features}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path} does not hold {', '.join(NAMES)} of every feature: {error!r}") from error

    def column(self, name: str) -> NDArray[Any]:
        """All frames' values of a feature, (N, n), or (N,) where n is 1. Raises DataError."""
        features = self.schema.all_features
        choices = [key for key, feature in features.items() if not feature.is_visual]
        if name not in choices:
            raise DataError(f"{self.folder} has no column {name}; choose one of {', '.join(choices)}")
        kind = frames_schema(self.schema).field(name).type
        parts = []
        for path, episodes in self.data_files.items():
            column = read_table(path, [name]).column(0)
            check_column(path, name, column, kind)
            if len(column) != _length(episodes):
                raise DataError(f"{path} has {len(column)} rows; meta/episodes tells of {_length(episodes)}")
            parts.append(to_numpy(column))
        return np.concatenate(parts)

    def images(self, view: str) -> Iterator[bytes]:
        """All frames of a view in order, as PNG or JPEG files; those of a video are decoded and written as PNG.

        Holds a few at a time. Raises DataError.
        """
        return self._images(self._key(view))

    def _images(self, key: str) -> Iterator[bytes]:
        for path, episodes in self._files(key).items():
            count = 0
            for data in _file_images(path, key, self.schema.features[key]):
                yield data
                count += 1
            if count != _length(episodes):
                raise DataError(f"{path} has {count} frames; meta/episodes tells of {_length(episodes)}")

    def episode_images(self, view: str, episode: Episode) -> list[bytes]:
        """The same of one episode of this dataset; what lies before it in its file is read too."""
        key = self._key(view)
        path, episodes = next(item for item in self._files(key).items() if episode in item[1])
        start = episode.from_index - episodes[0].from_index
        return list(islice(_file_images(path, key, self.schema.features[key]), start, start + episode.length))

    def _key(self, view: str) -> str:
        if view not in self.schema.views:
            raise DataError(f"{self.folder} has no view {view}; choose one of {', '.join(self.schema.views)}")
        return f"{IMAGE_PREFIX}{view}"

    def _files(self, key: str) -> dict[Path, tuple[Episode, ...]]:
        return self.video_files(key) if key in self.schema.video_keys else self.data_files


def _file_images(path: Path, key: str, feature: Feature) -> Iterator[bytes]:
    """Every picture of a view in one file, as PNG or JPEG."""
    if feature.dtype == "video":
        yield from (encode(rgb, "png").pixels.tobytes() for rgb in decode_video(path))
        return
    row = 0
    for batch in batches(path, [key]):
        for image in batch.column(0).to_pylist():
            if not image or not image["bytes"]:
                raise DataError(f"{path}, row {row}: {key} has no image")
            yield image["bytes"]
            row += 1


def batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """A file of frames, some at a time. Raises DataError if it cannot be read to its end."""
    with open_parquet(path) as file:
        for name in columns:
            if name not in file.schema_arrow.names:
                raise DataError(f"{path}: the column {name} is missing")
        try:
            yield from file.iter_batches(_BATCH_FRAMES, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} is corrupt: {error}") from error


def check_column(path: Path, name: str, column: pa.ChunkedArray | pa.Array, kind: pa.DataType, row: int = 0) -> None:
    """Raises DataError if it is of another type, or a value is missing. row: of its first value."""
    if column.type != kind:
        raise DataError(f"{path}: the column {name} is of {column.type}; it must be of {kind}")
    empty = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(kind) and not empty.any():
        values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        empty = values.flatten().is_null().to_numpy(zero_copy_only=False).reshape(-1, kind.list_size).any(axis=1)
    if empty.any():
        raise DataError(f"{path}, row {row + int(np.argmax(empty))}: the column {name} is empty")


def to_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """(T, n) of a column of lists, (T,) of scalars. column: without empty values."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_fixed_size_list(array.type):
        numbers: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
        return numbers.reshape(len(array), array.type.list_size)
    scalars: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return scalars


def _grouped(paths: Mapping[Episode, Path]) -> dict[Path, tuple[Episode, ...]]:
    grouped: dict[Path, list[Episode]] = {}
    for episode, path in paths.items():
        grouped.setdefault(path, []).append(episode)
    return {path: tuple(episodes) for path, episodes in grouped.items()}


def _length(episodes: tuple[Episode, ...]) -> int:
    return sum(episode.length for episode in episodes)
