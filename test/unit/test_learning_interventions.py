"""Recordings as something to learn from: what a human did in them, and how much it counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from learning_builders import TASKS, experience, tiny_schema, write_demonstrations
from PIL import Image
from recorded_bags import takeover_in_simulation, write_bag
from recorded_builders import Recording, aligned, at, small_contract

from vla_ros import cli
from vla_ros.contract_file import load_contract
from vla_ros.control.arbiter import Source
from vla_ros.data.reader import Dataset
from vla_ros.data.writer import DatasetWriter
from vla_ros.errors import LearningError
from vla_ros.learning.experience import chunks_at, joined
from vla_ros.learning.recorded.alignment import Plan
from vla_ros.learning.recorded.columns import record_of, schema_of
from vla_ros.learning.recorded.episodes import Harvest, episodes_of
from vla_ros.learning.recorded.spans import Outcome, Span
from vla_ros.learning.stacked import Stacked

pytest.importorskip("torch", reason="torch is not installed")

import torch
import training_program
from safetensors.torch import load_file

from vla_ros.learning.batches import BatchMaker
from vla_ros.learning.loading import Weights, load_experience, open_datasets
from vla_ros.learning.training import split
from vla_ros.model.preprocessing import Preprocessing
from vla_ros.policy.sentences import load_sentences

HOW = {"front": Preprocessing(8, Image.Resampling.BILINEAR, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}
EQUAL = Weights()
SENTENCE = load_sentences().usual("push-v3")


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def recorded(folder: Path, told: Mapping[str, Outcome], fps: int = 10) -> Path:
    """A dataset of an episode of 19 frames for each sentence; at the frames 5 to 8 a human is in command."""

    def source(stamp_ns: int) -> Source:
        return Source.TELEOP if at(0.5) <= stamp_ns < at(0.9) else Source.POLICY

    plan = Plan(small_contract(), fps)
    with DatasetWriter(folder, schema_of(plan)) as writer:
        for number, (sentence, outcome) in enumerate(told.items()):
            found = aligned(Recording(2.0, source).samples(), [Span(sentence, at(-1.0), outcome)], fps)
            for episode in episodes_of(found, fps, Harvest()):
                writer.add(record_of(episode, "bag", str(number)))
    return folder


def loaded(folder: Path, weights: Weights = EQUAL) -> Any:
    return load_experience(open_datasets([folder], ("front",)), HOW, weights)


def test_a_chunk_counts_as_much_as_the_frame_it_begins_at_and_ends_where_nothing_is_to_be_learned() -> None:
    data = experience([6], worth=[1.0, 3.0, 3.0, 0.0, 2.0, 2.0])
    assert chunks_at(data, np.arange(6), 3, 1).weights.tolist() == [
        [1, 1, 1],
        [3, 3, 0],
        [3, 0, 0],
        [0, 0, 0],
        [2, 2, 0],
        [2, 0, 0],
    ]


def test_a_humans_part_and_a_policys_part_are_weighed(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "data", {SENTENCE: "unknown", "wave": "success", "nod": "failure"})
    human = np.isin(np.arange(19), range(5, 9))
    data = loaded(folder, Weights(human=4.0, policy=0.5))
    worth = data.worth.reshape(3, 19)
    assert worth[0].tolist() == worth[1].tolist() == np.where(human, 4.0, 0.5).tolist()
    assert worth[2].tolist() == np.where(human, 4.0, 0.0).tolist()
    assert not loaded(folder, Weights(policy=0.0)).worth.reshape(3, 19)[:, ~human].any()
    assert data.tasks == ("push-v3", "wave", "nod")


def test_human_gated_only_what_a_human_began_is_learned(tmp_path: Path) -> None:
    data = loaded(recorded(tmp_path / "data", {"wave": "unknown", "wave ": "failure"}), Weights(policy=0.0))
    data = replace(data, tasks=("wave", "wave"))
    parts = split(data, share=0.03)
    assert sorted([*parts.training, *parts.held_out]) == [5, 6, 7, 8, 24, 25, 26, 27]
    assert chunks_at(data, np.array([6]), 5, 1).weights.tolist() == [[1, 1, 1, 0, 0]]


def test_nothing_begins_between_two_pictures(tmp_path: Path) -> None:
    data = loaded(recorded(tmp_path / "data", {"wave": "unknown"}, fps=20))
    data = joined([data, data])
    parts = split(data, share=0.03)
    assert set(np.concatenate([parts.training, parts.held_out]) % 39 % 2) == {0}
    assert chunks_at(data, np.array([0]), 4, 1).weights.tolist() == [[1, 1, 1, 1]]


def test_a_sentence_that_means_a_task_may_be_said_otherwise_and_any_other_only_so(tmp_path: Path) -> None:
    data = loaded(recorded(tmp_path / "data", {SENTENCE: "unknown", "wave at me": "unknown"}))
    phrasings = {BatchMaker._phrasings(_Maker(), task) for task in data.tasks}
    assert phrasings == {load_sentences().training("push-v3"), ("wave at me",)}


class _Maker(BatchMaker):
    def __init__(self) -> None:
        self._sentences = load_sentences()


def test_stacked_pictures_are_those_of_the_parts_in_order() -> None:
    parts = [np.random.default_rng(n).integers(0, 256, (n, 2, 2, 3), np.uint8) for n in (3, 1, 4)]
    frames = np.array([7, 0, 3, 2, 4, 0])
    stacked = Stacked(parts)
    assert len(stacked) == 8
    np.testing.assert_array_equal(stacked[frames], np.concatenate(parts)[frames])
    np.testing.assert_array_equal(stacked[frames[:1]], parts[2][3:])


RECIPE: Mapping[str, Any] = {
    "steps": 4,
    "batch_size": 4,
    "warmup_steps": 1,
    "alignment": 0.0,
    "checkpoint_steps": 2,
    "validation": {"every_steps": 4, "share": 0.1},
    "model": {
        "views": ["front", "wrist"],
        "width": 16,
        "heads": 2,
        "vision": {"backbone": "film_conv", "image_size": 32, "trainable_from": 0},
        "fusion": {"layers": 1},
        "decoder": {"kind": "regression", "horizon": 4, "dt_s": 0.05, "layers": 1, "max_prefix": 0},
        "places": 3,
    },
}


def recipe_file(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**RECIPE, **changes}), encoding="utf-8")
    return path


def weights_of(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "state" / "step-00000004" / "weights.safetensors")


def are_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two, of the simulated robot: a human lifts the hand while it opens a drawer."""
    folder = tmp_path_factory.mktemp("bags")
    contract = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
    return [
        str(write_bag(folder / f"bag{start}", takeover_in_simulation("drawer-open-v3", contract, 160, human)))
        for start, human in ((40, range(40, 90)), (60, range(60, 110)))
    ]


