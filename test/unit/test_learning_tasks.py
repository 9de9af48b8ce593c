"""What data teaches the tasks beside the chunk: of the arm, of the base, of both at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from learning_builders import _record, experience, tiny_schema, write_demonstrations

from vla_ros.contract_file import load_contract
from vla_ros.data.schema import Schema
from vla_ros.data.writer import DatasetWriter
from vla_ros.errors import LearningError
from vla_ros.learning.collection import facts_of, schema_of
from vla_ros.learning.collection_plan import Plan, takes_of
from vla_ros.learning.rates import at_one_rate, thinned
from vla_ros.learning.targets import joined_labels, labels_at, labels_of, no_labels
from vla_ros.policy.driving import PRIVILEGED_WIDTH, THINGS, goal_of, quaternion_of
from vla_ros.resources import config_path
from vla_ros.sim.objects import THINGS as ON_THE_TABLE
from vla_ros.types import ANGULAR_VELOCITY, FloatArray

pytest.importorskip("torch", reason="torch is not installed")

import torch
import training_program
from safetensors.torch import load_file

from vla_ros.data.reader import Dataset
from vla_ros.learning.logs import read_log
from vla_ros.learning.recipe import AugmentationConfig, build_recipe
from vla_ros.learning.task_targets import TargetMaker
from vla_ros.model.config import SIZES, VLAConfig
from vla_ros.model.multi_task import SELECTOR, Target

RED_BOX = THINGS.index("red box")
DRIVE = "drive-red-box"
FOUR: Any = ("manipulation", "grasping", "detection", "navigation")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def room(x_m: float, y_m: float, heading_rad: float) -> FloatArray:
    """A base there, and a red box of 17 cm at (1, 0)."""
    privileged = np.zeros(PRIVILEGED_WIDTH)
    privileged[:3] = x_m, y_m, heading_rad
    privileged[5 + 4 * RED_BOX : 9 + 4 * RED_BOX] = 1.0, 0.0, 0.17, 1.0
    return privileged


def base_schema() -> Schema:
    contract = load_contract(config_path("base_sim"))
    cameras = {"front": replace(contract.cameras["front"], width=32, height=32)}
    return schema_of(replace(contract, cameras=cameras), Plan({DRIVE: 1}), False)


def write_drives(folder: Path, episodes: int, frames: int = 10) -> Path:
    """Made-up drives: the box is in view in the first half of each."""

    def drive(columns: dict[str, Any]) -> None:
        for start in (3, 10):
            columns["observation.state"][:, start : start + 4] = quaternion_of(0.1)
        columns["observation.environment_state"] = np.tile(room(0.0, 0.0, 0.2), (frames, 1)).astype(np.float32)
        columns["label.visible"][: frames // 2, RED_BOX] = True

    return _write(folder, base_schema(), Plan({DRIVE: episodes}), frames, drive)


def write_grasps(folder: Path, episodes: int, frames: int = 10) -> Path:
    """Made-up pushes: there is a hold in the middle of each."""

    def grasp(columns: dict[str, Any]) -> None:
        columns["label.grasp_pose"][:] = (0.0, 0.6, 0.02, 0.0, 1.0, 0.0, 0.0)
        columns["label.has_grasp"][: frames // 2] = True

    return _write(folder, tiny_schema(("front",)), Plan({"push-v3": episodes}), frames, grasp)


def _write(folder: Path, schema: Schema, plan: Plan, frames: int, change: Callable[[dict[str, Any]], None]) -> Path:
    with DatasetWriter(folder, schema) as writer:
        for number, take in enumerate(takes_of(plan)):
            record = _record(number, frames, schema)
            columns = dict(record.columns)
            change(columns)
            writer.add(replace(record, columns=columns, facts={**facts_of(take), "success": True}))
    return folder


def with_labels(data: Any, **changes: Any) -> Any:
    return replace(data, labels=replace(no_labels(len(data)), **changes))


def network(*tasks: Any, classes: tuple[str, ...] = ()) -> VLAConfig:
    return replace(SIZES["tiny"], views=("front",), tasks=tasks, classes=classes)


def made(data: Any, config: VLAConfig, frames: list[int], **augmentation: Any) -> dict[str, Target]:
    maker, count = TargetMaker(data, config), len(frames)
    still = maker.still(count, AugmentationConfig(**{"shift_px": 0, **augmentation}))
    return maker.make(np.array(frames), {"front": torch.ones(count, dtype=torch.bool)}, still)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((0.0, 0.0, 0.0), (0.53, 0.0, 0.0)),
        ((0.0, 0.0, math.pi / 2), (0.0, -0.53, -math.pi / 2)),
        ((1.0, -1.0, 0.0), (0.0, 0.53, math.pi / 2)),
        ((0.6, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_a_goal_is_where_a_base_stands_before_the_thing_seen_from_itself(place: Any, expected: Any) -> None:
    assert goal_of(room(*place), RED_BOX) == pytest.approx(expected, abs=1e-9)


def test_an_arms_data_tells_of_grasps_and_things_and_a_bases_of_goals(tmp_path: Path) -> None:
    arm = Dataset.open(write_demonstrations(tmp_path / "arm", 2))
    labels = labels_of(arm, np.array(["push-v3"] * 10 + ["reach-v3"] * 10))
    assert labels.things == ON_THE_TABLE and labels.visible_known.all()
    assert not labels.goals_known.any() and not labels.grasps_known.any()
    assert set(labels.topics) == {"manipulation"}
    base = Dataset.open(write_drives(tmp_path / "base", 1))
    labels = labels_of(base, np.array([DRIVE] * 10))
    assert labels.goals_known.tolist() == [True] * 5 + [False] * 5, "known while the thing is in view"
    assert labels.goals[0] == pytest.approx(goal_of(room(0.0, 0.0, 0.2), RED_BOX), abs=1e-6)
    assert set(labels.topics) == {"navigation"}


def test_of_things_that_a_part_does_not_speak_of_nothing_is_known() -> None:
    one = replace(no_labels(1), things=("puck",), visible=np.array([[True]]), visible_known=np.array([[True]]))
    both = joined_labels([one, no_labels(2), replace(one, things=("drawer",))])
    assert both.things == ("puck", "drawer")
    assert both.visible_known.tolist() == [[True, False], [False, False], [False, False], [False, True]]
    assert labels_at(both, np.array([3])).visible.tolist() == [[False, True]]


def test_a_grasp_is_seen_from_the_commanded_pose_as_rows_are() -> None:
    data = experience([3])
    data.states[:, :3], data.states[:, 7:10] = (0.1, 0.6, 0.2), (0.0, 0.02, 0.0)
    data.states[:, 3:7] = (0.0, 1.0, 0.0, 0.0)
    grasps = np.tile(np.array([0.1, 0.7, 0.1, 0.0, 1.0, 0.0, 0.0], np.float32), (3, 1))
    data = with_labels(data, grasps=grasps, grasps_known=np.array([True, False, True]))
    target = made(data, network("manipulation", "grasping"), [0, 1])["grasping"]
    assert target.known.tolist() == [True, False]
    assert target.values[0].numpy() == pytest.approx([0.0, 0.08, -0.1, 0.0, 0.0, 0.0, 1.0], abs=1e-6)


def test_a_moved_picture_or_a_missing_one_teaches_nothing_of_what_is_where_in_it() -> None:
    known = np.ones((4, 1), bool)
    data = with_labels(
        experience([4]),
        things=("puck",),
        visible=known,
        visible_known=known,
        goals_known=known[:, 0],
        grasps_known=known[:, 0],
    )
    data.states[:, 6] = 1.0
    config = network(*FOUR, classes=("puck",))
    moved = made(data, config, [0, 1, 2, 3], shift_px=4)
    assert moved["detection"].known[:, 0].tolist() == [True, False, True, False]
    assert moved["navigation"].known.tolist() == [True, False, True, False]
    assert moved["grasping"].known.all(), "it is seen beside the tool"
    assert made(data, config, [0, 1, 2, 3])["detection"].known.all()
    hidden = {"front": torch.tensor([False, True, True, True])}
    masked = TargetMaker(data, config).make(np.arange(4), hidden, torch.ones(4, dtype=torch.bool))
    assert masked["navigation"].known.tolist() == [False, True, True, True]


def test_pictures_that_must_stay_stay_and_the_others_move_as_before() -> None:
    from vla_ros.learning.augmentation import shifted

    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    still = torch.tensor([True, False, True, False])
    free, held = (shifted(images, 3, torch.Generator().manual_seed(1), one) for one in (None, still))
    assert torch.equal(held[still], images[still])
    assert torch.equal(held[~still], free[~still])
    assert not torch.equal(free[still], images[still])


def test_the_selector_is_told_the_topic_or_manipulation_where_no_task_is_for_it() -> None:
    known = np.ones(4, bool)
    told = {"grasps_known": known, "goals_known": known, "visible_known": known[:, None], "things": ("puck",)}
    topics = np.array(["grasping", "navigation", "manipulation", ""])
    data = with_labels(experience([4]), **told, visible=known[:, None], topics=topics)
    data.states[:, 6] = 1.0
    every = made(data, network(*FOUR), [0, 1, 2, 3])[SELECTOR]
    assert every.values[:3].tolist() == [1, 3, 0]
    assert every.known.tolist() == [True, True, True, False]
    few = made(data, network("manipulation", "grasping"), [0, 1, 2])[SELECTOR]
    assert few.values.tolist() == [1, 0, 0]


def test_classes_that_the_data_has_no_labels_of_are_refused() -> None:
    data = with_labels(
        experience([1]), things=("puck",), visible=np.ones((1, 1), bool), visible_known=np.ones((1, 1), bool)
    )
    with pytest.raises(LearningError, match=r"model\.classes: the data has no labels of cup; it has puck"):
        TargetMaker(data, network("manipulation", "detection", classes=("puck", "cup")))


def test_tasks_that_the_data_tells_nothing_of_are_refused_with_those_that_it_tells_of() -> None:
    known = np.ones(1, bool)
    data = with_labels(experience([1]), things=("puck",), visible=known[:, None], visible_known=known[:, None])
    with pytest.raises(LearningError, match=r"tells nothing of grasping, navigation; it tells of manipulation, detect"):
        TargetMaker(data, network(*FOUR, classes=("puck",)))
    TargetMaker(data, network("manipulation", "detection", classes=("puck",)))


def test_what_is_told_of_the_front_view_needs_it() -> None:
    mapping = {"data": ["x"], "model": {"views": ["wrist"], "tasks": ["manipulation", "navigation"]}}
    with pytest.raises(LearningError, match=r"detection and navigation are told of the view front; add it"):
        build_recipe(mapping, "here")


def test_a_faster_recording_is_thinned_without_losing_the_way() -> None:
    velocities = np.arange(7)[:, None] * np.array([[0.1, 0.0, 0.0]])
    fast = experience([5, 2], velocities, pushed=[3], fps=20, worth=[1, 1, 1, 0, 1, 1, 1])
    slow = thinned(fast, 2)
    assert (slow.fps, len(slow), slow.episodes.tolist()) == (10, 4, [0, 0, 0, 1])
    assert slow.actions[:, 7] == pytest.approx([0.05, 0.25, 0.4, 0.55])
    assert not slow.actions[:, ANGULAR_VELOCITY].any()
    assert slow.is_pushed.tolist() == [False, True, False, False]
    assert slow.worth.tolist() == [1.0, 0.0, 1.0, 1.0]
    assert slow.actions[:, -1] == pytest.approx(fast.actions[[0, 2, 4, 5], -1])
    assert np.array_equal(slow.images["front"][np.array([1])], fast.images["front"][np.array([2])])
    assert [part.fps for part in at_one_rate([fast, slow])] == [10, 10]
    assert [part.fps for part in at_one_rate([fast, replace(slow, fps=15)])] == [20, 15]


def mixture(folder: Path) -> dict[str, Any]:
    """A recipe on an arm's data and a base's."""
    return {
        "data": [str(write_grasps(folder / "arm", 4)), str(write_drives(folder / "base", 4))],
        "steps": 3,
        "batch_size": 16,
        "warmup_steps": 1,
        "alignment": 0.0,
        "checkpoint_steps": 3,
        "validation": {"every_steps": 3, "share": 0.1},
        "model": {
            "views": ["front"],
            "width": 32,
            "heads": 2,
            "vision": {"backbone": "film_conv", "image_size": 32, "trainable_from": 0},
            "fusion": {"layers": 1},
            "decoder": {"kind": "regression", "horizon": 3, "dt_s": 0.1, "layers": 1, "max_prefix": 0},
            "tasks": list(FOUR),
            "classes": ["red box", "small object"],
        },
    }


@pytest.mark.timeout(600)
def test_a_mixture_teaches_each_task_what_it_knows_and_reports_each(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(mixture(tmp_path)), encoding="utf-8")
    training_program.run(path, tmp_path / "out")
    rows = read_log(tmp_path / "out" / "log.csv")
    names = ("action", "grasping", "detection", "navigation", "selector")
    told = {name: [float(row[name]) for row in rows if row[name]] for name in names}  # not every batch has all
    assert all(values and min(values) > 0.0 for values in told.values())
    weights = [float(row[f"{name}_weight"]) for row in rows for name in names[1:] if row[f"{name}_weight"]]
    assert min(weights) > 0.0 and set(weights) > {1.0, 2.0}, "as they begin"
    learned = load_file(tmp_path / "out" / "state" / "step-00000003" / "weights.safetensors")
    moved = [float(value.abs()) for name, value in learned.items() if ".log_variances." in name]
    assert len(moved) == 5 and min(moved) > 0.01, "far, in three steps at a rate of 5e-4"
    (validation,) = [row for row in rows if row["kind"] == "validation"]
    assert float(validation["navigation_position_error_m"]) > 0.0
    assert 0.0 < float(validation["grasping_angle_error_rad"]) <= math.pi
    assert 0.0 <= float(validation["selector_accuracy"]) <= 1.0
    record = json.loads((tmp_path / "out" / "last" / "training.json").read_text(encoding="utf-8"))
    held_out = record["held_out"]
    # One episode of each task is held out, the arm's thinned to the base's rate.
    samples = {name: numbers["samples"] for name, numbers in held_out.items()}
    assert samples == {"grasping": 3, "detection": 15, "navigation": 5, "selector": 15}
    assert set(held_out["detection"]["classes"]) == {"red box", "small object"}
    assert held_out["navigation"]["heading_error_rad"] <= math.pi
