"""A whole training: from a recipe to a checkpoint, with a log that people can read and a state to go on from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vla_ros.contract import Contract
from vla_ros.errors import LearningError
from vla_ros.learning.batches import BatchMaker, measured_statistics
from vla_ros.learning.curriculum import CurriculumSampler
from vla_ros.learning.curves import draw_curves
from vla_ros.learning.experience import Experience, difficulty
from vla_ros.learning.loading import Weights, load_experience, open_datasets
from vla_ros.learning.logs import TrainingLog
from vla_ros.learning.recipe import Recipe
from vla_ros.learning.train_state import resume, save_state
from vla_ros.learning.trained import begun_from
from vla_ros.learning.trainer import CurriculumTrainer, ValidationReport
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import WEIGHTS, save_checkpoint
from vla_ros.model.vla import VLAModel
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import checkpoint_path

STATE, BEST, LAST, LOG, CURVES = "state", "best", "last", "log.csv", "curves.png"
RECORD, RECIPE = "training.json", "recipe.json"
_HELD_OUT_SEED = 7

Rollouts = Callable[[Path, tuple[str, ...]], float]
"""Lets a checkpoint drive the robot at some tasks. -> share of successes."""


@dataclass(frozen=True, eq=False)
class Split:
    """Frames to learn from and frames to validate on, of different episodes. What is worth nothing is in neither.

    failures: of which nothing was learned either, to see whether a value tells them from what is held out; none where
    failures teach nothing.
    """

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    failures: NDArray[np.int64]


def split(experience: Experience, share: float, with_failures: bool = False) -> Split:
    """Hold out a share of each task's good episodes, at least one, and what else there is of their worlds: who has seen
    one knows his way there. Raises LearningError if nothing is left.

    An episode is good if there is anything to learn from it. with_failures: the others are shown in training, too, of
    which nobody learns how to act, but how it ends; where there are at least 2 the same share of them is held out.
    """
    good = experience.is_learned_from
    is_good = np.bincount(experience.episodes, weights=good, minlength=len(experience.tasks)) > 0
    failed = experience.is_failure & ~is_good[experience.episodes] & with_failures
    held_out = _held_out(experience, is_good, np.unique(experience.episodes[failed]), share)
    frames = np.arange(len(experience))
    unseen = held_out[experience.episodes]
    shown = good | experience.is_failure if with_failures else good
    return Split(frames[shown & ~unseen], frames[good & unseen], frames[failed & unseen])


def _held_out(
    experience: Experience, is_good: NDArray[np.bool_], failures: NDArray[np.int64], share: float
) -> NDArray[np.bool_]:
    """Which episodes are. is_good: of each; failures: of which some are, too. -> (episodes,)"""
    rng = np.random.default_rng(_HELD_OUT_SEED)
    held_out = np.zeros(len(experience.tasks), bool)
    good = {task: is_good & (np.array(experience.tasks) == task) for task in sorted(set(experience.tasks))}
    for task, mine in good.items():
        if mine.sum() < 2:
            raise LearningError(f"{mine.sum()} good episodes of '{task}' are too few to learn from; 2 are needed")
        held_out[_share_of(np.flatnonzero(mine), share, rng)] = True
    if len(failures) > 1:
        held_out[_share_of(failures, share, rng)] = True
    held_out |= np.isin(experience.worlds, [world for world in np.array(experience.worlds)[held_out] if world])
    for task, mine in good.items():
        if not (mine & ~held_out).any():
            raise LearningError(f"every episode of '{task}' is in a world that is held out; more worlds are needed")
    return held_out


def _share_of(episodes: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Some of them by lot, at least one. (N,) -> (n,)"""
    return rng.permutation(episodes)[: max(1, round(share * len(episodes)))]


def train(recipe: Recipe, contract: Contract, output: Path, record: Mapping[str, Any], rollouts: Rollouts) -> Path:
    """Train, or go on with it, and leave the checkpoints `last` and `best` in the output folder. -> the better one

    record: what is stored with them, of where they come from. Raises LearningError, DataError, ModelError.
    """
    for view in recipe.model.views:
        if view not in contract.cameras:
            raise LearningError(
                f"model.views: {contract.name} has no camera '{view}'; choose from {', '.join(contract.cameras)}"
            )
    datasets = open_datasets([Path(folder) for folder in recipe.data], recipe.model.views)
    model = _begun(recipe)
    preprocessing = {view: model.vision.encoder_of(view).preprocessing for view in recipe.model.views}
    weights = Weights(human=recipe.intervention_weight, policy=recipe.policy_weight)
    experience = load_experience(datasets, preprocessing, weights)
    tasks = tuple(sorted(set(experience.tasks)))
    known = _of_the_simulator(tasks, recipe)
    parts = split(experience, recipe.validation.share, with_failures=recipe.model.foresees)
    if recipe.start is None:
        statistics = measured_statistics(experience, parts.training, recipe.model)
        model.action_statistics, model.state_statistics = statistics
    camera_rate_hz = min(contract.cameras[view].rate_hz for view in recipe.model.views)
    trainer = _trainer(recipe, model, experience, parts, camera_rate_hz)
    _check_same(output, {**asdict(recipe), "frames": len(experience)})
    told = {**record, **_of_start(recipe), "tasks": list(tasks)}
    run = _Run(recipe, contract, output, told, trainer, rollouts, known)
    return run.to_the_end()


