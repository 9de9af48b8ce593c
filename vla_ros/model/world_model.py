"""What will be seen if this is done? Features of later instants, each from the one predicted before it.

Shapes: B samples, K steps of a chunk's dt_s each, D width. The network learns a change, not a state, and is taught one
step at a time from what was really seen (teacher forcing: Williams and Zipser, 1989); a rollout goes on from its own
predictions, as in Ha and Schmidhuber, "World models", 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.model.actions import VELOCITY, ActionStatistics
from vla_ros.model.chunk_decoder import weighted_mean
from vla_ros.types import GRIPPER

CONTROLS = 7
"""Numbers that move the robot from one row to the next: velocity 6, gripper 1."""


def controls(rows: Tensor, statistics: ActionStatistics) -> Tensor:
    """Of a row what says how the robot goes on from it, normalised. (..., 14) physical -> (..., 7)

    Positions and rotations are left out: they count from the chunk's beginning, and a step does not.
    """
    normalised = statistics.normalise(rows)
    return torch.cat((normalised[..., VELOCITY], normalised[..., GRIPPER:]), dim=-1)


class WorldModel(nn.Module):
    """How features change by what the robot does. Without any memory: what it needs to know is in the features."""

    def __init__(self, width: int, control_width: int = CONTROLS) -> None:
        super().__init__()
        self.feature_in = nn.Linear(width, 2 * width)
        self.control_in = nn.Linear(control_width, 2 * width)
        self.think = nn.Sequential(nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU())
        self.change = nn.Linear(2 * width, width, bias=False)
        self.drift = nn.Linear(width + control_width, width)
        for last in (self.change, self.drift):  # before anything is learned, nothing changes
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.drift.bias)

    def step(self, features: Tensor, control: Tensor) -> Tensor:
        """features: (..., D); control: (..., 7). -> (..., D), a row later"""
        drift = self.drift(torch.cat((features, control), dim=-1))
        thought = self.think(self.feature_in(features) + self.control_in(control))
        predicted: Tensor = features + drift + self.change(thought)
        return predicted

    def forward(self, features: Tensor, control: Tensor) -> Tensor:
        """features: (B, D), seen; control: (B, K, 7). -> (B, K, D): after each step, from its own predictions"""
        predicted = []
        for one in control.unbind(dim=1):
            features = self.step(features, one)
            predicted.append(features)
        return torch.stack(predicted, dim=1) if predicted else features.new_zeros(len(features), 0, features.shape[-1])

    def loss(self, seen: Tensor, control: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean squared error of single steps, each from what was really seen. -> ()

        seen: (B, K + 1, D), what the encoders made of K + 1 instants, which are not taught by this: features that never
        change would be the easiest to foretell. control: (B, K, 7); weights: (B, K), 0 for a step that does not count.
        Raises ValueError unless there is one instant more than there are steps.
        """
        steps = control.shape[1]
        if seen.shape[1] != steps + 1:
            raise ValueError(f"{steps} steps lead through {steps + 1} instants, not {seen.shape[1]}")
        seen = seen.detach()
        error = F.mse_loss(self.step(seen[:, :-1], control), seen[:, 1:], reduction="none").mean(dim=-1)  # (B, K)
        return weighted_mean(error, torch.ones_like(error) if weights is None else weights)
