"""Several tasks from one understanding: a chunk of actions, where to grasp, what is in view, where to drive.

Each task asks the tokens of all that was seen and said by a question of its own, and answers through a head of its own.
How uncertain each task is is learned with them, and weighs its loss: Kendall, Gal and Cipolla, "Multi-task learning
using uncertainty to weigh losses for scene geometry and semantics", 2018. Theirs is the ratio of the losses; as a whole
they are such that the chunk's counts fully, as it does without other tasks, so that what is learned beside them all
(where things are, what comes next) keeps its share. A sample teaches the tasks that it has a target for, no others.

Shapes: B samples, M memory tokens, D width, H rows of a chunk, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.attention import MultiHeadAttention
from vla_ros.model.chunk_decoder import ActionHead, Memory, Prefix, weighted_mean
from vla_ros.model.config import DecoderConfig, Task, VLAConfig
from vla_ros.model.decoders import make_head
from vla_ros.model.task_heads import SHARE_OF_MEASURED, DetectionHead, GoalHead, GraspHead, SelectorHead, TaskHead

MANIPULATION: Task = "manipulation"
SELECTOR = "selector"
"""Beside the tasks: which of them a sample is about."""
LOG_VARIANCES = "log_variances"
"""The part of a network's names that are uncertainties."""

_MOST_LOG_VARIANCE = 6.0  # a loss that vanishes must not come to count without bound


@dataclass(frozen=True, eq=False)
class Target:
    """What a task should have answered. known: bool or weights of 0 or more; what is not known is not looked at.

    manipulation: (B, H, 14) rows as `relative` has them, known (B, H). grasping: (B, 7), where the tool is when it has
    hold of the thing, position [m] and quaternion xyzw, seen as a row is; known (B,). detection: (B, C), 1 for what is
    in view; known (B, C). navigation: (B, 3), where to drive to, x ahead and y left of the base [m], and how far to
    turn [rad]; known (B,). selector: (B,) long, places in the network's tasks; known (B,).
    """

    values: Tensor
    known: Tensor

    def to(self, device: torch.device) -> Target:
        """The same on a device."""
        return Target(self.values.to(device), self.known.to(device))


