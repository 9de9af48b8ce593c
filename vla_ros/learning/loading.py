"""A dataset as experience: whole columns in memory, images decoded once into files that memory is mapped onto."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vla_ros.data.checks import check_dataset
from vla_ros.data.episode import image_encoding
from vla_ros.data.reader import Dataset
from vla_ros.data.schema import SUBTASK_INDEX
from vla_ros.errors import DataError, LearningError, MessageError
from vla_ros.images import frame_to_rgb
from vla_ros.learning.experience import FAILURE, SUCCESS, UNKNOWN, Experience, joined, model_states, places_of
from vla_ros.learning.rates import at_one_rate
from vla_ros.learning.recorded.columns import IS_BETWEEN, IS_INTERVENTION, OUTCOME
from vla_ros.learning.targets import labels_of, no_labels
from vla_ros.model.preprocessing import Preprocessing
from vla_ros.policy.metaworld_action import OBSERVATION
from vla_ros.policy.sentences import load_sentences
from vla_ros.types import Frame

_CACHE = ".decoded"
_COLUMNS = ("observation.state", "observation.environment_state", "action", "is_perturbed", SUBTASK_INDEX)
_FACTS = ("metaworld_task", "world", "variation", "success", "scene")
_RECORDED_COLUMNS = ("observation.state", "action", IS_INTERVENTION, IS_BETWEEN)
_RECORDED_FACTS = (OUTCOME,)
_OUTCOMES = {"success": SUCCESS, "failure": FAILURE}  # what else is said of a recording is not known


@dataclass(frozen=True)
class Weights:
    """How much what somebody did in a recording counts, beside 1 of a demonstration."""

    human: float = 1.0
    policy: float = 1.0


def open_datasets(folders: Sequence[Path], views: Sequence[str]) -> list[Dataset]:
    """What a network that looks through these views is trained on.

    Raises DataError for what is no dataset, and LearningError for one that lacks something.
    """
    datasets = [Dataset.open(folder) for folder in folders]
    for dataset in datasets:
        _check_complete(dataset, views)
    return datasets


def load_experience(
    datasets: Sequence[Dataset], preprocessing: Mapping[str, Preprocessing], weights: Weights = Weights()
) -> Experience:
    """Several datasets, checked, at the rate of the slowest. preprocessing: of each view that the network looks at.

    Raises DataError, naming file and row, and LearningError for datasets that do not fit each other.
    """
    return joined(at_one_rate([_load_one(dataset, preprocessing, weights) for dataset in datasets]))


def _load_one(dataset: Dataset, preprocessing: Mapping[str, Preprocessing], weights: Weights) -> Experience:
    check_dataset(dataset, decode_images=False)  # those are when they are decoded
    own = _recorded(dataset, weights) if _is_recorded(dataset) else _demonstrated(dataset)
    return Experience(
        fps=dataset.fps,
        images={view: _decoded(dataset, view, how) for view, how in preprocessing.items()},
        states=model_states(dataset.column("observation.state")),
        actions=dataset.column("action"),
        episodes=_episodes(dataset),
        **own,
    )


def _is_recorded(dataset: Dataset) -> bool:
    """Whether it was made of recordings of the robot, by whoever drove it; or else by experts in simulation."""
    return IS_INTERVENTION in dataset.schema.columns


def _episodes(dataset: Dataset) -> NDArray[np.int64]:
    """The episode of every frame. -> (N,)"""
    return np.repeat(np.arange(len(dataset.episodes)), [episode.length for episode in dataset.episodes])


def _demonstrated(dataset: Dataset) -> dict[str, Any]:
    """Of failures nothing is learned."""
    episodes, facts = _episodes(dataset), [episode.facts for episode in dataset.episodes]
    tasks = tuple(str(fact["metaworld_task"]) for fact in facts)
    shown = np.array([bool(json.loads(str(fact["scene"]))["shows_goal"]) for fact in facts])
    privileged = dataset.column("observation.environment_state")
    # Only Meta-World's observation has places that a network is asked for.
    places, known = (
        places_of(privileged, shown[episodes]) if privileged.shape[1] == OBSERVATION.stop else _nowhere(len(episodes))
    )
    return {
        "places": places,
        "places_known": known,
        "is_pushed": dataset.column("is_perturbed"),
        "worth": np.array([bool(fact["success"]) for fact in facts])[episodes].astype(np.float32),
        "is_start": np.ones(len(episodes), bool),
        "tasks": tasks,
        "worlds": tuple(f"{fact['world']} {fact['variation']}" for fact in facts),
        "subtasks": np.array(dataset.schema.subtasks)[dataset.column(SUBTASK_INDEX)],
        "outcomes": np.array([SUCCESS if fact["success"] else FAILURE for fact in facts]),
        "labels": labels_of(dataset, np.array(tasks)[episodes]),
    }


def _recorded(dataset: Dataset, weights: Weights) -> dict[str, Any]:
    """Of a policy's failures nothing is learned, but of what a human did in them. Nobody knows where things were."""
    episodes, sentences = _episodes(dataset), load_sentences()
    is_failure = np.array([episode.facts[OUTCOME] == "failure" for episode in dataset.episodes])[episodes]
    places, known = _nowhere(len(episodes))
    of_policy = np.where(is_failure, 0.0, weights.policy)
    return {
        "places": places,
        "places_known": known,
        "is_pushed": np.zeros(len(episodes), bool),
        "worth": np.where(dataset.column(IS_INTERVENTION), weights.human, of_policy).astype(np.float32),
        "is_start": ~dataset.column(IS_BETWEEN),
        "tasks": tuple(sentences.known_task(episode.task) or episode.task for episode in dataset.episodes),
        "worlds": ("",) * len(dataset.episodes),
        "subtasks": np.full(len(episodes), ""),
        "outcomes": np.array([_OUTCOMES.get(str(episode.facts[OUTCOME]), UNKNOWN) for episode in dataset.episodes]),
        "labels": no_labels(len(episodes)),
    }


