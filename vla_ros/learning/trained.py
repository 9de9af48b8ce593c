"""Which part of a network a training changes: all, all but what reads the instruction, what reasons; and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from vla_ros.errors import LearningError
from vla_ros.learning.batches import Batch
from vla_ros.learning.recipe import Recipe
from vla_ros.model.checkpoint import load_checkpoint
from vla_ros.model.config import VLAConfig, to_mapping
from vla_ros.model.multi_task import LOG_VARIANCES
from vla_ros.model.vla import Losses, VLAModel
from vla_ros.resources import checkpoint_path

_REASONING, _LANGUAGE = "reasoning.", "language."
# A step moves a number by about the rate. From 0 to the logarithm of a loss that falls to 1 % it is far: at the rate of
# everything else a short training would end before an uncertainty had said anything.
_UNCERTAINTIES_FASTER = 30.0
FASTER = "faster"
"""Of a group of parameters: how many times the rate it has."""


class Trained(Protocol):
    """What a training changes of a network."""

    def parameters(self, model: VLAModel) -> Mapping[str, nn.Parameter]:
        """Those that are changed, by name."""
        ...

    def prepare(self, model: VLAModel) -> None:
        """Put every module into the mode in which a step finds it."""
        ...

    def losses(self, model: VLAModel, batch: Batch, generator: torch.Generator) -> Losses:
        """Of a batch, with gradients of what is changed."""
        ...

    def fitting(self, there: VLAModel, wanted: VLAConfig) -> VLAModel:
        """A network of the wanted configuration that goes on from another one. Raises ModelError."""
        ...

    def may_differ(self) -> frozenset[str]:
        """Keys of a configuration in which a network may differ from the one that it goes on from."""
        ...


class Everything:
    """All that is not frozen."""

    def parameters(self, model: VLAModel) -> Mapping[str, nn.Parameter]:
        """See Trained."""
        return {name: value for name, value in model.named_parameters() if value.requires_grad}

    def prepare(self, model: VLAModel) -> None:
        """See Trained."""
        model.train()

    def losses(self, model: VLAModel, batch: Batch, generator: torch.Generator) -> Losses:
        """See Trained."""
        batch = batch.lived(model)
        shown = batch.inputs, batch.targets, batch.weights
        return model.loss(*shown, generator, batch.places, batch.lessons, batch.tasks)

    def fitting(self, there: VLAModel, wanted: VLAConfig) -> VLAModel:
        """See Trained."""
        return there

    def may_differ(self) -> frozenset[str]:
        """See Trained."""
        return frozenset()


class AllButLanguage(Everything):
    """What reads the instruction stays as it was drawn: what a pretrained encoder tells apart, projected at random, is
    still told apart. Trained on few sentences of few kinds it may come to tell hardly any of them from each other.
    """

    def parameters(self, model: VLAModel) -> Mapping[str, nn.Parameter]:
        """See Trained."""
        return {name: value for name, value in super().parameters(model).items() if not name.startswith(_LANGUAGE)}


class ReasoningAlone:
    """The parts that reason. What is before them is not touched, and does what it does on a robot."""

    def parameters(self, model: VLAModel) -> Mapping[str, nn.Parameter]:
        """See Trained."""
        return {name: value for name, value in model.named_parameters() if name.startswith(_REASONING)}

    def prepare(self, model: VLAModel) -> None:
        """See Trained."""
        model.eval()
        model.reasoning.train()

    def losses(self, model: VLAModel, batch: Batch, generator: torch.Generator) -> Losses:
        """See Trained."""
        with torch.no_grad():
            batch = batch.lived(model)
        return model.reasoning_loss(batch.inputs, batch.targets, batch.weights, generator, batch.lessons)

    def fitting(self, there: VLAModel, wanted: VLAConfig) -> VLAModel:
        """With parts that reason beside a trunk that is the same; they begin anew where it had none, or others."""
        model = VLAModel(wanted, there.action_statistics, there.state_statistics)
        same = there.config == wanted
        kept = {name: value for name, value in there.state_dict().items() if same or not name.startswith(_REASONING)}
        model.load_state_dict(kept, strict=False)
        return model

    def may_differ(self) -> frozenset[str]:
        """See Trained. Not subtasks: without its planner a network that plans would act otherwise."""
        return frozenset(("reasoning",))


_TRAINED: Mapping[str, type[Trained]] = {
    "all": Everything,
    "all but language": AllButLanguage,
    "reasoning": ReasoningAlone,
}


def trained_of(recipe: Recipe) -> Trained:
    """As the recipe says."""
    return _TRAINED[recipe.trains]()


def begun_from(start: str, recipe: Recipe) -> VLAModel:
    """The network of a checkpoint, for a recipe to go on with; it keeps the statistics, which its weights rely on.

    Raises LearningError for a network of another configuration, ModelError.
    """
    checkpoint, trained = load_checkpoint(checkpoint_path(start)), trained_of(recipe)
    wanted, there = to_mapping(recipe.model), to_mapping(checkpoint.model.config)
    keys = {*wanted, *there} - trained.may_differ()
    others = sorted(f"model.{key}" for key in keys if wanted.get(key) != there.get(key))
    if others:
        raise LearningError(f"start: {checkpoint.folder} has another network: {', '.join(others)} differ")
    torch.manual_seed(recipe.seed)  # what was drawn to build the network counts for nothing
    return trained.fitting(checkpoint.model, recipe.model)


def parameter_groups(trained: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """For an optimiser: what a network does, and apart from it how uncertain its tasks are, which nothing decays."""
    uncertainties = [value for name, value in trained.items() if LOG_VARIANCES in name.split(".")]
    others = [value for name, value in trained.items() if LOG_VARIANCES not in name.split(".")]
    groups = [{"params": others, "weight_decay": weight_decay, FASTER: 1.0}]
    if uncertainties:
        groups.append({"params": uncertainties, "weight_decay": 0.0, FASTER: _UNCERTAINTIES_FASTER})
    return groups
