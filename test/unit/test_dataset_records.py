"""What is no episode of a dataset is refused before it is written, and so is what is no schema."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_builders import SCHEMA, assert_holds, opened, record, records, with_column

from vla_ros.data.episode import EpisodeRecord
from vla_ros.data.schema import Feature, Schema
from vla_ros.data.writer import DatasetWriter
from vla_ros.errors import DataError
from vla_ros.images import encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def no_front() -> EpisodeRecord:
    return replace(record(0), images={"wrist": record(0).images["wrist"]})


def with_front(*files: bytes) -> EpisodeRecord:
    return replace(record(0), images={**record(0).images, "front": files})


def with_fact(name: str, value: Any) -> EpisodeRecord:
    return replace(record(0), facts={**record(0).facts, name: value})


GOOD = record(0).images["front"]
WRONG_RECORDS: dict[str, tuple[EpisodeRecord, str]] = {
    "no sentence": (replace(record(0), task=" "), "without a sentence"),
    "no view": (no_front(), "an episode without the view front was given"),
    "unknown column": (
        with_column(record(0), reward=np.zeros(4)),
        "has the column reward; this dataset has observation",
    ),
    "no fact": (replace(record(0), facts={}), "an episode without the fact metaworld_task"),
    "lengths": (with_column(record(0), action=np.zeros((5, 2))), "differ in length: .*action 5"),
    "no frames": (record(0, length=0), "without frames"),
    "width": (with_column(record(0), action=np.zeros((4, 3))), r"action has the shape \(4, 3\); it must be \(4, 2\)"),
    "dtype": (with_column(record(0), action=np.zeros((4, 2), int)), "action is of int64; it must be of float32"),
    "nan": (
        with_column(record(0), action=np.array([[0, 0], [0, np.nan], [0, 0], [0, 0]])),
        "action has a value that is not a finite float32, at frame 1",
    ),
    "too large": (with_column(record(0), action=np.full((4, 2), 1e300)), "not a finite float32, at frame 0"),
    "subtask": (with_column(record(0), subtask_index=np.array([0, 1, 2, 3])), "subtask_index is 3 at frame 3"),
    "truncated": (with_front(*GOOD[:3], GOOD[3][:-5]), "view front, frame 3: the png file has no end"),
    "kind of file": (
        with_front(*[b"GIF89a"] * 4),
        "view front, frame 0: the data is not a png file",
    ),
    "size": (
        with_front(*[encode(np.zeros((16, 12, 3), np.uint8), "jpeg").pixels.tobytes()] * 4),
        "view front, frame 0: 12x16 pixels; it must be 16x12",
    ),
    "fact's kind": (with_fact("success", 1), "the fact success is 1; it must be a bool"),
    "fact's value": (with_fact("score", float("nan")), "the fact score is nan; it must be a float64, and finite"),
}


@pytest.mark.parametrize("name", WRONG_RECORDS)
def test_an_episode_that_is_wrong_is_refused_and_changes_nothing(folder: Path, name: str) -> None:
    wrong, complaint = WRONG_RECORDS[name]
    with DatasetWriter(folder, SCHEMA) as writer:
        writer.add(records(1)[0])
        with pytest.raises(DataError, match=complaint):
            writer.add(wrong)
        writer.add(records(2)[1])
    assert_holds(opened(folder), 2)


def test_an_image_that_does_not_decode_is_refused(folder: Path) -> None:
    broken = bytearray(GOOD[0])
    broken[45] ^= 0xFF
    with DatasetWriter(folder, SCHEMA) as writer:
        with pytest.raises(DataError, match=r"view front, frame 0: .* does not decode"):
            writer.add(with_front(bytes(broken), *GOOD[1:]))
        assert writer.facts == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"facts": {"length": "int64"}}, "'length' cannot be the name of a fact"),
        ({"facts": {"seed": "int"}}, "the fact seed is of kind 'int'; choices: string, int64"),
        ({"subtasks": ()}, "has subtasks and the feature subtask_index, or neither"),
        ({"subtasks": ("reach", "reach")}, "two subtasks have the same name"),
        ({"units": {"length": "mm", "angle": "rad"}}, "the unit of length is 'mm'; choices: m"),
        ({"units": {"length": "m"}}, "must be for length, angle"),
        ({"features": {"index": Feature("int64", (1,))}}, "index is LeRobot's own"),
        ({"features": {"a/b": Feature("int64", (1,))}}, "'a/b' cannot be the name"),
        ({"features": {"front": Feature("image", (4, 4, 3))}}, "front is a image; pictures, and they alone"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        replace(SCHEMA, **change)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("int8", (1,)), "dtype is 'int8'; choices: float32"),
        (("float32", (2, 2)), "must be one number"),
        (("float32", (0,)), "at least 1"),
        (("image", (4, 4)), r"must be \(height, width, 3\)"),
        (("float32", (2,), ("x",)), "1 names were given to 2 values"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(arguments: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        Feature(*arguments)


def test_scalars_may_come_as_a_column_of_one(folder: Path) -> None:
    item = record(0)
    with DatasetWriter(folder, SCHEMA) as writer:
        writer.add(with_column(item, is_perturbed=item.columns["is_perturbed"][:, None]))
    np.testing.assert_array_equal(opened(folder).column("is_perturbed"), item.columns["is_perturbed"])


def test_a_schema_without_pictures_and_facts_will_do(folder: Path) -> None:
    schema = Schema("arm", 5, {"action": Feature("float32", (2,))})
    with DatasetWriter(folder, schema) as writer:
        writer.add(EpisodeRecord("go", {}, {"action": np.ones((3, 2), np.float32)}, {}))
    dataset = opened(folder)
    assert (dataset.schema, dataset.column("action").tolist()) == (schema, [[1, 1]] * 3)
    assert dataset.episodes[0].facts == {}
