"""Several tasks from one understanding: a chunk of actions, where to grasp, what is in view, where to drive.

Each task asks the tokens of all that was seen and said by a question of its own, and answers through a head of its own.
How much each loss counts is learned with them: Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to
weigh losses for scene geometry and semantics", 2018. A sample teaches the tasks that it has a target for, no others.

Shapes: B samples, M memory tokens, D width, H rows of a chunk, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics, quaternion_product, unit_quaternion
from vla_ros.model.attention import MultiHeadAttention
from vla_ros.model.chunk_decoder import Memory, weighted_mean
from vla_ros.model.config import DecoderConfig
from vla_ros.model.decoders import make_head

Task = Literal["manipulation", "grasping", "detection", "navigation"]
TASKS: tuple[Task, ...] = get_args(Task)
SELECTOR = "selector"
"""Beside the tasks: which of them a sample is about."""
QUESTIONS: tuple[str, ...] = (*TASKS, SELECTOR)

_SCALE_M = 0.1  # errors of positions are counted in units of this, beside radians
_MOST_LOG_VARIANCE = 6.0  # a loss that vanishes must not come to count without bound
# Of a likelihood: half the weighted error for what is measured, all of it for what is chosen among classes.
_SHARES: Mapping[str, float] = {
    "manipulation": 0.5,
    "grasping": 0.5,
    "detection": 1.0,
    "navigation": 0.5,
    SELECTOR: 1.0,
}


@dataclass(frozen=True, eq=False)
class Target:
    """What a task should have answered. known: bool or weights of 0 or more; what is not known is not looked at.

    manipulation: (B, H, 14) rows as `relative` has them, known (B, H). The others are known (B,): grasping (B, 7),
    where the tool is when it has hold of the thing, position [m] and quaternion xyzw, seen as a row is; detection
    (B, C), 1 for what is in view; navigation (B, 3), x, y [m] and heading [rad] to drive to; selector (B,) long, places
    in TASKS.
    """

    values: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class MultiTaskOutputs:
    """Answers. features: question -> (B, D), what was found for it; attention: question -> (B, M), which tokens it
    looked at; grasp_position: (B, 3) [m]; grasp_orientation: (B, 4) unit; detection: (B, C) logits; goal_position:
    (B, 2) [m]; goal_heading: (B, 2), its cosine and sine; selector: (B, tasks) logits. A chunk is what the network's
    `chunk` makes of `memory_for`.
    """

    features: Mapping[str, Tensor]
    attention: Mapping[str, Tensor]
    grasp_position: Tensor
    grasp_orientation: Tensor
    detection: Tensor
    goal_position: Tensor
    goal_heading: Tensor
    selector: Tensor

    @property
    def heading_rad(self) -> Tensor:
        """(B,), -pi to pi."""
        return torch.atan2(self.goal_heading[:, 1], self.goal_heading[:, 0])

    @property
    def task_probabilities(self) -> Tensor:
        """How likely each of TASKS is what is asked for. -> (B, tasks)"""
        return self.selector.softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class MultiTaskLosses:
    """total: (), what is trained on. losses: question -> (), as measured; weights: question -> (), how much it counts;
    known: question -> (), of how many samples, or rows, it was measured. What had no target is in none of them.
    """

    total: Tensor
    losses: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    known: Mapping[str, Tensor]

    def report(self) -> dict[str, dict[str, float]]:
        """Per task, in numbers."""
        return {
            name: {"loss": float(loss), "weight": float(self.weights[name]), "known": float(self.known[name])}
            for name, loss in self.losses.items()
        }


class MultiTaskVLANetwork(nn.Module):
    """Heads over what a network has understood. Raises ModelError for a decoder that there is not."""

    def __init__(self, width: int, heads: int, classes: int, decoder: DecoderConfig, dropout: float = 0.0) -> None:
        """classes: of detection."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.questions = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(1, width)) for name in QUESTIONS})
        self.chunk = make_head(decoder, width, heads, dropout)
        self.answers = nn.ModuleDict(
            {
                "grasping": _answer(width, 7, dropout),
                "detection": _answer(width, classes, dropout),
                "navigation": _answer(width, 4, dropout),
                SELECTOR: _answer(width, len(TASKS), dropout),
            }
        )
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in QUESTIONS})

    def forward(self, memory: Memory) -> MultiTaskOutputs:
        """Every answer but the chunk, each from the real tokens alone."""
        tokens = self.norm(memory.tokens)  # (B, M, D)
        features, attention = {}, {}
        for name, question in self.questions.items():
            asked = question.expand(len(tokens), -1, -1)  # (B, 1, D)
            found, weights = self.attention.with_weights(asked, tokens, memory.mask)
            features[name], attention[name] = (asked + found).squeeze(1), weights.squeeze(1)  # (B, D), (B, M)
        grasp = self.answers["grasping"](features["grasping"])  # (B, 7)
        goal = self.answers["navigation"](features["navigation"])  # (B, 4)
        return MultiTaskOutputs(
            features=features,
            attention=attention,
            grasp_position=grasp[:, :3],
            grasp_orientation=unit_quaternion(grasp[:, 3:]),
            detection=self.answers["detection"](features["detection"]),
            goal_position=goal[:, :2],
            goal_heading=F.normalize(goal[:, 2:], dim=-1),
            selector=self.answers[SELECTOR](features[SELECTOR]),
        )

    def memory_for(self, memory: Memory, outputs: MultiTaskOutputs) -> Memory:
        """What the chunk's head works from: the same tokens, and what was found for manipulation."""
        return Memory(memory.tokens, memory.mask, outputs.features["manipulation"])


