"""A dataset as experience: whole columns in memory, images decoded once into files that memory is mapped onto."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vla_ros.data.checks import check_dataset
from vla_ros.data.episode import image_encoding
from vla_ros.data.reader import Dataset
from vla_ros.errors import DataError, LearningError, MessageError
from vla_ros.images import frame_to_rgb
from vla_ros.learning.experience import Experience, joined, model_states, places_of
from vla_ros.model.preprocessing import Preprocessing
from vla_ros.types import Frame

_CACHE = ".decoded"


def load_experience(folders: Sequence[Path], preprocessing: dict[str, Preprocessing]) -> Experience:
    """Several datasets, checked. preprocessing: of each view that the network looks through.

    Raises DataError, naming file and row, and LearningError if a dataset lacks a view.
    """
    return joined([_load_one(folder, preprocessing) for folder in folders])


def _load_one(folder: Path, preprocessing: dict[str, Preprocessing]) -> Experience:
    dataset = Dataset.open(folder)
    check_dataset(dataset, decode_images=False)  # those are when they are decoded
    for view in preprocessing:
        if view not in dataset.schema.views:
            raise LearningError(f"{folder} has no view '{view}'; it has {', '.join(dataset.schema.views)}")
    states = dataset.column("observation.state")
    episodes = np.repeat(np.arange(len(dataset.episodes)), [episode.length for episode in dataset.episodes])
    facts = [episode.facts for episode in dataset.episodes]
    shown = np.array([bool(json.loads(str(fact["scene"]))["shows_goal"]) for fact in facts])
    places, known = places_of(dataset.column("observation.environment_state"), shown[episodes])
    return Experience(
        fps=dataset.fps,
        images={view: _decoded(dataset, view, how) for view, how in preprocessing.items()},
        states=model_states(states),
        actions=dataset.column("action"),
        places=places,
        places_known=known,
        is_pushed=dataset.column("is_perturbed"),
        episodes=episodes,
        tasks=tuple(str(fact["metaworld_task"]) for fact in facts),
        successes=np.array([bool(fact["success"]) for fact in facts]),
    )


def _decoded(dataset: Dataset, view: str, how: Preprocessing) -> NDArray[np.uint8]:
    """All images of a view as the network wants them, (N, S, S, 3), made once and kept beside the dataset."""
    size = how.size
    path = dataset.folder / _CACHE / f"{view}_{size}_{dataset.frames}.npy"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(".part")
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
