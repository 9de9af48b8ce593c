"""The checkpoint that comes with the package is what its records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_ros.learning.evaluation.performer import Performer
from vla_ros.learning.evaluation.subject import Subject, checkpoint_subject, trained_tasks
from vla_ros.learning.evaluation.suites import MT10, trials
from vla_ros.learning.evaluation.trials import Order
from vla_ros.learning.recipe import build_recipe, read_recipe
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import checkpoint_path, config_path

MOST_BYTES = 50e6


@pytest.fixture(scope="module")
def folder() -> Path:
    return checkpoint_path("mt10")


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    return checkpoint_subject(folder)


def test_it_is_small_and_made_by_the_recipe_that_ships(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MOST_BYTES
    record = json.loads((folder / "training.json").read_text())
    assert record["command"] == "vla_ros train mt10"
    assert build_recipe(record["recipe"], "training.json") == read_recipe(config_path("training/mt10"))
    assert set(trained_tasks(folder)) == set(MT10)


def test_its_evaluation_is_of_these_very_weights(folder: Path, subject: Subject) -> None:
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["subject"]["files"] == subject.identity()["files"]
    assert evaluation["suites"]["seen_phrasings"]["all"]["episodes"] == 20 * len(MT10)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("task", ["drawer-open-v3", "button-press-topdown-v3"])
def test_it_does_a_task_from_pixels_by_words_that_it_has_not_learned_from(subject: Subject, task: str) -> None:
    [trial] = trials("held_out", [task], load_sentences(), 1)
    with Performer(subject) as performer:
        outcome = performer.perform(Order(trial, horizon=400, inference_ticks=4))
    assert (outcome.success, outcome.stops, outcome.latches) == (True, 0, 0)
