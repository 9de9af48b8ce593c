"""Write demonstrations into a dataset, a file of many episodes at a time.

A file's frames are written first, then its episodes; meta/info.json, written last, makes them part of the dataset. A
process that is killed, at any time, leaves a dataset of all files finished until then.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.episode import EpisodeRecord, Fact, checked
from vla_ros.data.files import drafts, lock, replacing
from vla_ros.data.index import read_episodes, read_statistics, read_subtasks, read_tasks
from vla_ros.data.info import (
    CHUNK_FILES,
    DATA_FILE_MB,
    DATA_PATH,
    INFO_PATH,
    VIDEO_PATH,
    Totals,
    read_info,
    write_info,
)
from vla_ros.data.schema import IMAGE_PREFIX, Schema
from vla_ros.data.statistics import Statistics, describe_episode, join
from vla_ros.data.tables import (
    EPISODES_PATH,
    STATISTICS_PATH,
    SUBTASKS_PATH,
    TASKS_PATH,
    Chapter,
    episodes_table,
    file_path,
    frames_table,
    names_table,
    write_table,
)
from vla_ros.data.videos import encode_video
from vla_ros.errors import DataError

_FILE_EPISODES = 32
_FILE_BYTES = DATA_FILE_MB * 1_000_000
_NUMBERED = re.compile(r"chunk-(\d+)/file-(\d+)\.(?:parquet|mp4)$")


class DatasetWriter:
    """Creates a dataset, or goes on with one of the same schema. A context manager; close writes what is buffered."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        """Raises DataError if the folder holds something else, or another process writes there."""
        self._folder, self._schema = folder, schema
        if not (folder / INFO_PATH).exists():
            _create(folder, schema)
        self._lock: int | None = lock(folder)
        try:
            self._resume()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def facts(self) -> tuple[dict[str, Fact], ...]:
        """Of all episodes, those that were there before included."""
        return tuple(self._facts)

    @property
    def frames(self) -> int:
        """Of all episodes."""
        return self._totals.frames + sum(chapter.length for chapter in self._buffer)

    def add(self, record: EpisodeRecord) -> None:
        """Append an episode. It is on the disk once its file is full, and when the writer is closed.

        Raises DataError, with nothing added, if it is not what the schema says; or if a file cannot be written.
        """
        if self._lock is None:
            raise DataError(f"{self._folder}: the writer is closed")
        record = checked(record, self._schema)
        task_index = self._tasks.get(record.task, len(self._tasks))
        own = _own_columns(record, self._schema.fps, len(self._facts), self.frames, task_index)
        self._buffer.append(Chapter(record, own, describe_episode(record, own)))
        self._tasks[record.task] = task_index
        self._facts.append(dict(record.facts))
        self._buffered_bytes += sum(len(data) for files in record.images.values() for data in files)
        if len(self._buffer) >= _FILE_EPISODES or self._buffered_bytes >= _FILE_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is buffered, and let others write here. Raises DataError."""
        if self._lock is None:
            return
        try:
            self._flush()
        finally:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> DatasetWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes; the episodes that were added are complete, whatever ended the block."""
        self.close()

    def _resume(self) -> None:
        schema, self._totals = read_info(self._folder, read_subtasks(self._folder))
        _check_same(self._folder, schema, self._schema)
        episodes = read_episodes(self._folder, schema, self._totals)
        self._facts = [dict(episode.facts) for episode in episodes]
        tasks = read_tasks(self._folder)[: self._totals.tasks] if episodes else ()
        self._tasks = {task: index for index, task in enumerate(tasks)}
        self._statistics = join(read_statistics(self._folder, schema, self._totals))
        self._file = len({episode.data_path for episode in episodes})
        self._buffer: list[Chapter] = []
        self._buffered_bytes = 0
        _remove_incomplete(self._folder, self._file)

    def _flush(self) -> None:
        if not self._buffer:
            return
        folder, schema, chapters = self._folder, self._schema, self._buffer
        statistics = join([self._statistics, *(chapter.statistics for chapter in chapters)])
        totals = Totals(len(self._facts), self.frames, len(self._tasks))
        write_table(folder / file_path(DATA_PATH, self._file), frames_table(schema, chapters))
        for key in schema.video_keys:
            _write_video(folder / file_path(VIDEO_PATH, self._file, key), key, schema, chapters)
        write_table(folder / TASKS_PATH, names_table(list(self._tasks), "task"))
        write_table(folder / file_path(EPISODES_PATH, self._file), episodes_table(schema, chapters, self._file))
        _write_statistics(folder, statistics)
        write_info(folder, schema, totals)  # from here on, they are part of the dataset
        self._statistics, self._totals = statistics, totals
        self._buffer, self._buffered_bytes, self._file = [], 0, self._file + 1


def _create(folder: Path, schema: Schema) -> None:
    """A dataset without episodes, whole or not at all."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} exists and is not a dataset; choose another folder, or an empty one")
        draft.mkdir(parents=True)
        if schema.subtasks:
            write_table(draft / SUBTASKS_PATH, names_table(schema.subtasks, "subtask"))
        write_info(draft, schema, Totals())
        draft.replace(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_same(folder: Path, found: Schema, wanted: Schema) -> None:
    for field in fields(Schema):
        there, here = getattr(found, field.name), getattr(wanted, field.name)
        if there == here:
            continue
        if isinstance(there, Mapping):
            names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
            raise DataError(f"{folder} is a dataset of other {field.name}: {', '.join(names)}; choose another folder")
        raise DataError(f"{folder} is a dataset of another {field.name}: {there}, not {here}; choose another folder")


def _remove_incomplete(folder: Path, complete_files: int) -> None:
    """What a writer that was killed had begun, and a draft of each file at most."""
    begun = [path for pattern in ("data/*/*", "meta/episodes/*/*", "videos/*/*/*") for path in folder.glob(pattern)]
    try:
        for path in begun:
            numbers = _NUMBERED.search(path.as_posix())
            if numbers and int(numbers[1]) * CHUNK_FILES + int(numbers[2]) >= complete_files:
                path.unlink()
        for path in drafts(folder):
            path.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error


def _own_columns(record: EpisodeRecord, fps: int, episode: int, first: int, task: int) -> dict[str, NDArray[Any]]:
    """LeRobot's own. first: of its frames among those of the dataset."""
    length = record.length
    frame_index = np.arange(length, dtype=np.int64)
    return {
        "timestamp": (frame_index / fps).astype(np.float32),
        "frame_index": frame_index,
        "episode_index": np.full(length, episode, np.int64),
        "index": frame_index + first,
        "task_index": np.full(length, task, np.int64),
    }


def _write_statistics(folder: Path, statistics: Mapping[str, Statistics]) -> None:
    with replacing(folder / STATISTICS_PATH) as draft:
        lists = {name: feature.to_lists() for name, feature in statistics.items()}
        draft.write_text(json.dumps(lists, indent=4) + "\n", encoding="utf-8")


def _write_video(path: Path, key: str, schema: Schema, chapters: Sequence[Chapter]) -> None:
    files = (data for chapter in chapters for data in chapter.record.images[key.removeprefix(IMAGE_PREFIX)])
    with replacing(path) as draft:
        encode_video(draft, files, schema.features[key], schema.fps)