@dataclass(eq=False)
class _Run:
    recipe: Recipe
    contract: Contract
    output: Path
    record: Mapping[str, Any]
    trainer: CurriculumTrainer
    rollouts: Rollouts
    tasks: tuple[str, ...]
    best_score: float = -1.0
    best_step: int = -1

    def to_the_end(self) -> Path:
        standing = resume(self.output / STATE, self.trainer)
        if standing is not None:
            self.best_score, self.best_step = standing.best_score, standing.best_step
        trainer, recipe = self.trainer, self.recipe
        log = TrainingLog(self.output / LOG, trainer.step)
        bar = tqdm(total=recipe.steps, initial=trainer.step, desc="training", unit="step", disable=not trainer.is_main)
        while trainer.step < recipe.steps:
            report = trainer.run_step()
            log.step(report)
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in report.losses.items() if value})
            if trainer.step % recipe.validation.every_steps == 0:
                self._validate(log, bar)
            if self._is_due(recipe.validation.rollout_steps):
                self._roll_out(log, bar)
            if trainer.step % recipe.checkpoint_steps == 0 or trainer.step == recipe.steps:
                self._save(log)
        bar.close()
        return self._finish(log)

    def _is_due(self, every_steps: int) -> bool:
        """The last step is always due, where there is a rhythm at all."""
        step = self.trainer.step
        return every_steps > 0 and (step % every_steps == 0 or step == self.recipe.steps)

    def _validate(self, log: TrainingLog, bar: Any) -> None:
        report: ValidationReport = self.trainer.validate()
        log.validation(report)
        bar.write(
            f"step {report.step}: on held-out episodes {report.position_error_m * 1000:.1f} mm off, "
            f"{report.accuracy:.0%} within 2 cm; stage {self.trainer.progress.stage}"
        )

    def _roll_out(self, log: TrainingLog, bar: Any) -> None:
        if not self.trainer.is_main:
            return
        folder = self._checkpoint(LAST)
        score = self.rollouts(folder, self.tasks)
        log.rollouts(self.trainer.step, score)
        bar.write(f"step {self.trainer.step}: {score:.0%} of rollouts succeed")
        if score >= self.best_score:  # of equals the one that has learned for longer
            self.best_score, self.best_step = score, self.trainer.step
            draft = self.output / f".{BEST}"
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(folder, draft)
            _put(draft, self.output / BEST)

    def _save(self, log: TrainingLog) -> None:
        if self.trainer.is_main:
            log.flush()
            save_state(self.output / STATE, self.trainer, self.best_score, self.best_step)

    def _finish(self, log: TrainingLog) -> Path:
        if self.trainer.is_main:
            self._checkpoint(LAST)
            log.flush()
            draw_curves(self.output / LOG, self.output / CURVES)
        return self.output / (BEST if self.best_step >= 0 else LAST)

    def _checkpoint(self, name: str) -> Path:
        """The averaged weights as a checkpoint, in the place of an older one."""
        folder, draft = self.output / name, self.output / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)
        with self.trainer.averaged():
            self.trainer.settle()
            save_checkpoint(draft, self.trainer.model, self.contract, is_trained=True)
            held_out = {"held_out": self.trainer.measured().tasks} if self.recipe.model.tasks else {}
        record = {**self.record, "step": self.trainer.step, "recipe": asdict(self.recipe), **held_out}
        (draft / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _put(draft, folder)
        return folder


def _of_the_simulator(tasks: Sequence[str], recipe: Recipe) -> tuple[str, ...]:
    """Those that a rollout can ask for. Raises LearningError if the recipe asks for rollouts and there are none."""
    known = tuple(task for task in tasks if task in load_sentences().phrases)
    if recipe.validation.rollout_steps and not known:
        raise LearningError(
            f"validation.rollout_steps: the simulator knows none of {', '.join(map(repr, tasks))}; choose 0"
        )
    return known


def _begun(recipe: Recipe) -> VLAModel:
    """The network before its first step. Raises LearningError, ModelError."""
    torch.manual_seed(recipe.seed)
    if recipe.start is None:
        return VLAModel(recipe.model, ActionStatistics.identity(), ActionStatistics.identity())
    return begun_from(recipe.start, recipe)


def _of_start(recipe: Recipe) -> Mapping[str, str]:
    """For the record: a name alone would not say which weights they were."""
    if recipe.start is None:
        return {}
    weights = checkpoint_path(recipe.start) / WEIGHTS
    return {"start_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def use_threads(count: int) -> None:
    """So many of the CPU, in this process."""
    torch.set_num_threads(count)


def _check_same(output: Path, wanted: Mapping[str, Any]) -> None:
    """Write down what is trained, or compare it with what is written there. Raises LearningError."""
    path = output / RECIPE
    text = json.dumps(wanted, indent=2) + "\n"
    if path.exists():
        begun, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        others = sorted(key for key in {*begun, *now} if begun.get(key) != now.get(key))
        if others:
            raise LearningError(
                f"{output} was begun with another recipe or other data: {', '.join(others)}; choose another folder, "
                "or remove that one"
            )
        return
    output.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _put(draft: Path, folder: Path) -> None:
    """A whole folder in the place of an older one."""
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def _trainer(
    recipe: Recipe, model: VLAModel, experience: Experience, parts: Split, camera_rate_hz: float
) -> CurriculumTrainer:
    hardness = difficulty(experience)[experience.episodes[parts.training]]
    levels = recipe.curriculum.levels
    sampler = CurriculumSampler(parts.training, hardness, levels, recipe.batch_size, recipe.seed)
    batches = BatchMaker(experience, model, load_sentences(), camera_rate_hz)
    return CurriculumTrainer(recipe, model, batches, sampler, parts.held_out, parts.failures)
