"""A last correction of a chunk that has been chosen, by what is understood of the scene; at first none at all.

Source: residual policies: Silver et al., "Residual policy learning", 2018; Johannink et al., 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.model.actions import VELOCITY, ActionParts, ActionStatistics, from_rotation_vector, quaternion_product
from vla_ros.model.chunk_decoder import weighted_mean
from vla_ros.types import GRIPPER, POSITION, QUATERNION

_CHANGES = (3, 3, 6, 1)  # position, rotation vector, velocity, gripper


class ActionRefiner(nn.Module):
    """Adds to every row what it has learned that such rows lack. Shapes: B samples, H rows, D width."""

    def __init__(self, horizon: int, width: int) -> None:
        super().__init__()
        self.row_in = nn.Linear(sum(_CHANGES) + 1, width)
        self.feature_in = nn.Linear(width, width)
        self.places = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.think = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.change = nn.Linear(width, sum(_CHANGES))
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, features: Tensor, rows: Tensor, statistics: ActionStatistics) -> Tensor:
        """features: (B, D); rows: (B, H, 14), valid. -> (B, H, 14), valid; the very same before anything is learned"""
        tokens = self.row_in(statistics.normalise(rows)) + self.feature_in(features).unsqueeze(1) + self.places
        position, turn, velocity, gripper = self.change(self.think(tokens)).split(_CHANGES, dim=-1)
        parts = ActionParts.split(rows)
        std = statistics.std
        # A rotation is turned and not added to: the identity's product is exact, and what it gives is unit.
        turned = quaternion_product(from_rotation_vector(turn * std[QUATERNION][:1]), parts.orientation)
        return ActionParts(
            position=parts.position + position * std[POSITION],
            orientation=torch.where(turned[..., 3:] < 0.0, -turned, turned),
            velocity=parts.velocity + velocity * std[VELOCITY],
            gripper=(parts.gripper + gripper * std[GRIPPER]).clamp(0.0, 1.0),
        ).joined()

    def loss(
        self,
        features: Tensor,
        rows: Tensor,
        target: Tensor,
        statistics: ActionStatistics,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Mean absolute error of what it makes of sampled rows, normalised. -> ()

        rows, target: (B, H, 14) physical; neither they nor features, (B, D), are taught; weights: (B, H).
        """
        refined = self(features.detach(), rows.detach(), statistics)
        off = F.l1_loss(statistics.normalise(refined), statistics.normalise(target), reduction="none").mean(dim=-1)
        return weighted_mean(off, torch.ones_like(off) if weights is None else weights)
