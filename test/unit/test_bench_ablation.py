"""The ablation: its plan, what it calls a difference, and a whole run of it in small."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from learning_builders import write_demonstrations
from tqdm import tqdm

from vla_ros.errors import LearningError, ModelError

pytest.importorskip("torch", reason="torch is not installed")

from bench import ablation
from bench.ablation import plain, runs
from bench.ablation.data import require_whole
from bench.ablation.plan import PLAN, merged, read_plan, recipe_of, selected
from bench.ablation.progress import STEPS_PER_EPISODE, CalledOff, Progress
from bench.ablation.report import Results, draw, markdown, numbers
from bench.ablation.runs import Refused, Training, tried
from bench.ablation.statistics import difference
from vla_ros.learning.evaluation.trials import Key
from vla_ros.learning.recipe import build_recipe, read_recipe
from vla_ros.resources import checkpoint_path, config_path
from vla_ros.strict_yaml import read_mapping

ROOT = Path(__file__).parents[2]
SMALL = {
    "recipe": "recipe.yaml",
    "tasks": ["reach-v3"],
    "seeds": [0],
    "episodes": 2,
    "variants": {"full": {}, "less": {"recipe": {"model": {"fusion": {"meeting": "mean"}}}}},
    "parts": {"attention": ["full", "less"]},
}


def keys(task: str, count: int) -> list[Key]:
    return [("seen_phrasings", task, task, f"test:{index}", "go") for index in range(count)]


def solved(chance: float, seed: int, worlds: int = 40) -> dict[Key, bool]:
    rng = np.random.default_rng(seed)
    return {key: bool(rng.random() < chance) for task in ("a", "b") for key in keys(task, worlds)}


def plan_file(folder: Path, **changes: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8")
    return path


def refusal(recipe: dict[str, Any]) -> str:
    """Empty where there is none."""
    try:
        build_recipe(recipe, "here")
    except (LearningError, ModelError) as error:
        return str(error)
    return ""


def test_a_part_that_helps_earns_its_place_and_one_that_harms_does_not() -> None:
    good, bad = ({seed: solved(chance, 10 * i + seed) for seed in (0, 1)} for i, chance in ((1, 0.9), (2, 0.4)))
    helps, harms = difference(good, bad), difference(bad, good)
    assert helps is not None and harms is not None
    assert (helps.verdict, harms.verdict) == ("earns its place", "harmful")
    assert helps.pairs == 160 and helps.mean == pytest.approx((helps.only_with - helps.only_without) / 160)
    assert helps.low < helps.mean < helps.high
    assert (harms.low, harms.high) == pytest.approx((-helps.high, -helps.low), abs=0.02)


def test_what_is_no_different_is_undecided() -> None:
    same = {0: solved(0.5, 0)}
    nothing = difference(same, same)
    assert nothing is not None and (nothing.low, nothing.high, nothing.verdict) == (0.0, 0.0, "undecided")


def test_two_seeds_that_contradict_each_other_decide_nothing() -> None:
    """Forty worlds of each seed are sure of themselves; only the seeds' spread says that nobody knows."""
    all_, none = dict.fromkeys(keys("a", 40), True), dict.fromkeys(keys("a", 40), False)
    found = difference({0: all_, 1: none}, {0: none, 1: all_})
    assert found is not None and found.mean == 0.0 and found.low <= -0.9 and found.high >= 0.9


def test_a_difference_covers_the_truth_about_as_often_as_it_says() -> None:
    """Worlds and seeds of random hardness; the part itself makes no difference."""
    rng, missed, tries = np.random.default_rng(0), 0, 60
    for _ in range(tries):
        hardness = rng.random(30)
        runs = [
            {seed: dict(zip(keys("a", 30), (rng.random(30) < hardness).tolist(), strict=True)) for seed in (0, 1)}
            for _ in range(2)
        ]
        found = difference(*runs)
        assert found is not None
        missed += not found.low <= 0.0 <= found.high
    assert missed <= 0.2 * tries


def test_only_worlds_that_both_have_tried_are_paired() -> None:
    some = {0: dict.fromkeys(keys("a", 3), True)}
    found = difference(some, {0: dict.fromkeys(keys("a", 2), False), 1: {}})
    assert found is not None and found.pairs == 2
    assert difference(some, {1: some[0]}) is None


def test_the_plan_that_ships_names_networks_that_can_be_built() -> None:
    """What this version refuses to train, it refuses in words."""
    plan, base = read_plan(PLAN), read_mapping(config_path("training/ablation"))
    refused = {name: why for name in plan.trainings if (why := refusal(merged(base, plan.variants[name].recipe)))}
    assert refused == {}
    assert set(plan.tasks) == set(read_mapping(config_path("collection/ablation"))["tasks"])


