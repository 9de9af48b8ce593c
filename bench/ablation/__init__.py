"""Whether each part of the network earns its place: the same training and the same worlds, with it and without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.ablation.data import require_whole
from bench.ablation.plan import PLAN, Plan, read_plan, recipe_of, selected
from bench.ablation.report import Results, draw, markdown, numbers
from bench.ablation.runs import Refused, Training, tried
from bench.options import Options
from bench.report import Bar, conclude, write_text
from vla_ros.learning.evaluation.trials import Key
from vla_ros.learning.recipe import Recipe, read_recipe
from vla_ros.resources import named_file

_STEPS_PER_EPISODE = 5  # as long as an episode takes, roughly: the bar learns the rest


def run(options: Options) -> bool:
    """Train and try what is missing, print the table, and return whether everything was measured."""
    plan = selected(read_plan(options.plan or PLAN), options.only)
    if options.episodes is not None:
        plan = replace(plan, episodes=options.episodes)
    base = plain(read_recipe(named_file(plan.recipe, "training")), options.steps)
    require_whole(folder for name in plan.trainings for folder in recipe_of(plan, base, name)["data"])
    root = options.output / "ablation"
    if options.fresh:
        shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    results = _measured(plan, base, root)
    text = markdown(results)
    write_text(options.output / "ablation.md", text)
    draw(results, options.output / "ablation.png")
    print(text, flush=True)
    done = sum(results.difference_of(part) is not None for part in plan.parts)
    bar = Bar("parts that were measured", done, len(plan.parts), "", at_least=True)
    return conclude(options.output, "ablation", numbers(results), [bar])


def plain(recipe: Recipe, steps: int | None = None) -> dict[str, Any]:
    """A recipe as its file would have it, every key told. steps: so few that a warm-up, a check and a state fit in."""
    if steps is not None:
        every = min(steps, recipe.checkpoint_steps)
        validation = replace(recipe.validation, every_steps=every)
        warmup_steps = min(recipe.warmup_steps, steps // 2)
        recipe = replace(recipe, steps=steps, warmup_steps=warmup_steps, checkpoint_steps=every, validation=validation)
    mapping: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return mapping


def _measured(plan: Plan, base: Mapping[str, Any], root: Path) -> Results:
    """Seed by seed, so that a run that is cut short has compared all parts at some."""
    refused: dict[str, str] = {}
    solved: dict[str, dict[int, dict[Key, bool]]] = {}
    trainings = {
        (name, seed): Training.of(plan, base, name, seed, root) for seed in plan.seeds for name in plan.trainings
    }
    with _bar(plan, trainings) as bar:
        for (name, seed), training in trainings.items():
            mine = [variant for variant in plan.variants if plan.trained_as(variant) == name]
            for variant, found in _one(plan, mine, training, refused, bar, f"seed {seed}"):
                solved.setdefault(variant, {})[seed] = found
    return Results(plan, base["steps"], solved, refused)


def _one(
    plan: Plan, variants: list[str], training: Training, refused: dict[str, str], bar: Any, seed: str
) -> Iterator[tuple[str, dict[Key, bool]]]:
    """Train once, and try all variants that share it. Those that cannot be are noted, and left out from then on."""
    if all(variant in refused for variant in variants):
        return
    try:
        bar.set_description(f"training {training.folder.name}")
        training.run(bar.update)
    except Refused as error:
        refused.update(dict.fromkeys(variants, str(error)))
        return
    for variant in variants:
        bar.set_description(f"trying {variant}, {seed}")
        try:
            yield variant, tried(plan, variant, training, partial(_advance_episodes, bar))
        except Refused as error:
            refused[variant] = str(error)


@contextmanager
def _bar(plan: Plan, trainings: Mapping[tuple[str, int], Training]) -> Iterator[Any]:
    """Over steps of training; an episode counts as some."""
    steps = sum(training.steps for training in trainings.values())
    worlds = sum(len(plan.tasks_of(variant)) for variant in plan.variants)
    episodes = plan.episodes * worlds * len(plan.seeds)
    print(
        f"ablation: {len(plan.parts)} parts; {len(trainings)} trainings of {steps} steps in all, {episodes} episodes",
        flush=True,
    )
    done = sum(training.steps_done for training in trainings.values())
    with tqdm(total=steps + _STEPS_PER_EPISODE * episodes, initial=done, unit="step", smoothing=0.05) as bar:
        yield bar


def _advance_episodes(bar: Any, count: float) -> None:
    bar.update(_STEPS_PER_EPISODE * count)
