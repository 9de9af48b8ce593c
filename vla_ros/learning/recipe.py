"""What to train, on what, and how: one YAML file, strictly read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vla_ros.errors import ContractError, LearningError
from vla_ros.learning.targets import IN_THE_PICTURE, VIEW
from vla_ros.model.config import VLAConfig, validated
from vla_ros.strict import build_or_refuse
from vla_ros.strict_values import Count, Natural, NotNegative, Positive, Share
from vla_ros.strict_yaml import read_mapping

PLACES = 3
"""Which a recording tells of: the task's first thing, its second thing, its goal."""


@dataclass(frozen=True)
class AugmentationConfig:
    """How each sample is changed anew whenever it is drawn.

    shift_px: images move by up to so many pixels; colour: gain and offset of each image, up to this share;
    view_dropout: how often a view is left out (one always stays); state_noise_m: standard deviation on measured and
    commanded positions [m].
    """

    shift_px: Natural = 4
    colour: Share = 0.2
    view_dropout: Share = 0.05
    state_noise_m: NotNegative = 0.003


@dataclass(frozen=True)
class CurriculumConfig:
    """Easy episodes first. levels: the share of episodes, by difficulty, that each stage learns from, ending with 1.

    thresholds: the validation accuracy that ends each stage but the last; max_steps: of a stage, whatever it reached.
    """

    levels: tuple[Positive, ...] = (1.0,)
    thresholds: tuple[Positive, ...] = ()
    max_steps: Count = 1000


@dataclass(frozen=True)
class ValidationConfig:
    """every_steps: how often losses on held-out episodes are measured; share: of the episodes that are held out.

    rollout_steps: how often the network drives the robot, on worlds that are in neither the data nor a test; 0 for
    never. rollouts: episodes of each task then.
    """

    every_steps: Count = 250
    share: Share = 0.03
    rollout_steps: Natural = 0
    rollouts: Count = 3


@dataclass(frozen=True)
class Recipe:
    """One training.

    data: folders of datasets. model: the network. start: a checkpoint of that network to go on from, a folder or the
    name of one that comes with the package; without, the seed decides its weights. trains: "all"; "all but language",
    where what reads the instruction stays as it begins; "reasoning" for the parts that reason alone, which the
    checkpoint may lack: the rest of its network stays as it is. contract: of the robot it is for, by name or file.
    steps: of the optimiser, on batch_size samples each. learning_rate is reached after warmup_steps and falls as a
    cosine to 2 % of itself. ema: how much of the averaged weights each step keeps. clip: largest norm of the gradient.
    alignment, grounding, reasoning: weights of these losses beside the action's, the last one of all that the parts
    that reason have. checkpoint_steps: how often what a resume needs is written. intervention_weight: how much a chunk
    counts that a human began in a recording of the robot, beside 1 of a demonstration. policy_weight: the same of a
    policy; at 0 nothing that a policy did is learned, which is human-gated DAgger (Kelly et al., "HG-DAgger:
    interactive imitation learning with human experts", 2019).
    """

    data: tuple[str, ...]
    model: VLAConfig
    start: str | None = None
    trains: Literal["all", "all but language", "reasoning"] = "all"
    contract: str = "sawyer_sim"
    seed: int = 0
    steps: Count = 4000
    batch_size: Count = 64
    learning_rate: Positive = 5e-4
    warmup_steps: Natural = 200
    weight_decay: NotNegative = 1e-4
    clip: Positive = 1.0
    ema: Share = 0.998
    alignment: NotNegative = 0.1
    grounding: NotNegative = 1.0
    reasoning: NotNegative = 1.0
    checkpoint_steps: Count = 200
    intervention_weight: NotNegative = 1.0
    policy_weight: NotNegative = 1.0
    augmentation: AugmentationConfig = AugmentationConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    validation: ValidationConfig = ValidationConfig()


def read_recipe(path: Path) -> Recipe:
    """Raises LearningError that names every fault by its key's path, and the valid choices."""
    try:
        mapping = read_mapping(path)
    except ContractError as error:
        raise LearningError(str(error)) from error
    return build_recipe(mapping, str(path))


def build_recipe(mapping: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain types. where: named in errors. Raises LearningError, ModelError."""
    recipe = build_or_refuse(
        Recipe, mapping, lambda faults: LearningError(f"{where} is not a training recipe:{faults}")
    )
    validated(recipe.model, where)
    for fault in _contradictions(recipe):
        raise LearningError(f"{where}: {fault}")
    return recipe


def _contradictions(recipe: Recipe) -> list[str]:
    curriculum = recipe.curriculum
    faults = []
    if not recipe.data:
        faults.append("data: name at least one dataset")
    if not curriculum.levels or curriculum.levels[-1] != 1.0 or list(curriculum.levels) != sorted(curriculum.levels):
        faults.append("curriculum.levels: they must rise and end with 1")
    if len(curriculum.thresholds) != len(curriculum.levels) - 1:
        faults.append("curriculum.thresholds: one is needed for each level but the last")
    if recipe.warmup_steps >= recipe.steps:
        faults.append(f"warmup_steps: {recipe.warmup_steps} leave nothing of {recipe.steps} steps")
    if recipe.trains == "reasoning" and recipe.start is None:
        faults.append("trains: reasoning needs a start: the checkpoint whose network stays as it is")
    if recipe.trains == "reasoning" and recipe.model.reasoning != "foresee":
        # A plan is told to the decoder, which would have to learn what it means.
        faults.append(
            f"trains: reasoning is for networks that foresee and do not plan, model.reasoning is "
            f"{recipe.model.reasoning}: choose foresee, or trains: all"
        )
    if recipe.model.places not in (0, PLACES):
        faults.append(f"model.places: {recipe.model.places}; recordings tell of {PLACES} places: choose 0 or {PLACES}")
    if set(IN_THE_PICTURE) & set(recipe.model.tasks) and VIEW not in recipe.model.views:
        faults.append(f"model.tasks: {' and '.join(IN_THE_PICTURE)} are told of the view {VIEW}; add it to model.views")
    return faults
