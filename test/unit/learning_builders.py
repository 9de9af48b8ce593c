"""Made-up experience and datasets of tiny episodes, for tests of learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from builders import pose_contract

from vla_ros.data.episode import EpisodeRecord
from vla_ros.data.schema import Schema
from vla_ros.data.writer import DatasetWriter
from vla_ros.images import encode
from vla_ros.learning.collection import facts_of, schema_of
from vla_ros.learning.collection_plan import Plan, takes_of
from vla_ros.learning.experience import FAILURE, SUCCESS, Experience
from vla_ros.learning.targets import no_labels
from vla_ros.types import LINEAR_VELOCITY, FloatArray

TASKS = ("push-v3", "reach-v3")
SIZE_PX = 32
VIEWS = ("front", "wrist")
TINY_MODEL: Mapping[str, Any] = {
    "views": ["front", "wrist"],
    "width": 32,
    "heads": 2,
    "dropout": 0.1,
    "vision": {"backbone": "film_conv", "image_size": 32, "trainable_from": 0},
    "fusion": {"layers": 1},
    "decoder": {"kind": "regression", "horizon": 4, "dt_s": 0.1, "layers": 1, "max_prefix": 1},
    "places": 3,
}
"""A recipe's network that learns in seconds."""


def experience(
    lengths: Sequence[int],
    velocities: FloatArray | None = None,
    pushed: Sequence[int] = (),
    tasks: Sequence[str] | None = None,
    successes: Sequence[bool] | None = None,
    fps: int = 20,
    worth: Sequence[float] | None = None,
    subtasks: Sequence[str] | None = None,
) -> Experience:
    """Episodes of so many frames each. velocities: (N, 3) [m/s]; pushed: frames at which somebody pushed.

    worth: of each frame; without, 1 where the episode is a success.
    """
    count = sum(lengths)
    actions = np.zeros((count, 14), np.float32)
    actions[:, LINEAR_VELOCITY] = np.zeros((count, 3)) if velocities is None else velocities
    actions[:, -1] = np.linspace(0.0, 1.0, count)
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    good = np.ones(len(lengths), bool) if successes is None else np.array(successes)
    return Experience(
        fps=fps,
        images={"front": np.zeros((count, 8, 8, 3), np.uint8)},
        states=np.zeros((count, 14), np.float32),
        actions=actions,
        places=np.zeros((count, 9), np.float32),
        places_known=np.ones((count, 9), bool),
        is_pushed=np.isin(np.arange(count), list(pushed)),
        worth=(good[episodes] if worth is None else np.array(worth)).astype(np.float32),
        is_start=np.ones(count, bool),
        episodes=episodes,
        tasks=tuple(tasks or ["push-v3"] * len(lengths)),
        worlds=("",) * len(lengths),
        subtasks=np.array(subtasks or [""] * count),
        outcomes=np.where(good, SUCCESS, FAILURE),
        labels=no_labels(count),
    )


def tiny_schema(views: Sequence[str] = VIEWS, image_size: tuple[int, int] = (SIZE_PX, SIZE_PX)) -> Schema:
    """What `vla_ros collect` writes for two tasks, but with tiny pictures. image_size: width, height [pixels]."""
    width, height = image_size
    cameras = {view: replace(pose_contract().cameras[view], width=width, height=height) for view in views}
    return schema_of(replace(pose_contract(), cameras=cameras), Plan(dict.fromkeys(TASKS, 1)), False)


def write_demonstrations(
    folder: Path, episodes: int, frames: int = 10, schema: Schema | None = None, good: int | None = None
) -> Path:
    """A dataset of made-up episodes of both tasks in turn, in which the pictures tell where the robot should go.

    good: how many of them, the first ones, are successes; without, all.
    """
    schema = schema or tiny_schema()
    takes = takes_of(Plan(dict.fromkeys(TASKS, (episodes + 1) // 2)))[:episodes]
    with DatasetWriter(folder, schema) as writer:
        for number, take in enumerate(takes):
            record = _record(number, frames, schema)
            success = good is None or number < good
            writer.add(replace(record, facts={**facts_of(take), "success": success}))
    return folder


def _record(number: int, frames: int, schema: Schema) -> EpisodeRecord:
    rng = np.random.default_rng(number)
    columns = {
        name: rng.normal(size=(frames, *feature.shape)).astype(np.float32)
        if feature.dtype == "float32"
        else np.zeros((frames, *feature.shape), feature.dtype)
        for name, feature in schema.columns.items()
    }
    state, action = columns["observation.state"], columns["action"]
    for start in (3, 10):
        state[:, start : start + 4] = (0.0, 1.0, 0.0, 0.0)
    action[:, 3:7], action[:, 7:13] = (0.0, 1.0, 0.0, 0.0), 0.0
    grey = rng.integers(0, 256, frames)
    action[:, 7] = grey / 1000.0
    action[:, 13] = state[:, 14] = 0.5
    columns["is_perturbed"] = rng.random((frames, 1)) < 0.1
    (shape,) = {feature.shape for feature in schema.views.values()}
    pictures = [np.full(shape, value, np.uint8) for value in grey]
    files = [encode(picture, "png").pixels.tobytes() for picture in pictures]
    return EpisodeRecord("do it", dict.fromkeys(schema.views, files), columns, {})