@pytest.fixture(scope="module")
def takeover(bags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of them, by one command."""
    folder = tmp_path_factory.mktemp("takeover") / "data"
    assert cli.main(["dataset", "from-bag", *bags, "--output", str(folder), "--rate", "20"]) == 0
    return folder


def test_a_takeover_is_learned_from_by_one_command(takeover: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path / "recipe.yaml", data=[str(takeover)], policy_weight=0.0, intervention_weight=2.0)
    assert cli.main(["train", str(recipe), "--output", str(tmp_path / "out"), "--threads", "1"]) == 0
    record = json.loads((tmp_path / "out" / "last" / "training.json").read_text(encoding="utf-8"))
    assert (record["step"], record["tasks"]) == (4, ["drawer-open-v3"])
    assert (record["recipe"]["intervention_weight"], record["recipe"]["policy_weight"]) == (2.0, 0.0)


def test_one_command_learns_from_bags_beside_the_recipes_own_data(bags: list[str], tmp_path: Path) -> None:
    demonstrations = write_demonstrations(tmp_path / "demonstrations", 4, schema=tiny_schema())
    recipe = recipe_file(tmp_path / "recipe.yaml", data=[str(demonstrations)], policy_weight=0.0)
    arguments = ["train", str(recipe), "--bags", *bags, "--output", str(tmp_path / "out"), "--threads", "1"]
    assert cli.main(arguments) == 0
    record = json.loads((tmp_path / "out" / "last" / "training.json").read_text(encoding="utf-8"))
    assert set(record["tasks"]) == {*TASKS, "drawer-open-v3"}
    assert record["recipe"]["data"] == [str(demonstrations), str(tmp_path / "out" / "recorded")]
    recorded = Dataset.open(tmp_path / "out" / "recorded")
    assert (recorded.fps, bool(recorded.column("is_intervention").any())) == (20, True)


def test_beside_demonstrations_the_weight_of_a_takeover_matters_and_the_same_weight_gives_the_same_network(
    takeover: Path, tmp_path: Path
) -> None:
    demonstrations = write_demonstrations(tmp_path / "demonstrations", 4, schema=tiny_schema())
    data = [str(demonstrations), str(takeover)]
    for name, weight in (("one", 1.0), ("again", 1.0), ("more", 5.0)):
        recipe = recipe_file(tmp_path / f"{name}.yaml", data=data, intervention_weight=weight, policy_weight=0.0)
        training_program.run(recipe, tmp_path / name)
    one, again, more = (weights_of(tmp_path / name) for name in ("one", "again", "more"))
    assert are_same(one, again)
    assert not are_same(one, more)


def test_what_cannot_be_learned_is_one_sentence(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "data", {"wave": "unknown"})
    with pytest.raises(LearningError, match="1 good episodes of 'wave' are too few to learn from"):
        split(loaded(folder), share=0.1)
    rollouts = {"every_steps": 4, "share": 0.1, "rollout_steps": 2}
    model = {**RECIPE["model"], "decoder": {**RECIPE["model"]["decoder"], "dt_s": 0.1}}
    recipe = recipe_file(tmp_path / "recipe.yaml", data=[str(folder)], validation=rollouts, model=model)
    with pytest.raises(LearningError, match="rollout_steps: the simulator knows none of 'wave'; choose 0"):
        training_program.run(recipe, tmp_path / "out")
    with pytest.raises(LearningError, match="has no view 'side'; it has front, wrist, top"):
        open_datasets([folder], ("side",))


def test_inspect_says_what_came_of_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded(tmp_path / "data", {"wave": "success", "nod": "failure", "bow": "unknown"})
    assert cli.main(["dataset", "inspect", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {task["name"]: task["successes"] for task in told["tasks"]} == {"wave": 1, "nod": 0, "bow": None}
    assert asdict(Dataset.open(folder).totals)["episodes"] == 3
