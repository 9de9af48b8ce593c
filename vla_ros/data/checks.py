"""Read all of a dataset, and say where it is not what it must be: the file, the row, the column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vla_ros.data.episode import image_encoding
from vla_ros.data.index import Episode, open_parquet
from vla_ros.data.reader import Dataset, batches, check_column, to_numpy
from vla_ros.data.schema import SUBTASK_INDEX, Feature
from vla_ros.data.tables import STATISTICS_PATH, frames_schema
from vla_ros.data.videos import decode_video
from vla_ros.errors import DataError, MessageError
from vla_ros.images import compressed_size, frame_to_rgb
from vla_ros.types import Frame

_STAMP_TOLERANCE_S = 1e-4  # LeRobot's
OnFrames = Callable[[int], object]


def check_dataset(dataset: Dataset, decode_images: bool = True, on_frames: OnFrames = lambda _: None) -> None:
    """Raises DataError at the first thing that is wrong. on_frames: called with numbers of frames just checked.

    decode_images: whether to look at every pixel; without, images must have a header of the right size and an end.
    """
    _check_tasks(dataset)
    _check_statistics(dataset)
    for path, episodes in dataset.data_files.items():
        _check_file(dataset, path, episodes)
        for row, batch in _check_batches(path, frames_schema(dataset.schema)):
            _check_rows(dataset, path, episodes, row, batch, decode_images)
            on_frames(len(batch))
    for key in dataset.schema.video_keys:
        for path, episodes in dataset.video_files(key).items():
            _check_video(path, episodes, dataset.schema.features[key])


def _check_tasks(dataset: Dataset) -> None:
    for episode in dataset.episodes:
        if episode.task not in dataset.tasks:
            raise DataError(
                f"{dataset.folder}: the sentence of episode {episode.index}, {episode.task!r}, "
                f"is not in meta/tasks.parquet"
            )


def _check_statistics(dataset: Dataset) -> None:
    for name, statistics in dataset.statistics().items():
        feature = dataset.schema.all_features[name]
        shape = (3, 1, 1) if feature.is_visual else feature.shape
        for statistic, values in statistics.values.items():
            if values.shape != shape or not np.isfinite(values).all():
                raise DataError(
                    f"{dataset.folder / STATISTICS_PATH}: {statistic} of {name} must be finite, of shape {shape}"
                )


def _check_file(dataset: Dataset, path: Path, episodes: tuple[Episode, ...]) -> None:
    due = sum(episode.length for episode in episodes)
    with open_parquet(path) as file:
        present, rows = set(file.schema_arrow.names), file.metadata.num_rows
    for name in frames_schema(dataset.schema).names:
        if name not in present:
            raise DataError(f"{path}: the column {name} is missing")
    if rows != due:
        raise DataError(f"{path} has {rows} rows; meta/episodes tells of {due}")


def _check_batches(path: Path, kinds: pa.Schema) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of the right types without empty values, each with the row that it begins at."""
    row = 0
    for batch in batches(path, kinds.names):
        for name in kinds.names:
            check_column(path, name, batch.column(name), kinds.field(name).type, row)
        yield row, batch
        row += len(batch)


def _check_rows(
    dataset: Dataset, path: Path, episodes: tuple[Episode, ...], row: int, batch: pa.RecordBatch, decode_images: bool
) -> None:
    """row: of the file, where the batch begins."""
    columns: dict[str, NDArray[Any]] = {}
    for name, feature in dataset.schema.all_features.items():
        if feature.dtype == "image":
            _check_images(path, row, name, feature, batch.column(name), decode_images)
        elif feature.dtype != "video":
            columns[name] = to_numpy(batch.column(name))
            _refuse(path, row, name, ~np.isfinite(columns[name]), "is not a finite number")
    _check_own(dataset, path, episodes, row, columns)
    if SUBTASK_INDEX in columns:
        index, count = columns[SUBTASK_INDEX], len(dataset.schema.subtasks)
        _refuse(path, row, SUBTASK_INDEX, (index < 0) | (index >= count), f"is not one of the {count} subtasks")


def _check_own(
    dataset: Dataset, path: Path, episodes: tuple[Episode, ...], row: int, columns: dict[str, NDArray[Any]]
) -> None:
    """LeRobot's own columns say what meta/ says."""
    index = episodes[0].from_index + row + np.arange(len(columns["index"]))
    ends = np.array([episode.to_index for episode in episodes])
    of = np.searchsorted(ends, index, side="right")
    first = np.array([episode.from_index for episode in episodes])[of]
    due = {
        "index": index,
        "episode_index": np.array([episode.index for episode in episodes])[of],
        "frame_index": index - first,
        "task_index": np.array([dataset.tasks.index(episode.task) for episode in episodes])[of],
    }
    for name, values in due.items():
        _refuse(path, row, name, columns[name] != values, "does not count on as meta/episodes says")
    late = np.abs(columns["timestamp"] - due["frame_index"] / dataset.fps) > _STAMP_TOLERANCE_S
    _refuse(path, row, "timestamp", late, f"is not the frame's number divided by {dataset.fps} Hz")


def _refuse(path: Path, row: int, name: str, wrong: NDArray[np.bool_], what: str) -> None:
    """wrong: (T,) or (T, n). Raises DataError for the first row with a True."""
    rows = wrong.reshape(len(wrong), -1).any(axis=1)
    if rows.any():
        raise DataError(f"{path}, row {row + int(np.argmax(rows))}: {name} {what}")


def _check_images(path: Path, row: int, name: str, feature: Feature, images: pa.Array, decode: bool) -> None:
    for number, data in enumerate(images.field("bytes").to_pylist()):
        problem = _image_problem(data, feature, decode)
        if problem is not None:
            raise DataError(f"{path}, row {row + number}: the image of {name}: {problem}")


def _image_problem(data: bytes | None, feature: Feature, decode: bool) -> str | None:
    if not data:
        return "there is none"
    height, width, _ = feature.shape
    frame = Frame(np.frombuffer(data, np.uint8), image_encoding(data))
    try:
        size = compressed_size(frame.pixels, frame.encoding)
        if size != (width, height):
            return f"{size[0]}x{size[1]} pixels; it must be {width}x{height}"
        if decode:
            frame_to_rgb(frame)
    except MessageError as error:
        return str(error)
    return None


def _check_video(path: Path, episodes: tuple[Episode, ...], feature: Feature) -> None:
    frames, due = 0, sum(episode.length for episode in episodes)
    for rgb in decode_video(path):
        if rgb.shape != feature.shape:
            raise DataError(f"{path}, frame {frames}: shape {rgb.shape}; it must be {feature.shape}")
        frames += 1
    if frames != due:
        raise DataError(f"{path} has {frames} frames; meta/episodes tells of {due}")
