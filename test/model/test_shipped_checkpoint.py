"""The checkpoints that come with the package are what their records say."""

from __future__ import annotations

import json

import pytest

from vla_ros import cli
from vla_ros.learning.evaluation.performer import Performer
from vla_ros.learning.evaluation.subject import checkpoint_subject, trained_tasks
from vla_ros.learning.evaluation.suites import MT10, MT50, trials
from vla_ros.learning.evaluation.trials import Order
from vla_ros.learning.recipe import build_recipe, read_recipe
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import checkpoint_path, config_path

MOST_BYTES = 50e6


SHIPPED = {"mt10": MT10, "mt50": MT50}
EVALUATED = {"mt10": ("evaluation", "seen_phrasings", 20), "mt50": ("evaluation-metaworld-mt50", "metaworld_mt50", 10)}


@pytest.fixture(params=SHIPPED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_all_that_are_shipped_are_looked_at() -> None:
    assert {path.name for path in checkpoint_path("mt10").parent.iterdir()} == set(SHIPPED)


def test_it_is_small_and_made_by_the_recipe_that_ships(name: str) -> None:
    folder = checkpoint_path(name)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MOST_BYTES
    record = json.loads((folder / "training.json").read_text())
    assert record["command"] == f"vla_ros train {name}"
    assert build_recipe(record["recipe"], "training.json") == read_recipe(config_path(f"training/{name}"))
    assert set(trained_tasks(folder)) == set(SHIPPED[name])


def test_its_evaluation_is_of_these_very_weights(name: str) -> None:
    folder, (file, suite, episodes) = checkpoint_path(name), EVALUATED[name]
    evaluation = json.loads((folder / f"{file}.json").read_text())
    assert evaluation["subject"]["files"] == checkpoint_subject(folder).identity()["files"]
    assert evaluation["suites"][suite]["all"]["episodes"] == episodes * len(SHIPPED[name])


def test_it_can_be_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("model", "describe", name, "--threads", "1", "--runs", "1")) == 0
    assert "everything" in capsys.readouterr().out


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "task", "phrasing"),
    [
        ("mt10", "drawer-open-v3", "held_out"),
        ("mt10", "button-press-topdown-v3", "held_out"),
        ("mt50", "faucet-open-v3", "seen_phrasings"),
    ],
)
def test_it_does_a_task_from_pixels_by_words(name: str, task: str, phrasing: str) -> None:
    """Those of held_out are words that no training saw."""
    [trial] = trials(phrasing, [task], load_sentences(), 1)
    with Performer(checkpoint_subject(checkpoint_path(name))) as performer:
        outcome = performer.perform(Order(trial, horizon=400, inference_ticks=4))
    assert (outcome.success, outcome.stops, outcome.latches) == (True, 0, 0)
