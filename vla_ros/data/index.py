"""The table of episodes, read back: what each is, and where its frames lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vla_ros.data.episode import Fact
from vla_ros.data.info import DATA_PATH, VIDEO_PATH, Totals
from vla_ros.data.schema import Schema
from vla_ros.data.statistics import NAMES, Statistics, from_lists
from vla_ros.data.tables import SUBTASKS_PATH, TASKS_PATH, episodes_schema
from vla_ros.errors import DataError


@dataclass(frozen=True)
class Video:
    """Where an episode lies in one view's video. from_s, to_s: seconds from the start of the file."""

    path: Path
    from_s: float
    to_s: float


@dataclass(frozen=True, eq=False)
class Episode:
    """from_index, to_index: its frames among those of the dataset, the last excluded; data_path: the file they are in.

    videos: by feature.
    """

    index: int
    task: str
    from_index: int
    to_index: int
    data_path: Path
    videos: Mapping[str, Video]
    facts: Mapping[str, Fact]

    @property
    def length(self) -> int:
        """Frames."""
        return self.to_index - self.from_index


def read_episodes(folder: Path, schema: Schema, totals: Totals) -> tuple[Episode, ...]:
    """All complete episodes, in order. Raises DataError, naming file and row."""
    columns = [name for name in episodes_schema(schema).names if not name.startswith("stats/")]
    episodes: list[Episode] = []
    for path, rows in _tables(folder, schema, totals, columns):
        for number, row in enumerate(rows):
            episode = _episode(folder, schema, row, f"{path}, row {number}")
            first = episodes[-1].to_index if episodes else 0
            if (episode.index, episode.from_index) != (len(episodes), first) or episode.length != row["length"]:
                raise DataError(
                    f"{path}, row {number}: episode {episode.index} of {row['length']} frames "
                    f"from {episode.from_index} to {episode.to_index}; episode {len(episodes)} from {first} is due"
                )
            episodes.append(episode)
    frames = episodes[-1].to_index if episodes else 0
    if (len(episodes), frames) != (totals.episodes, totals.frames):
        raise DataError(
            f"{folder}: meta/info.json tells of {totals.episodes} episodes and {totals.frames} frames, "
            f"meta/episodes of {len(episodes)} and {frames}"
        )
    return tuple(episodes)


def read_statistics(folder: Path, schema: Schema, totals: Totals) -> Iterator[dict[str, Statistics]]:
    """Of each complete episode, by feature. Raises DataError."""
    columns = [name for name in episodes_schema(schema).names if name.startswith("stats/")]
    for _, rows in _tables(folder, schema, totals, columns):
        for row in rows:
            yield {
                name: from_lists({statistic: row[f"stats/{name}/{statistic}"] for statistic in NAMES})
                for name in schema.all_features
            }


def read_tasks(folder: Path) -> tuple[str, ...]:
    """The sentences, by task_index. Raises DataError."""
    return _read_names(folder / TASKS_PATH, "task")


def read_subtasks(folder: Path) -> tuple[str, ...]:
    """The names, by subtask_index; none where the dataset has no subtasks. Raises DataError."""
    path = folder / SUBTASKS_PATH
    return _read_names(path, "subtask") if path.exists() else ()


def open_parquet(path: Path) -> pq.ParquetFile:
    """Raises DataError if it is missing, truncated or not parquet."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is truncated or not a parquet file: {error}") from error


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """These columns of a file. Raises DataError."""
    with open_parquet(path) as file:
        for name in columns:
            if name not in file.schema_arrow.names:
                raise DataError(f"{path}: the column {name} is missing")
        try:
            return file.read(columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def _tables(
    folder: Path, schema: Schema, totals: Totals, columns: list[str]
) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Files of meta/episodes in order, as far as they are complete."""
    kinds = episodes_schema(schema)
    left = totals.episodes
    for path in sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet")):
        if left <= 0:
            return
        table = read_table(path, columns)
        for name in columns:
            if table.schema.field(name).type != kinds.field(name).type:
                raise DataError(
                    f"{path}: the column {name} is of {table.schema.field(name).type}; "
                    f"it must be of {kinds.field(name).type}"
                )
            if table.column(name).null_count:
                row = table.column(name).is_null().to_pylist().index(True)
                raise DataError(f"{path}, row {row}: the column {name} is empty")
        left -= table.num_rows
        yield path, table.to_pylist()


def _episode(folder: Path, schema: Schema, row: Mapping[str, Any], place: str) -> Episode:
    if len(row["tasks"]) != 1:
        raise DataError(f"{place}: {len(row['tasks'])} sentences; an episode must have one")

    def path(prefix: str, pattern: str, key: str = "") -> Path:
        chunk, file = row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"]
        return folder / pattern.format(chunk_index=chunk, file_index=file, video_key=key)

    videos = {
        key: Video(
            path(f"videos/{key}", VIDEO_PATH, key),
            row[f"videos/{key}/from_timestamp"],
            row[f"videos/{key}/to_timestamp"],
        )
        for key in schema.video_keys
    }
    return Episode(
        row["episode_index"],
        row["tasks"][0],
        row["dataset_from_index"],
        row["dataset_to_index"],
        path("data", DATA_PATH),
        videos,
        {name: row[name] for name in schema.facts},
    )


def _read_names(path: Path, name: str) -> tuple[str, ...]:
    rows = read_table(path, [f"{name}_index", name]).to_pylist()
    if [row[f"{name}_index"] for row in rows] != list(range(len(rows))):
        raise DataError(f"{path}: {name}_index does not count from 0")
    for number, row in enumerate(rows):
        if not isinstance(row[name], str):
            raise DataError(f"{path}, row {number}: {name} is not text")
    return tuple(row[name] for row in rows)
