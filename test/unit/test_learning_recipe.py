"""What users write to train and to collect: strictly read, every fault named by its key and with the choices."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from vla_ros.errors import LearningError, ModelError, VlaRosError
from vla_ros.learning.collection import in_rows
from vla_ros.learning.collection_plan import Plan, read_plan, takes_of
from vla_ros.learning.recipe import Recipe, build_recipe, read_recipe
from vla_ros.policy.driving import thing_of
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import config_path
from vla_ros.sim.room import draw_room

MODEL = {"views": ["front"], "vision": {"backbone": "film_conv", "image_size": 32, "trainable_from": 0}}
RECIPE = {"data": ["data/x"], "model": MODEL}


def recipe(**changes: object) -> Recipe:
    return build_recipe({**RECIPE, **changes}, "recipe.yaml")


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(config_path("training/mt10").parent.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_that_ship_are_read(path: Path) -> None:
    assert read_recipe(path).steps > 0


@pytest.mark.parametrize("path", sorted(config_path("collection/mt10").parent.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_plans_that_ship_name_no_take_twice(path: Path) -> None:
    takes = takes_of(read_plan(path))
    assert max(Counter((t.task, t.world, t.variation, t.seed, t.scene) for t in takes).values()) == 1


def test_the_second_plan_shows_no_world_that_the_first_one_does() -> None:
    first, more = (takes_of(read_plan(config_path(f"collection/{name}"))) for name in ("mt10", "mt10-more"))
    assert not {(t.world, t.variation) for t in first} & {(t.world, t.variation) for t in more}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stepps": 5}, r"stepps.*did you mean 'steps'|stepps.*steps"),
        ({"steps": 0}, r"\n  steps: .*must be at least 1"),
        ({"steps": "many"}, r"\n  steps: is 'many'; must be"),
        ({"batch_size": -1}, r"\n  batch_size: .*must be at least 1"),
        ({"ema": 1.0}, r"\n  ema: .*must be at least 0 and less than 1"),
        ({"weight_decay": -0.1}, r"\n  weight_decay: .*must be at least 0"),
        ({"augmentation": {"shift_px": -2}}, r"\n  augmentation\.shift_px: .*must be at least 0"),
        ({"augmentation": {"blur": 2}}, r"augmentation\.blur.*shift_px"),
        ({"validation": {"every_steps": 0}}, r"\n  validation\.every_steps: .*must be at least 1"),
        ({"model": {**MODEL, "vision": {"backbone": "vgg"}}}, r"model\.vision\.backbone: .*'vgg'.*film_conv"),
        ({"data": []}, "data: name at least one dataset"),
        ({"curriculum": {"levels": [0.3, 0.6]}}, "curriculum.levels: they must rise and end with 1"),
        ({"curriculum": {"levels": [0.6, 0.3, 1.0]}}, "curriculum.levels: they must rise and end with 1"),
        ({"curriculum": {"levels": [0.3, 1.0]}}, "curriculum.thresholds: one is needed for each level but the last"),
        ({"warmup_steps": 4000}, "warmup_steps: 4000 leave nothing of 4000 steps"),
        ({"model": {**MODEL, "places": 2}}, r"model\.places: 2; .* 0 or 3"),
    ],
)
def test_a_wrong_recipe_names_the_key_and_the_choices(changes: dict[str, object], said: str) -> None:
    with pytest.raises(LearningError, match=said) as raised:
        recipe(**changes)
    assert str(raised.value).startswith("recipe.yaml")


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(LearningError) as raised:
        recipe(steps=0, ema=2.0, model={**MODEL, "width": 0})
    assert [line.split(":")[0].strip() for line in str(raised.value).splitlines()[1:]] == [
        "model.width",
        "steps",
        "ema",
    ]


def test_a_network_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ModelError, match=r"recipe\.yaml.*\n  heads: 5 do not divide a width of 256"):
        recipe(model={**MODEL, "heads": 5})


def test_a_recipe_without_a_network_is_refused() -> None:
    with pytest.raises(LearningError, match=r"\n  model: is missing"):
        build_recipe({"data": ["data/x"]}, "recipe.yaml")


@pytest.mark.parametrize("read", [read_recipe, read_plan])
@pytest.mark.parametrize("text", ["- a list", "steps: [", "steps: 1\nsteps: 2\n", "!!python/object:os.system {}"])
def test_what_is_no_mapping_is_refused_in_words(read: object, text: str, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=r"plan\.yaml"):
        read(plan_file(tmp_path, text))  # type: ignore[operator]
    with pytest.raises(LearningError, match=r"none\.yaml"):
        read(tmp_path / "none.yaml")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"tasks": {"fold-laundry": 3}}, r"tasks: .*fold-laundry.*choose .*push-v3"),
        ({"tasks": {"push-v3": -1}}, r"\n  tasks\.push-v3: .*must be at least 0"),
        ({"tasks": {"push-v3": 3}, "varied": ["fog"]}, r"\n  varied.*'fog'.*light"),
        ({"task": {"push-v3": 3}}, r"task.*tasks"),
        ({"tasks": {"push-v3": 3}, "noise": {"rate_per_s": -1.0}}, r"\n  noise\.rate_per_s: .*must be at least 0"),
        ({"tasks": {"push-v3": 3}, "noise": {"gripper_share": 2.0}}, r"\n  noise\.gripper_share: .*0 to 1"),
        ({"tasks": {"push-v3": 3}, "noise": {"duration_s": [0.3, 0.1]}}, r"noise\.duration_s: .*must not fall"),
        ({"half_open": {"push-v3": 3}}, r"half_open: 'push-v3' has no opposite; choose one of drawer-open-v3"),
        ({"redirected": {"push-v3": 3}}, r"redirected: 'push-v3' is not a way to drive; choose one of drive-red-box"),
        ({}, "tasks: name at least one"),
        ({"tasks": {"push-v3": 0}}, "tasks: name at least one"),
    ],
)
def test_a_wrong_plan_names_the_key_and_the_choices(plan: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(VlaRosError, match=said):
        read_plan(plan_file(tmp_path, yaml.safe_dump(plan)))


def test_tasks_take_turns_and_each_episode_is_another(tmp_path: Path) -> None:
    plan = read_plan(plan_file(tmp_path, "tasks: {push-v3: 3, reach-v3: 2}\nvaried: [light]\nseed: 4\n"))
    takes = takes_of(plan)
    assert [take.task for take in takes] == ["push-v3", "reach-v3"] * 2 + ["push-v3"]
    pushes = [take for take in takes if take.task == "push-v3"]
    assert [str(take.variation) for take in pushes] == ["train:0", "train:1", "train:2"]
    assert len({take.seed for take in pushes}) == len({take.scene.seed for take in pushes}) == 3
    assert all(take.scene.varied == ("light",) and take.scene.opening is None for take in takes)


def test_a_world_is_used_several_times_before_the_next_one_where_there_are_too_many_to_keep_all() -> None:
    many = takes_of(Plan(dict.fromkeys(load_sentences().phrases, 12)))
    rows = in_rows(many, lambda take: take.world)
    assert sorted(rows, key=str) == sorted(many, key=str)
    worlds = [take.world for take in rows]
    changes = sum(one != other for one, other in pairwise(worlds))
    assert changes == 2 * len(set(worlds)) - 1  # ten of each, then two of each
    few = takes_of(Plan({"push-v3": 3, "reach-v3": 2}))
    assert in_rows(few, lambda take: take.world) == few


def test_half_open_episodes_are_in_both_worlds_in_equal_parts_and_hide_the_goal(tmp_path: Path) -> None:
    takes = takes_of(read_plan(plan_file(tmp_path, "half_open: {drawer-open-v3: 20, drawer-close-v3: 20}")))
    assert Counter((take.task, take.world) for take in takes) == {
        (task, world): 10
        for task in ("drawer-open-v3", "drawer-close-v3")
        for world in ("drawer-open-v3", "drawer-close-v3")
    }
    assert all(not take.scene.shows_goal and 0.35 <= take.scene.opening <= 0.65 for take in takes)


def test_redirected_episodes_are_in_the_rooms_of_plain_ones_and_of_other_things_there(tmp_path: Path) -> None:
    text = "contract: base_sim\ntasks: {drive-red-box: 20}\nredirected: {drive-red-box: 20}\n"
    takes = takes_of(read_plan(plan_file(tmp_path, text)))
    plain, redirected = (
        [take for take in takes if (take.task == take.world) is is_plain] for is_plain in (True, False)
    )
    assert [take.variation for take in redirected] == [take.variation for take in plain]
    assert {take.world for take in redirected} == {"drive-red-box"}
    assert all(thing_of(take.task) in draw_room(take.world, take.variation).things for take in redirected)
    assert len({take.task for take in redirected}) > 5