def multi_task_loss_function(
    network: MultiTaskVLANetwork,
    memory: Memory,
    targets: Mapping[str, Target],
    statistics: ActionStatistics,
    generator: torch.Generator | None = None,
) -> MultiTaskLosses:
    """Every loss that has a target, weighed by how uncertain its task is. generator: of what the chunk's head draws.

    Raises ModelError for a target of a task that there is not.
    """
    for name in targets:
        if name not in QUESTIONS:
            raise ModelError(f"there is no task {name!r} to learn; choose from {', '.join(QUESTIONS)}")
    outputs = network(memory)
    total = memory.pooled.new_zeros(())
    losses, weights, known = {}, {}, {}
    for name, target in targets.items():
        if not target.known.any():
            continue
        if name == "manipulation":
            rows = _without_unknown(target)
            given = target.known.to(memory.pooled.dtype)
            loss = network.chunk.loss(network.memory_for(memory, outputs), rows, statistics, given, generator)
        else:
            loss = _mean_of_known(_LOSSES[name](outputs, _without_unknown(target)), target.known)
        log_variance = network.log_variances[name].clamp(-_MOST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        weight = _SHARES[name] * torch.exp(-log_variance)
        total = total + weight * loss + 0.5 * log_variance
        losses[name], weights[name] = loss.detach(), weight.detach()
        known[name] = (target.known > 0).sum()
    return MultiTaskLosses(total, losses, weights, known)


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """The angle between two orientations, the same for q and -q. (..., 4), (..., 4) unit -> (...) [rad], 0 to pi"""
    conjugate = second * second.new_tensor((-1.0, -1.0, -1.0, 1.0))
    turned = quaternion_product(first, conjugate)
    return 2.0 * torch.atan2(torch.linalg.vector_norm(turned[..., :3], dim=-1), turned[..., 3].abs())


def heading_error(direction: Tensor, heading_rad: Tensor) -> Tensor:
    """1 - cos of the angle between, 0 to 2: a whole turn makes no difference. direction: (B, 2) unit. -> (B,)"""
    return 1.0 - direction[:, 0] * torch.cos(heading_rad) - direction[:, 1] * torch.sin(heading_rad)


def _grasping(outputs: MultiTaskOutputs, target: Tensor) -> Tensor:
    """-> (B,)"""
    position = (outputs.grasp_position - target[:, :3]).abs().mean(dim=-1) / _SCALE_M
    return position + rotation_angle(outputs.grasp_orientation, unit_quaternion(target[:, 3:]))


def _detection(outputs: MultiTaskOutputs, target: Tensor) -> Tensor:
    """-> (B,)"""
    wanted = target.to(outputs.detection.dtype)
    return F.binary_cross_entropy_with_logits(outputs.detection, wanted, reduction="none").mean(dim=-1)


def _navigation(outputs: MultiTaskOutputs, target: Tensor) -> Tensor:
    """-> (B,)"""
    position = (outputs.goal_position - target[:, :2]).abs().mean(dim=-1) / _SCALE_M
    return position + heading_error(outputs.goal_heading, target[:, 2])


def _selection(outputs: MultiTaskOutputs, target: Tensor) -> Tensor:
    """-> (B,)"""
    return F.cross_entropy(outputs.selector, target, reduction="none")


_LOSSES: Mapping[str, Callable[[MultiTaskOutputs, Tensor], Tensor]] = {
    "grasping": _grasping,
    "detection": _detection,
    "navigation": _navigation,
    SELECTOR: _selection,
}


def _without_unknown(target: Target) -> Tensor:
    """Zeros in the place of what is not known: a NaN there would outlive a weight of 0."""
    is_known = (target.known > 0).reshape(*target.known.shape, *[1] * (target.values.ndim - target.known.ndim))
    return target.values.masked_fill(~is_known, 0)


def _mean_of_known(losses: Tensor, known: Tensor) -> Tensor:
    """(B,), (B,) -> ()"""
    return weighted_mean(losses, known.to(losses.dtype))


def _answer(width: int, numbers: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, numbers)
    )
