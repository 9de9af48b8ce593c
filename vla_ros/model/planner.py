"""What is to be done, step by step: a task as a sequence of subtasks, written one after the other until a stop.

A small causal decoder (Vaswani et al., "Attention is all you need", 2017), pre-norm, looks at where the task ends, the
goal, and at where things stand. A plan can be begun: what was done or decided stays, and the rest is written from what
is seen now. Plans of subtasks in front of a policy: Ahn et al., "Do as I can, not as I say", 2022; Black et al.,
"pi0.5", 2025.

Shapes: B samples, L steps of a plan, S subtasks known by name, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.errors import ModelError
from vla_ros.model.attention import FeedForward, MultiHeadAttention
from vla_ros.model.chunk_decoder import weighted_mean
from vla_ros.types import ACTION_WIDTH

LONGEST = 10
"""Steps of a plan: Meta-World's longest has 6, and some are done twice."""
_LAYERS = 2


@dataclass(frozen=True, eq=False)
class Plan:
    """subtasks: (B, L) long, by their place in the vocabulary, of which the first length, (B,) long, count."""

    subtasks: Tensor
    length: Tensor

    @property
    def mask(self) -> Tensor:
        """True for the steps that count. -> (B, L) bool"""
        return torch.arange(self.subtasks.shape[1], device=self.length.device) < self.length.unsqueeze(-1)

    def begun(self, steps: Tensor | int) -> Plan:
        """The first steps of it alone, (B,) long or as many for all: what is done, or is to stay."""
        return Plan(self.subtasks, torch.minimum(self.length, torch.as_tensor(steps, device=self.length.device)))

    def to(self, device: torch.device | str) -> Plan:
        """The same on another device."""
        return Plan(self.subtasks.to(device), self.length.to(device))


@dataclass(frozen=True, eq=False)
class Reading:
    """What the decoder makes of a plan. logits: (B, L + 1, S + 1), of what stands at each place and behind the last, by
    what stands before it; the last of them is the stop. features: (B, L, D), of each step and those before it.
    proposals: (B, L, 14), an action for each step, normalised.
    """

    logits: Tensor
    features: Tensor
    proposals: Tensor


