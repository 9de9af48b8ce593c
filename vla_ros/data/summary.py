"""What a dataset holds, counted: episodes per task, lengths, sentences, statistics, and what looks odd."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.data.index import Episode
from vla_ros.data.reader import Dataset
from vla_ros.data.schema import OWN_FEATURES, SUBTASK_INDEX

# The facts that are known by name; a dataset may do without them.
TASK, SUCCESS, OUTCOME, SEED = "metaworld_task", "success", "outcome", "seed"
_PARTS = ("data", "meta", "videos")  # what else is in the folder is somebody else's
_UNEVEN = 3
_SHORT_S = 1.0
_SHOWN = 8


@dataclass(frozen=True)
class TaskSummary:
    """Episodes of one task, or of one sentence where episodes do not tell their task. lengths: in frames.

    successes: None where episodes do not tell.
    """

    name: str
    episodes: int
    successes: int | None
    frames: int
    shortest: int
    median: float
    longest: int
    sentences: int


@dataclass(frozen=True)
class ColumnSummary:
    """Of one number per frame. name: of the column, and of the value in it."""

    name: str
    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Summary:
    """subtasks: frames of each; views: what their frames are; sentences: episodes of each; size_bytes: of all files."""

    folder: str
    robot_type: str
    fps: int
    episodes: int
    frames: int
    files: int
    size_bytes: int
    units: Mapping[str, str]
    views: Mapping[str, str]
    tasks: tuple[TaskSummary, ...]
    sentences: Mapping[str, int]
    subtasks: Mapping[str, int]
    columns: tuple[ColumnSummary, ...]
    warnings: tuple[str, ...]


def summarise(dataset: Dataset) -> Summary:
    """dataset: checked. Raises DataError."""
    schema = dataset.schema
    tasks = tuple(_task(name, episodes) for name, episodes in episodes_by_task(dataset).items())
    subtasks = _subtasks(dataset)
    columns = tuple(_columns(dataset))
    paths = [path for part in _PARTS for path in (dataset.folder / part).rglob("*") if path.is_file()]
    return Summary(
        folder=str(dataset.folder),
        robot_type=schema.robot_type,
        fps=dataset.fps,
        episodes=len(dataset.episodes),
        frames=dataset.frames,
        files=len(paths),
        size_bytes=sum(path.stat().st_size for path in paths),
        units=dict(schema.units),
        views={view: f"{f.shape[1]}x{f.shape[0]} {f.dtype}" for view, f in schema.views.items()},
        tasks=tasks,
        sentences=dict(sorted(Counter(episode.task for episode in dataset.episodes).items())),
        subtasks=subtasks,
        columns=columns,
        warnings=tuple(_warnings(dataset, tasks, subtasks, columns)),
    )


def episodes_by_task(dataset: Dataset) -> dict[str, list[Episode]]:
    """In alphabetical order; by sentence where episodes do not tell their task."""
    grouped: dict[str, list[Episode]] = {}
    for episode in dataset.episodes:
        grouped.setdefault(str(episode.facts.get(TASK, episode.task)), []).append(episode)
    return dict(sorted(grouped.items()))


def succeeded(episode: Episode) -> bool | None:
    """Whether the task was done; None where nobody knows."""
    if SUCCESS in episode.facts:
        return bool(episode.facts[SUCCESS])
    return {"success": True, "failure": False}.get(str(episode.facts.get(OUTCOME)))


def _task(name: str, episodes: Sequence[Episode]) -> TaskSummary:
    lengths = [episode.length for episode in episodes]
    successes = [succeeded(episode) for episode in episodes]
    return TaskSummary(
        name=name,
        episodes=len(episodes),
        successes=None if None in successes else sum(map(bool, successes)),
        frames=sum(lengths),
        shortest=min(lengths),
        median=statistics.median(lengths),
        longest=max(lengths),
        sentences=len({episode.task for episode in episodes}),
    )


def _subtasks(dataset: Dataset) -> dict[str, int]:
    if SUBTASK_INDEX not in dataset.schema.features:
        return {}
    names = dataset.schema.subtasks
    counts = np.bincount(dataset.column(SUBTASK_INDEX), minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _columns(dataset: Dataset) -> Iterator[ColumnSummary]:
    for name, found in dataset.statistics().items():
        feature = dataset.schema.all_features[name]
        if name in OWN_FEATURES or name == SUBTASK_INDEX:
            continue
        names = tuple("rgb") if feature.is_visual else feature.names or tuple(map(str, range(feature.shape[0])))
        low, high, mean, std = (found.values[key].reshape(-1).tolist() for key in ("min", "max", "mean", "std"))
        single = len(names) == 1
        for index, value in enumerate(names):
            title = name if single else f"{name}.{value}"
            yield ColumnSummary(title, low[index], high[index], mean[index], std[index])


def _warnings(
    dataset: Dataset,
    tasks: Sequence[TaskSummary],
    subtasks: Mapping[str, int],
    columns: Sequence[ColumnSummary],
) -> Iterator[str]:
    counts = {task.name: task.episodes for task in tasks}
    rarest, commonest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[commonest] > _UNEVEN * counts[rarest]:
        yield f"uneven: {counts[commonest]} episodes of {commonest}, {counts[rarest]} of {rarest}"
    failures = sum(task.episodes - task.successes for task in tasks if task.successes is not None)
    if failures:
        yield f"{failures} of {len(dataset.episodes)} episodes are not successful"
    short = [episode.index for episode in dataset.episodes if episode.length < _SHORT_S * dataset.fps]
    if short:
        yield f"{len(short)} episodes are shorter than {_SHORT_S:g} s, the first of them episode {short[0]}"
    yield from _repeated(dataset)
    never = [name for name, count in subtasks.items() if count == 0]
    if never:
        yield f"subtasks that no frame has: {', '.join(never)}"
    constant = [column.name for column in columns if column.low == column.high]
    if constant:
        more = f", and {len(constant) - _SHOWN} more" if len(constant) > _SHOWN else ""
        yield f"values that never change: {', '.join(constant[:_SHOWN])}{more}"


def _repeated(dataset: Dataset) -> Iterator[str]:
    """Two episodes of one task and seed are one episode twice."""
    seen = Counter((str(e.facts.get(TASK, e.task)), e.facts[SEED]) for e in dataset.episodes if SEED in e.facts)
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        task, seed = twice[0]
        yield f"{len(twice)} episodes occur more than once, such as seed {seed} of {task}"
