"""Small datasets for tests: two views of 16 x 12 pixels, episodes of a few frames, every number another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data.checks import check_dataset
from vla_ros.data.episode import EpisodeRecord
from vla_ros.data.reader import Dataset
from vla_ros.data.schema import Feature, Schema
from vla_ros.data.writer import DatasetWriter
from vla_ros.images import encode
from vla_ros.types import ImageArray

WIDTH, HEIGHT, FPS = 16, 12, 20
VIEWS = ("front", "wrist")
CLASSES = ("puck", "drawer", "goal")
SENTENCES = ("open the drawer", "push the puck to the goal")
SCHEMA = Schema(
    robot_type="sawyer_sim",
    fps=FPS,
    features={
        **{f"observation.images.{view}": Feature("image", (HEIGHT, WIDTH, 3)) for view in VIEWS},
        "observation.state": Feature("float32", (3,), ("x", "y", "z")),
        "action": Feature("float32", (2,), ("velocity", "gripper")),
        "subtask_index": Feature("int64", (1,)),
        "is_perturbed": Feature("bool", (1,)),
        "label.visible": Feature("bool", (len(CLASSES),), CLASSES),
    },
    facts={"metaworld_task": "string", "success": "bool", "seed": "int64", "score": "float64"},
    subtasks=("reach", "grasp", "pull"),
)
VIDEO_SCHEMA = replace(
    SCHEMA, features={**SCHEMA.features, "observation.images.front": Feature("video", (HEIGHT, WIDTH, 3))}
)


def picture(seed: int) -> ImageArray:
    """(12, 16, 3): three even blocks, which a video keeps nearly as they are."""
    colours = np.random.default_rng(seed).integers(0, 256, (1, 2, 3), np.uint8)
    return np.repeat(np.repeat(colours, HEIGHT, axis=0), WIDTH // 2, axis=1)


def record(seed: int, length: int = 4) -> EpisodeRecord:
    """An episode that no other seed gives."""
    rng = np.random.default_rng(seed)
    files = [encode(picture(100 * seed + frame), "png").pixels.tobytes() for frame in range(length)]
    return EpisodeRecord(
        task=SENTENCES[seed % len(SENTENCES)],
        images={"front": files, "wrist": files[::-1]},
        columns={
            "observation.state": rng.normal(size=(length, 3)).astype(np.float32),
            "action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            "subtask_index": rng.integers(0, len(SCHEMA.subtasks), length),
            "is_perturbed": rng.random(length) < 0.5,
            "label.visible": rng.random((length, len(CLASSES))) < 0.5,
        },
        facts={"metaworld_task": f"task-{seed % 2}", "success": seed % 3 > 0, "seed": seed, "score": seed / 2},
    )


def lengths(count: int) -> list[int]:
    """Of the first episodes: 3, 4, 5, 3, ..."""
    return [3 + seed % 3 for seed in range(count)]


def records(count: int) -> list[EpisodeRecord]:
    """The first so many episodes."""
    return [record(seed, length) for seed, length in enumerate(lengths(count))]


def write(folder: Path, count: int, schema: Schema = SCHEMA) -> Path:
    """A dataset of the first so many episodes, in one file; or go on with it by the next ones."""
    with DatasetWriter(folder, schema) as writer:
        start = len(writer.facts)
        for item in records(start + count)[start:]:
            writer.add(item)
    return folder


def with_column(item: EpisodeRecord, **columns: Any) -> EpisodeRecord:
    """The episode with other columns; dots are written as two underscores."""
    changed: Mapping[str, Any] = {name.replace("__", "."): values for name, values in columns.items()}
    return replace(item, columns={**item.columns, **changed})


def opened(folder: Path) -> Dataset:
    """Read, and checked."""
    dataset = Dataset.open(folder)
    check_dataset(dataset)
    return dataset


def assert_holds(dataset: Dataset, count: int) -> None:
    """It holds the first so many episodes, bit for bit."""
    expected = records(count)
    assert [episode.task for episode in dataset.episodes] == [item.task for item in expected]
    assert [episode.facts for episode in dataset.episodes] == [item.facts for item in expected]
    assert [episode.length for episode in dataset.episodes] == lengths(count)
    for name in SCHEMA.columns:
        np.testing.assert_array_equal(dataset.column(name), np.concatenate([item.columns[name] for item in expected]))
    for view in SCHEMA.views:
        assert list(dataset.images(view)) == [data for item in expected for data in item.images[view]]
