"""Whether each part of the network earns its place: the same training and the same worlds, with it and without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.ablation.data import require_whole
from bench.ablation.plan import PLAN, Plan, read_plan, recipe_of, selected
from bench.ablation.progress import STEPS_PER_EPISODE, Progress
from bench.ablation.report import Results, draw, markdown, numbers
from bench.ablation.runs import Refused, Training, tried
from bench.options import Options
from bench.report import Bar, conclude, write_text
from vla_ros.learning.collection import default_workers
from vla_ros.learning.evaluation.trials import Key
from vla_ros.learning.recipe import Recipe, read_recipe
from vla_ros.resources import named_file


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
    results = _measured(plan, base, root, options.workers or usual_workers())
    text = markdown(results)
    write_text(options.output / "ablation.md", text)
    draw(results, options.output / "ablation.png")
    print(text, flush=True)
    done = sum(results.difference_of(part) is not None for part in plan.parts)
    bar = Bar("parts that were measured", done, len(plan.parts), "", at_least=True)
    return conclude(options.output, "ablation", numbers(results), [bar])


def usual_workers() -> int:
    """Of trainings: a network this small is trained by two threads only 1.4 times as fast as by one, so that each core
    had better have one of its own; one GPU has one.
    """
    import torch

    return 1 if torch.cuda.is_available() else default_workers()


def plain(recipe: Recipe, steps: int | None = None) -> dict[str, Any]:
    """A recipe as its file would have it, every key told. steps: so few that a warm-up, a check and a state fit in."""
    if steps is not None:
        every = min(steps, recipe.checkpoint_steps)
        validation = replace(recipe.validation, every_steps=every)
        warmup_steps = min(recipe.warmup_steps, steps // 2)
        recipe = replace(recipe, steps=steps, warmup_steps=warmup_steps, checkpoint_steps=every, validation=validation)
    mapping: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return mapping


def _measured(plan: Plan, base: Mapping[str, Any], root: Path, workers: int) -> Results:
    """Seed by seed, so that a run that is cut short has compared all parts at some. workers: trainings at once."""
    solved: dict[str, dict[int, dict[Key, bool]]] = {}
    trainings = {
        (name, seed): Training.of(plan, base, name, seed, root) for seed in plan.seeds for name in plan.trainings
    }
    with _progress(plan, trainings) as progress, _side_by_side(workers, progress) as pool:
        doing = _Doing(plan, max(1, default_workers() // workers), progress)
        jobs = {pool.submit(doing.one, training, name, seed): seed for (name, seed), training in trainings.items()}
        for job in as_completed(jobs):  # the first one that fails is heard of at once
            for variant, found in job.result().items():
                solved.setdefault(variant, {})[jobs[job]] = found
    return Results(plan, base["steps"], solved, doing.refused)


@dataclass(frozen=True, eq=False)
class _Doing:
    """What several threads are at. threads: of each training; refused: variant -> why."""

    plan: Plan
    threads: int
    progress: Progress
    refused: dict[str, str] = field(default_factory=dict)

    def one(self, training: Training, name: str, seed: int) -> dict[str, dict[Key, bool]]:
        """Train once, and try all variants that share it. Those that cannot be are noted, and left out from then on."""
        variants = [variant for variant in self.plan.variants if self.plan.trained_as(variant) == name]
        found: dict[str, dict[Key, bool]] = {}
        if all(variant in self.refused for variant in variants):
            return found
        try:
            self.progress.say(f"training {training.folder.name}")
            training.run(self.threads, self.progress)
        except Refused as error:
            self.refused.update(dict.fromkeys(variants, str(error)))
            return found
        for variant in variants:
            self.progress.say(f"trying {variant}, seed {seed}")
            try:
                found[variant] = tried(self.plan, variant, training, self.progress.of_episodes)
            except Refused as error:
                self.refused[variant] = str(error)
        return found


@contextmanager
def _side_by_side(workers: int, progress: Progress) -> Iterator[ThreadPoolExecutor]:
    """So many at once. Whatever ends this ends them too, Ctrl-C and the failure of one."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        progress.call_off()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _progress(plan: Plan, trainings: Mapping[tuple[str, int], Training]) -> Iterator[Progress]:
    """Over steps of training; an episode counts as some."""
    steps = sum(training.steps for training in trainings.values())
    worlds = sum(len(plan.tasks_of(variant)) for variant in plan.variants)
    episodes = plan.episodes * worlds * len(plan.seeds)
    print(
        f"ablation: {len(plan.parts)} parts; {len(trainings)} trainings of {steps} steps in all, {episodes} episodes",
        flush=True,
    )
    done = sum(training.steps_done for training in trainings.values())
    with tqdm(total=steps + STEPS_PER_EPISODE * episodes, initial=done, unit="step", smoothing=0.05) as bar:
        yield Progress(bar)
