"""How likely is success from here? Learned from episodes that ended well and from ones that did not.

Source: a classifier of success as a value, as in Kalashnikov et al., "QT-Opt", 2018, whose target is a probability too;
here it judges features instead of actions, and the world model says which features an action leads to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.model.chunk_decoder import weighted_mean


class ValueEstimator(nn.Module):
    """The logarithm of the odds of success, from features. Shapes: B samples, D width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.judge = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (...), log odds: they tell two sure things apart where probabilities have run out of digits."""
        odds: Tensor = self.judge(features).squeeze(-1)
        return odds

    def loss(self, features: Tensor, success: Tensor, weights: Tensor | None = None) -> Tensor:
        """Binary cross-entropy. -> ()

        features: (B, D), which are not taught by this; success: (B,) bool; weights: (B,), 0 where nobody knows.
        """
        odds = self(features.detach())
        error = F.binary_cross_entropy_with_logits(odds, success.to(odds.dtype), reduction="none")
        return weighted_mean(error, torch.ones_like(error) if weights is None else weights)