@dataclass(frozen=True, eq=False)
class MultiTaskOutputs:
    """Answers. features: question -> (B, D), what was found for it; attention: question -> (B, M), which tokens it
    looked at; answers: question -> as its head in `task_heads` says it. The chunk is what the network samples.
    """

    features: Mapping[str, Tensor]
    attention: Mapping[str, Tensor]
    answers: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class MultiTaskLosses:
    """total: (), what is trained on. losses: question -> (), as measured; weights: question -> (), how much it counts
    beside 1 of the chunk's; known: question -> (), of how many samples, rows or classes it was measured. What had no
    target is in none of them.
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


class MultiTaskVLANetwork(ActionHead):
    """Heads over what a network has understood; as an action head it gives what manipulation answers.

    Raises ModelError for a decoder that there is not.
    """

    def __init__(
        self, width: int, heads: int, tasks: Sequence[Task], classes: int, decoder: DecoderConfig, dropout: float = 0.0
    ) -> None:
        """tasks: manipulation and others; classes: of detection."""
        super().__init__()
        self.tasks = tuple(tasks)
        self.questions_asked: tuple[str, ...] = (*tasks, SELECTOR)
        self.horizon = decoder.horizon
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.questions = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(1, width)) for name in self.questions_asked}
        )
        self.chunk = make_head(decoder, width, heads, dropout)
        choice: Mapping[str, Callable[[], TaskHead]] = {
            "grasping": lambda: GraspHead(width, dropout),
            "detection": lambda: DetectionHead(width, dropout, classes),
            "navigation": lambda: GoalHead(width, dropout),
            SELECTOR: lambda: SelectorHead(width, dropout, len(tasks)),
        }
        self.answers = nn.ModuleDict({name: choice[name]() for name in self.questions_asked if name in choice})
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in self.questions_asked})

    def head(self, name: str) -> TaskHead:
        """Of a question. Raises KeyError for manipulation, which has the chunk's, and for what is not asked."""
        return cast("TaskHead", self.answers[name])

    def certainty(self, name: str, share: float) -> Tensor:
        """share over the variance that was learned for a question. -> ()"""
        log_variance = self.log_variances[name].clamp(-_MOST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        return share * torch.exp(-log_variance)

    def forward(self, memory: Memory) -> MultiTaskOutputs:
        """Every answer but the chunk, each from the real tokens alone."""
        tokens = self.norm(memory.tokens)  # (B, M, D)
        found = {name: self._found(name, tokens, memory.mask) for name in self.questions_asked}
        return MultiTaskOutputs(
            features={name: features for name, (features, _) in found.items()},
            attention={name: weights for name, (_, weights) in found.items()},
            answers={name: self.head(name)(found[name][0]) for name in self.answers},
        )

    def loss(
        self,
        memory: Memory,
        target: Tensor,
        statistics: ActionStatistics,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ActionHead: of the chunk alone."""
        return self.chunk.loss(self._memory_to_act_on(memory), target, statistics, weights, generator)

    @torch.no_grad()
    def sample(
        self,
        memory: Memory,
        statistics: ActionStatistics,
        prefix: Prefix | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ActionHead. No other question is asked."""
        return self.chunk.sample(self._memory_to_act_on(memory), statistics, prefix, generator)

    def _memory_to_act_on(self, memory: Memory) -> Memory:
        """The same tokens, and what was found for manipulation."""
        features, _ = self._found(MANIPULATION, self.norm(memory.tokens), memory.mask)
        return Memory(memory.tokens, memory.mask, features)

    def _found(self, name: str, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, D), (B, M) -> (B, D), (B, M)"""
        asked = self.questions[name].expand(len(tokens), -1, -1)  # (B, 1, D)
        found, weights = self.attention.with_weights(asked, tokens, mask)
        return (asked + found).squeeze(1), weights.squeeze(1)


def multi_task_loss_function(
    network: MultiTaskVLANetwork,
    memory: Memory,
    targets: Mapping[str, Target],
    statistics: ActionStatistics,
    generator: torch.Generator | None = None,
) -> MultiTaskLosses:
    """Every loss that has a target, weighed by how uncertain its task is. generator: of what the chunk's head draws.

    With the variances v the likelihood's is the sum of share / v * loss + log(v) / 2. It teaches the variances as it
    is; what teaches the network is divided by the chunk's share / v.

    Raises ModelError for a target of a task that there is not.
    """
    for name in targets:
        if name not in network.questions_asked:
            raise ModelError(f"there is no task {name!r} to learn; choose from {', '.join(network.questions_asked)}")
    outputs = network(memory)
    of_chunk = network.certainty(MANIPULATION, SHARE_OF_MEASURED).detach()
    total = memory.pooled.new_zeros(())
    losses, weights, known = {}, {}, {}
    for name, target in targets.items():
        if not target.known.any():
            continue
        given = target.known.to(memory.pooled.dtype)
        if name == MANIPULATION:
            share, loss = (
                SHARE_OF_MEASURED,
                network.loss(memory, _without_unknown(target), statistics, given, generator),
            )
        else:
            head = network.head(name)
            errors = head.errors(outputs.answers[name], _without_unknown(target))
            share, loss = head.share, weighted_mean(errors, given)
        certainty = network.certainty(name, share)
        losses[name], weights[name] = loss.detach(), certainty.detach() / of_chunk
        total = total + weights[name] * loss + certainty * losses[name] - 0.5 * torch.log(certainty)
        known[name] = (target.known > 0).sum()
    return MultiTaskLosses(total, losses, weights, known)


def make_decoder(config: VLAConfig) -> ActionHead:
    """Of the chunk alone, or of several tasks where the configuration names them."""
    if not config.tasks:
        return make_head(config.decoder, config.width, config.heads, config.dropout)
    classes, decoder = len(config.classes), config.decoder
    return MultiTaskVLANetwork(config.width, config.heads, config.tasks, classes, decoder, config.dropout)


def acting_losses(
    decoder: ActionHead,
    memory: Memory,
    rows: Target,
    targets: Mapping[str, Target],
    statistics: ActionStatistics,
    generator: torch.Generator | None,
) -> tuple[Tensor, MultiTaskLosses | None]:
    """-> of the chunk, and of all tasks where there are several. targets: of those beside the chunk.

    Raises ModelError for a target of a task that there is not.
    """
    if isinstance(decoder, MultiTaskVLANetwork):
        losses = multi_task_loss_function(decoder, memory, {MANIPULATION: rows, **targets}, statistics, generator)
        return losses.losses.get(MANIPULATION, memory.pooled.new_zeros(())), losses
    if targets:
        raise ModelError(f"there is no task {next(iter(targets))!r} to learn, only the chunk")
    return decoder.loss(memory, rows.values, statistics, rows.known, generator), None


def answers(decoder: ActionHead, memory: Memory) -> MultiTaskOutputs:
    """What the tasks beside the chunk say. Raises ModelError without them."""
    if not isinstance(decoder, MultiTaskVLANetwork):
        raise ModelError("this network answers for the chunk alone; choose tasks: [manipulation, ...]")
    outputs: MultiTaskOutputs = decoder(memory)
    return outputs


def _without_unknown(target: Target) -> Tensor:
    """Zeros in the place of what is not known: a NaN there would outlive a weight of 0."""
    is_known = (target.known > 0).reshape(*target.known.shape, *[1] * (target.values.ndim - target.known.ndim))
    return target.values.masked_fill(~is_known, 0)
