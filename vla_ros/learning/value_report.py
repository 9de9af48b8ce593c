"""How well a value tells frames of episodes that end well from frames of ones that do not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_ros.learning.batches import Batch
from vla_ros.model.vla import VLAModel

ValueReport = Mapping[str, float]
"""As columns of a log: value, the log loss, of nothing left out; value_auc, where some ended well and some badly."""


class ValueTally:
    """Odds of frames whose episode's end is known."""

    def __init__(self) -> None:
        self._odds: list[Tensor] = []
        self._success: list[Tensor] = []

    def add(self, model: VLAModel, batch: Batch) -> None:
        """One batch, by the weights that the model has now."""
        lesson, value = batch.lessons.outcome, model.reasoning.value
        assert lesson is not None and value is not None
        seen = model.sight(model.perceive(batch.lived(model).inputs, plan=False)).features
        known = lesson.known > 0.0
        self._odds.append(value(seen)[known].float().cpu())
        self._success.append(lesson.success[known].cpu())

    def report(self) -> ValueReport:
        """Of all that was added."""
        odds, success = torch.cat(self._odds), torch.cat(self._success)
        if not len(odds):
            return {}
        loss = {"value": float(F.binary_cross_entropy_with_logits(odds, success.float()))}
        return loss | ({"value_auc": area_under_curve(odds, success)} if success.any() and not success.all() else {})


def area_under_curve(odds: Tensor, success: Tensor) -> float:
    """How often, of a success and a failure, the success has the greater odds; equal ones count half, so that 0.5 tells
    nothing. Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
    other", 1947. odds: (N,); success: (N,) bool, of both kinds.
    """
    apart = odds[success].unsqueeze(1) - odds[~success]  # (successes, failures)
    return float(((apart > 0.0).float() + 0.5 * (apart == 0.0)).mean())
