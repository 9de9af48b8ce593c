"""A head for each task beside the chunk: from what was found for its question to an answer, and how far off that is.

Shapes: B samples, D width, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.model.actions import quaternion_product, unit_quaternion

# Of a likelihood: half the weighted error for what is measured, all of it for what is chosen among classes.
SHARE_OF_MEASURED, SHARE_OF_CHOSEN = 0.5, 1.0
# Errors of positions are counted in units of these, beside radians: a hand's way is short, a base's is not.
_GRASP_SCALE_M, _GOAL_SCALE_M = 0.1, 1.0


class TaskHead(nn.Sequential, ABC):
    """(B, D) -> an answer. share: how much of its error counts, see above."""

    share = SHARE_OF_MEASURED

    def __init__(self, width: int, numbers: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, numbers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """In full precision, whatever the layers compute in: rotations are more sensitive than they are."""
        raw: Tensor = super().forward(features)  # type: ignore[no-untyped-call]
        return raw.float()

    @abstractmethod
    def errors(self, answer: Tensor, target: Tensor) -> Tensor:
        """What is learned from, of each answer. target: as `multi_task.Target` has it. -> as what is known of it"""

    @abstractmethod
    def measured(self, answer: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        """What people read, by name with its unit. -> (B, ...) each, as what is known of the target"""


class GraspHead(TaskHead):
    """-> (B, 7): position [m], unit quaternion xyzw."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, 7, dropout)

    def forward(self, features: Tensor) -> Tensor:
        raw = super().forward(features)
        return torch.cat((raw[:, :3], unit_quaternion(raw[:, 3:])), dim=-1)

    def errors(self, answer: Tensor, target: Tensor) -> Tensor:
        """-> (B,)"""
        position = (answer[:, :3] - target[:, :3]).abs().mean(dim=-1) / _GRASP_SCALE_M
        return position + rotation_angle(answer[:, 3:], unit_quaternion(target[:, 3:]))

    def measured(self, answer: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        return {
            "position_error_m": (answer[:, :3] - target[:, :3]).norm(dim=-1),
            "angle_error_rad": rotation_angle(answer[:, 3:], unit_quaternion(target[:, 3:])),
        }


class DetectionHead(TaskHead):
    """-> (B, C) logits."""

    share = SHARE_OF_CHOSEN

    def __init__(self, width: int, dropout: float, classes: int) -> None:
        super().__init__(width, classes, dropout)

    def errors(self, answer: Tensor, target: Tensor) -> Tensor:
        """-> (B, C)"""
        return F.binary_cross_entropy_with_logits(answer, target.to(answer.dtype), reduction="none")

    def measured(self, answer: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        """Of which precision and recall are made."""
        said, there = answer > 0.0, target > 0
        return {"right": (said & there).float(), "wrong": (said & ~there).float(), "missed": (~said & there).float()}


class GoalHead(TaskHead):
    """-> (B, 4): x ahead, y left [m], cosine and sine of the turn."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, 4, dropout)

    def forward(self, features: Tensor) -> Tensor:
        raw = super().forward(features)
        return torch.cat((raw[:, :2], F.normalize(raw[:, 2:], dim=-1)), dim=-1)

    def errors(self, answer: Tensor, target: Tensor) -> Tensor:
        """-> (B,)"""
        position = (answer[:, :2] - target[:, :2]).abs().mean(dim=-1) / _GOAL_SCALE_M
        return position + heading_error(answer[:, 2:], target[:, 2])

    def measured(self, answer: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        off = torch.remainder(heading_of(answer) - target[:, 2] + torch.pi, 2.0 * torch.pi) - torch.pi
        return {"position_error_m": (answer[:, :2] - target[:, :2]).norm(dim=-1), "heading_error_rad": off.abs()}


class SelectorHead(TaskHead):
    """-> (B, tasks) logits."""

    share = SHARE_OF_CHOSEN

    def __init__(self, width: int, dropout: float, tasks: int) -> None:
        super().__init__(width, tasks, dropout)

    def errors(self, answer: Tensor, target: Tensor) -> Tensor:
        """-> (B,)"""
        return F.cross_entropy(answer, target, reduction="none")

    def measured(self, answer: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        return {"accuracy": (answer.argmax(dim=-1) == target).float()}


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """The angle between two orientations, the same for q and -q. (..., 4), (..., 4) unit -> (...) [rad], 0 to pi"""
    conjugate = second * second.new_tensor((-1.0, -1.0, -1.0, 1.0))
    turned = quaternion_product(first, conjugate)
    return 2.0 * torch.atan2(torch.linalg.vector_norm(turned[..., :3], dim=-1), turned[..., 3].abs())


def heading_error(direction: Tensor, heading_rad: Tensor) -> Tensor:
    """1 - cos of the angle between, 0 to 2: a whole turn makes no difference. direction: (B, 2) unit. -> (B,)"""
    return 1.0 - direction[:, 0] * torch.cos(heading_rad) - direction[:, 1] * torch.sin(heading_rad)


def heading_of(goal: Tensor) -> Tensor:
    """What a GoalHead says of the turn. (B, 4) -> (B,), -pi to pi [rad]"""
    return torch.atan2(goal[:, 3], goal[:, 2])