def test_a_memory_is_tried_where_one_is_needed_with_it_and_without() -> None:
    plan, base = read_plan(PLAN), read_mapping(config_path("training/ablation"))
    for part in ("memory", "what was just seen in the memory"):
        assert {plan.tasks_of(variant) for variant in plan.parts[part]} == {("delayed-reach",)}
    having, lacking = (recipe_of(plan, base, plan.trained_as(name)) for name in plan.parts["memory"])
    assert having.pop("model") == {**lacking.pop("model"), "memory": "external"}
    assert having == lacking and having["data"] == ["data/delayed-reach"]
    assert plan.all_tasks == (*plan.tasks, "delayed-reach")


def test_a_part_brings_what_it_is_compared_with() -> None:
    plan = read_plan(PLAN)
    one = selected(plan, ["refiner"])
    assert set(one.parts) == {"refiner"} and set(one.variants) == {"full", "refined"}
    assert one.trainings == ("full",)
    of_variant = selected(plan, ["lite0 tuned"])
    assert set(of_variant.variants) == {"lite0", "lite0 tuned"}
    assert selected(plan, []) == plan
    with pytest.raises(LearningError, match="'wings' is nothing to ablate; choose from parts: multi-view fusion"):
        selected(plan, ["wings"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": {"wings": ["full", "flightless"]}}, "parts.wings: there is no variant 'flightless'; choose from"),
        ({"variants": {"full": {}, "less": {"of": "none"}}}, "variants.less.of: 'none' is no variant with a training"),
        (
            {"variants": {"full": {}, "less": {"of": "full", "recipe": {"steps": 1}}}},
            "it shares the training of 'full': leave out recipe and tasks, or of",
        ),
        (
            {"variants": {"full": {}, "less": {"tasks": ["push-v3"]}}},
            "parts.attention: 'full' and 'less' are tried at different tasks",
        ),
        ({"seeds": []}, "seeds, tasks, parts: name at least one of each"),
        ({"episode": 3}, "episode: unknown key, did you mean episodes"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=said):
        read_plan(plan_file(tmp_path, **changes))


def test_changes_are_merged_key_by_key_and_leave_the_recipe_alone() -> None:
    base = {"model": {"width": 64, "views": ["front"]}, "steps": 4}
    assert merged(base, {"model": {"views": ["wrist"]}}) == {"model": {"width": 64, "views": ["wrist"]}, "steps": 4}
    assert base["model"] == {"width": 64, "views": ["front"]}


def test_a_recipe_as_plain_types_is_the_same_and_may_be_short() -> None:
    recipe = read_recipe(config_path("training/ablation"))
    assert build_recipe(plain(recipe), "here") == recipe
    short = build_recipe(plain(recipe, 3), "here")
    assert (short.steps, short.warmup_steps, short.checkpoint_steps, short.validation.every_steps) == (3, 1, 3, 3)


def test_a_training_has_a_folder_for_all_that_it_depends_on(tmp_path: Path) -> None:
    data = [str(write_demonstrations(tmp_path / name, count)) for name, count in (("data", 2), ("more", 3))]
    plan, base = read_plan(plan_file(tmp_path)), {"steps": 4, "model": {}, "data": data[:1]}
    one = Training.of(plan, base, "full", 0, tmp_path)
    assert one == Training.of(plan, dict(base), "full", 0, tmp_path)
    others = [
        Training.of(plan, base, "full", 1, tmp_path),
        Training.of(plan, base, "less", 0, tmp_path),
        Training.of(plan, {**base, "steps": 5}, "full", 0, tmp_path),
    ]
    assert len({training.folder for training in (one, *others)}) == 4
    shutil.rmtree(data[0])
    Path(data[1]).rename(data[0])
    grown = Training.of(plan, base, "full", 0, tmp_path)
    assert grown.recipe == one.recipe and grown.folder != one.folder, "of the same name, with more in it"
    (one.folder / "state" / "step-00000003").mkdir(parents=True)
    assert (one.is_done, one.steps_done) == (False, 3)


def test_a_dataset_that_is_not_whole_is_refused_with_the_command_that_finishes_it(tmp_path: Path) -> None:
    half = write_demonstrations(tmp_path / "two", 2)
    with pytest.raises(LearningError, match=rf"two has 2 of 120 episodes; .*: vla_ros collect two --output {half}"):
        require_whole([str(half)])
    require_whole([str(half.rename(tmp_path / "mine"))])  # no plan says how many these should be
    with pytest.raises(LearningError, match=r"data/nothing has no episode; .*: vla_ros collect nothing$"):
        require_whole(["data/nothing"])


def test_what_a_policy_does_not_take_is_refused_and_what_goes_wrong_later_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "last").symlink_to(checkpoint_path("mt10"))
    variants = {"full": {}, "less": {"of": "full", "options": {"candidates": "4"}}}
    plan, training = read_plan(plan_file(tmp_path, variants=variants)), Training({}, tmp_path)
    with pytest.raises(Refused, match="for networks that foresee; this one's reasoning is none"):
        tried(plan, "less", training, lambda _: None)

    def killed(*_: object) -> None:
        raise LearningError("a worker was killed by signal 9")

    monkeypatch.setattr(runs, "run_trials", killed)
    with pytest.raises(LearningError, match="killed by signal 9"):
        tried(plan, "full", training, lambda _: None)


def test_the_table_says_what_was_refused_and_what_was_not_measured(tmp_path: Path) -> None:
    plan = read_plan(plan_file(tmp_path))
    results = Results(plan, 4, {"full": {0: solved(0.5, 0)}}, {"less": "training shows single frames"})
    text = markdown(results)
    assert "| attention | full: " in text and "| refused |" in text
    assert "- `less` was refused: training shows single frames" in text
    measured = replace(results, solved={"full": {0: solved(0.9, 0)}, "less": {0: solved(0.1, 1)}}, refused={})
    assert "earns its place" in markdown(measured)
    assert numbers(measured)["parts"]["attention"]["verdict"] == "earns its place"
    draw(measured, tmp_path / "all.png")
    draw(results, tmp_path / "none.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_whoever_goes_on_after_all_was_called_off_is_told_so() -> None:
    with tqdm(total=100, file=io.StringIO()) as bar:
        progress = Progress(bar)
        progress.say("trying")
        progress(3)
        progress.of_episodes(2)
        assert bar.n == 3 + 2 * STEPS_PER_EPISODE
        progress.call_off()
        with pytest.raises(CalledOff):
            progress(0)


def test_a_training_that_is_called_off_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sleeps instead of learning."""
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(
        f"#!{sys.executable}\nimport os, time\nopen('{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    pid_file = tmp_path / "pid"

    def advance(_: float) -> None:
        if pid_file.is_file() and pid_file.read_text(encoding="utf-8"):
            raise CalledOff

    with pytest.raises(CalledOff):
        Training({"steps": 3}, tmp_path / "training").run(1, advance)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text(encoding="utf-8")), 0)


def test_the_failure_of_one_training_ends_the_others_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one of two never ends by itself."""
    begun = threading.Event()

    def run(training: Training, threads: int, advance: Callable[[float], None]) -> None:
        if training.folder.name.startswith("less"):
            assert begun.wait(30.0)
            raise LearningError("no memory is left")
        while True:
            begun.set()
            advance(0.0)
            time.sleep(0.01)

    monkeypatch.setattr(Training, "run", run)
    plan = read_plan(plan_file(tmp_path, seeds=[0, 1]))
    data = str(write_demonstrations(tmp_path / "data", 2))
    with pytest.raises(LearningError, match="no memory is left"):
        ablation._measured(plan, {"steps": 4, "model": {}, "data": [data]}, tmp_path, workers=2)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_small_ablation_is_measured_and_not_measured_again(tmp_path: Path) -> None:
    base = plain(read_recipe(config_path("training/ablation")), 2)
    model = merged(base["model"], {"width": 32, "heads": 2, "tasks": [], "classes": [], "reasoning": "none"})
    model = merged(model, {"subtasks": [], "views": ["front"], "vision": {"image_size": 32}})
    data = write_demonstrations(tmp_path / "data", 4)
    recipe = {**base, "data": [str(data)], "batch_size": 8, "model": model}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    path = plan_file(tmp_path, recipe=str(tmp_path / "recipe.yaml"), episodes=1)
    command = [sys.executable, "-m", "bench", "ablation", "--plan", str(path), "--output", str(tmp_path / "out")]
    done = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [one.returncode for one in done] == [0, 0], done[0].stdout + done[0].stderr
    assert "| attention | full: " in done[0].stdout
    record = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))
    assert record["numbers"]["parts"]["attention"]["pairs"] == 1
    logs = [path.stat().st_mtime_ns for path in (tmp_path / "out" / "ablation").glob("*/train.log")]
    assert len(logs) == 2
    trials = [path.read_text().splitlines() for path in (tmp_path / "out" / "ablation").glob("*/trials/*.jsonl")]
    assert [len(lines) for lines in trials] == [2, 2]