class TaskPlanner(nn.Module):
    """Writes plans in a vocabulary of subtasks.

    Raises ModelError for one that is empty or names a subtask twice, and ValueError if heads do not divide the width.
    """

    def __init__(self, subtasks: Sequence[str], width: int, heads: int, dropout: float, longest: int = LONGEST) -> None:
        super().__init__()
        if not subtasks or len(set(subtasks)) < len(subtasks):
            raise ModelError("a planner needs subtasks, each named once")
        self.subtasks, self.longest = tuple(subtasks), longest
        self.words = nn.Embedding(len(subtasks), width)
        self.beginning = nn.Parameter(0.02 * torch.randn(width))
        self.places = nn.Parameter(0.02 * torch.randn(longest + 1, width))
        self.sources = nn.Parameter(0.02 * torch.randn(2, width))  # tells goal and state apart
        self.source_norm = nn.LayerNorm(width)
        blocks = nn.ModuleList(_PlanBlock(width, heads, dropout) for _ in range(_LAYERS))
        self.blocks = cast("Sequence[_PlanBlock]", blocks)
        self.norm_out = nn.LayerNorm(width)
        self.next_subtask = nn.Linear(width, len(subtasks) + 1)
        self.proposal = nn.Linear(width, ACTION_WIDTH)

    @property
    def stop(self) -> int:
        """What ends a plan, behind the subtasks."""
        return len(self.subtasks)

    def forward(self, goal: Tensor, state: Tensor, plan: Plan) -> Reading:
        """goal, state: (B, D), features of where the task ends and of now. Steps that do not count change nothing.

        Raises ValueError for a plan that is longer than the longest.
        """
        self._check(plan.subtasks.shape[1])
        words = self.words(plan.subtasks.masked_fill(~plan.mask, 0))  # (B, L, D)
        beginning = self.beginning.expand(len(words), 1, -1)
        tokens = torch.cat((beginning, words), dim=1) + self.places[: words.shape[1] + 1]  # (B, L + 1, D)
        sources = self.source_norm(torch.stack((goal, state), dim=1)) + self.sources  # (B, 2, D)
        for block in self.blocks:
            tokens = block(tokens, sources)
        tokens = self.norm_out(tokens)
        features = tokens[:, 1:]
        return Reading(self.next_subtask(tokens), features, self.proposal(features))

    @torch.no_grad()
    def write(self, goal: Tensor, state: Tensor, begun: Plan | None = None) -> Plan:
        """The likeliest step after each, up to the stop or the longest plan. begun: what stays, and is continued.

        Raises ValueError where what stays is longer than the longest plan.
        """
        plan = self.plan_of([()] * len(goal)) if begun is None else begun
        self._check(int(plan.length.max()))
        subtasks, length = F.pad(plan.subtasks, (0, self.longest))[:, : self.longest], plan.length  # (B, longest)
        places = torch.arange(self.longest, device=length.device)
        is_open = torch.ones_like(length, dtype=torch.bool)
        for place in range(int(length.min()), self.longest):
            written = Plan(subtasks[:, :place], length.clamp(max=place))
            chosen = self(goal, state, written).logits[:, place].argmax(dim=-1)  # (B,)
            is_next = is_open & (length == place)
            is_step = is_next & (chosen != self.stop)
            is_open = is_open & (is_step | ~is_next)
            is_here = is_step.unsqueeze(-1) & (places == place)
            subtasks, length = torch.where(is_here, chosen.unsqueeze(-1), subtasks), length + is_step
            if not is_open.any():
                break
        return Plan(subtasks[:, : int(length.max())], length)

    def loss(
        self,
        goal: Tensor,
        state: Tensor,
        target: Plan,
        done: Tensor | None = None,
        proposals: Tensor | None = None,
    ) -> Tensor:
        """Cross-entropy of every step and of the stop, each told what came before it; and of proposals. -> ()

        done: (B,) long, steps that are given and not learned. proposals: (B, L, 14) normalised; their squared error
        counts at every step of the plan.
        """
        reading = self(goal, state, target)
        length = target.length.unsqueeze(-1)  # (B, 1)
        places = torch.arange(reading.logits.shape[1], device=length.device)  # (L + 1,)
        wanted = F.pad(target.subtasks, (0, 1)).masked_fill(places >= length, self.stop)  # (B, L + 1)
        counts = places <= length
        if done is not None:
            counts = counts & (places >= done.unsqueeze(-1))
        error = F.cross_entropy(reading.logits.transpose(1, 2), wanted, reduction="none")  # (B, L + 1)
        loss = weighted_mean(error, counts.to(error.dtype))
        if proposals is None:
            return loss
        off = (reading.proposals - proposals).square().mean(dim=-1)  # (B, L)
        return loss + weighted_mean(off, target.mask.to(off.dtype))

    def plan_of(self, names: Sequence[Sequence[str]]) -> Plan:
        """Plans by their subtasks' names. Raises ModelError that lists the names."""
        unknown = sorted({name for steps in names for name in steps} - set(self.subtasks))
        if unknown:
            raise ModelError(f"there is no subtask {unknown[0]!r}; choose one of {', '.join(self.subtasks)}")
        longest = max((len(steps) for steps in names), default=0)
        rows = [[self.subtasks.index(name) for name in steps] + [0] * (longest - len(steps)) for steps in names]
        device = self.beginning.device
        subtasks = torch.tensor(rows, dtype=torch.long, device=device).reshape(len(rows), longest)
        return Plan(subtasks, torch.tensor([len(steps) for steps in names], device=device))

    def names_of(self, plan: Plan) -> tuple[tuple[str, ...], ...]:
        """The inverse: a plan's steps in words, for each sample."""
        rows = zip(plan.subtasks.tolist(), plan.length.tolist(), strict=True)
        return tuple(tuple(self.subtasks[index] for index in row[:length]) for row, length in rows)

    def _check(self, steps: int) -> None:
        if steps > self.longest:
            raise ValueError(f"a plan of {steps} steps is longer than the longest, {self.longest}")


class GoalPredictor(nn.Module):
    """What will be seen when it is done, from what is said. It learns the features of ends that were reached."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.predict = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, language: Tensor) -> Tensor:
        """language: (B, D), of the instruction. -> (B, D)"""
        predicted: Tensor = self.predict(language)
        return predicted

    def loss(self, language: Tensor, goal: Tensor, weights: Tensor) -> Tensor:
        """Mean squared error. goal: (B, D), features of a success's last frame, which this does not teach; weights:
        (B,), 0 where there was no success. -> ()
        """
        return weighted_mean((self(language) - goal.detach()).square().mean(dim=-1), weights)


class _PlanBlock(nn.Module):
    """Steps look at those before them, then at goal and state, then each thinks for itself. Pre-norm, residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.step_norm = nn.LayerNorm(width)
        self.step_attention = MultiHeadAttention(width, heads, dropout)
        self.source_norm = nn.LayerNorm(width)
        self.source_attention = MultiHeadAttention(width, heads, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, sources: Tensor) -> Tensor:
        """steps: (B, N, D); sources: (B, 2, D). -> (B, N, D)"""
        count = steps.shape[1]
        causal = torch.ones(1, count, count, dtype=torch.bool, device=steps.device).tril()
        normed = self.step_norm(steps)
        steps = steps + self.dropout(self.step_attention(normed, normed, causal))
        steps = steps + self.dropout(self.source_attention(self.source_norm(steps), sources))
        thought: Tensor = self.dropout(self.mlp(self.mlp_norm(steps)))
        return steps + thought
