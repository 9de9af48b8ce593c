"""Earlier instants of training samples, lived through by the network that then perceives the present.

Gradients flow all the way back, into the trunk too: what an earlier instant should leave behind is often nothing that
its own action asks for, so nobody else would teach the trunk to see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.model.inputs import ModelInputs
from vla_ros.model.memory import MemoryState
from vla_ros.model.vla import VLAModel


@dataclass(frozen=True, eq=False)
class Look:
    """An earlier instant of each of B samples. here: (B,) bool, False where there was none; what stands there then
    leaves no trace.
    """

    inputs: ModelInputs
    here: Tensor

    def to(self, device: torch.device) -> Look:
        """The same on a device."""
        return Look(self.inputs.to(device), self.here.to(device))


@dataclass(frozen=True, eq=False)
class Past:
    """Oldest first. recent: what the network looks back at; remembered: what is in its memory, if it has one.

    recent_later: what it looks back at from the later instant that a world model is to foretell.
    """

    recent: tuple[Look, ...] = ()
    remembered: tuple[Look, ...] = ()
    recent_later: tuple[Look, ...] = ()

    def to(self, device: torch.device) -> Past:
        """The same on a device."""
        every = self.recent, self.remembered, self.recent_later
        return Past(*(tuple(look.to(device) for look in looks) for looks in every))


NO_PAST = Past()


def after(past: Past, model: VLAModel, inputs: ModelInputs) -> ModelInputs:
    """The present with all that the network has of its past: history, and a memory of each sample's own."""
    if past.recent:
        inputs = inputs.with_history(*_looked_back(past.recent, model))
    if past.remembered:
        inputs = inputs.with_memory(_memories(past.remembered, model))
    return inputs


@torch.no_grad()
def later_after(past: Past, model: VLAModel, later: ModelInputs, memory: MemoryState | None) -> ModelInputs:
    """A later instant with a history of its own, and with the memory of the present: what little is added to it on a
    robot between two looks was not there before the present either. Nobody learns to see by it.
    """
    if past.recent_later:
        later = later.with_history(*_looked_back(past.recent_later, model))
    return later.with_memory(memory)


def _looked_back(looks: Sequence[Look], model: VLAModel) -> tuple[Tensor, Tensor]:
    """-> frame features (B, T, D), and which of them there were, (B, T)"""
    features = [model.perceive(look.inputs, plan=False).frame_features for look in looks]
    return torch.stack(features, dim=1), torch.stack([look.here for look in looks], dim=1)


def _memories(looks: Sequence[Look], model: VLAModel) -> MemoryState:
    """What is in B memories, empty before, as the policy fills one: perceived with what there is by then, and added.

    Perceived without a look back, as at the beginning of an episode: it would multiply what is to be perceived.
    """
    memory = model.empty_memory(len(looks[0].here))
    for look in looks:
        perception = model.perceive(look.inputs.with_memory(memory), plan=False)
        memory = model.remember(perception, look.here)
    return memory
