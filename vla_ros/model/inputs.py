"""What the network is given, made of observations: the same code for training data and for the running policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vla_ros.errors import ModelError
from vla_ros.model.backbones import PatchFeatures
from vla_ros.model.config import Axes
from vla_ros.model.language import CommandTokens, HierarchicalLanguageEncoder
from vla_ros.model.memory import MemoryState
from vla_ros.model.relative import state_along, state_of
from vla_ros.model.vision import MultiViewVisionEncoder
from vla_ros.types import ImageArray, Observation


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """B samples. A view that no sample has is left out; `present` says which samples have the others.

    images: view -> (B, 3, S, S) uint8, or a frozen backbone's features of them. state: (B, 14), see
    relative.state_along.
    history: (B, T, D) frame features of earlier instants, oldest first; history_mask: (B, T).
    memory: what was experienced before, one for each sample or for as many that stand together; None for nothing.
    """

    images: Mapping[str, Tensor | PatchFeatures]
    present: Mapping[str, Tensor]
    command: CommandTokens
    state: Tensor
    history: Tensor | None = None
    history_mask: Tensor | None = None
    memory: MemoryState | None = None

    def to(self, device: torch.device | str) -> ModelInputs:
        """The same on another device."""
        return ModelInputs(
            {view: image.to(device) for view, image in self.images.items()},
            {view: here.to(device) for view, here in self.present.items()},
            self.command.to(device),
            self.state.to(device),
            None if self.history is None else self.history.to(device),
            None if self.history_mask is None else self.history_mask.to(device),
            None if self.memory is None else self.memory.to(device),
        )

    def with_history(self, history: Tensor | None, mask: Tensor | None = None) -> ModelInputs:
        """The same with a look back."""
        return replace(self, history=history, history_mask=mask)

    def with_memory(self, memory: MemoryState | None) -> ModelInputs:
        """The same with what to recall from."""
        return replace(self, memory=memory)


def build_inputs(
    observations: Sequence[Observation],
    vision: MultiViewVisionEncoder,
    language: HierarchicalLanguageEncoder,
    axes: Axes,
) -> ModelInputs:
    """Observations as one batch on the CPU. Images that the network has no view for are left out. axes: the network's.

    Raises ModelError if no observation has any of the network's views.
    """
    images: dict[str, Tensor | PatchFeatures] = {}
    present: dict[str, Tensor] = {}
    for view in vision.views:
        taken = [observation.images.get(view) for observation in observations]
        if any(image is not None for image in taken):
            images[view] = torch.stack([_prepared(vision, view, image) for image in taken])
            present[view] = torch.tensor([image is not None for image in taken])
    if not images:
        raise ModelError(f"none of the views {', '.join(vision.views)} was observed")
    state = state_along(axes, np.stack([state_of(observation) for observation in observations]))
    command = language.tokenize_commands([observation.instruction for observation in observations])
    return ModelInputs(images, present, command, torch.from_numpy(state).float())


def _prepared(vision: MultiViewVisionEncoder, view: str, image: ImageArray | None) -> Tensor:
    """(3, S, S) uint8. What stands for an absent view is masked: no number of it reaches an action."""
    preprocessing = vision.encoder_of(view).preprocessing
    if image is None:
        return torch.zeros(3, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    return preprocessing.prepare(image)