def _nowhere(frames: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Of things of which nobody knows where they are. -> (N, 9), (N, 9)"""
    return np.zeros((frames, 9), np.float32), np.zeros((frames, 9), bool)


def _check_complete(dataset: Dataset, views: Sequence[str]) -> None:
    """Raises LearningError for a dataset that lacks something."""
    schema, is_recorded = dataset.schema, _is_recorded(dataset)
    for what, wanted, there in (
        ("view", views, schema.views),
        ("column", _RECORDED_COLUMNS if is_recorded else _COLUMNS, schema.columns),
        ("fact of its episodes", _RECORDED_FACTS if is_recorded else _FACTS, schema.facts),
    ):
        for name in wanted:
            if name not in there:
                raise LearningError(f"{dataset.folder} has no {what} '{name}'; it has {', '.join(there) or 'none'}")


def _decoded(dataset: Dataset, view: str, how: Preprocessing) -> NDArray[np.uint8]:
    """All images of a view as the network wants them, (N, S, S, 3), made once and kept beside the dataset."""
    size = how.size
    look = "-".join(map(str, (how.resample.name.lower(), *how.bar_colour)))
    path = dataset.folder / _CACHE / f"{view}_{size}_{look}_{dataset.frames}.npy"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        array = np.lib.format.open_memmap(draft, "w+", np.uint8, (dataset.frames, size, size, 3))
        images = tqdm(dataset.images(view), f"decoding {view}", dataset.frames, unit="frame")
        for index, data in enumerate(images):
            array[index] = _rgb(data, index, how).permute(1, 2, 0).numpy()
        array.flush()
        draft.replace(path)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return mapped


def _rgb(data: bytes, index: int, how: Preprocessing) -> torch.Tensor:
    try:
        return how.prepare(frame_to_rgb(Frame(np.frombuffer(data, np.uint8), image_encoding(data))))
    except MessageError as error:
        raise DataError(f"frame {index} holds an image that cannot be decoded: {error}") from error
