"""A chunk of rows from the fused memory: what every action head answers to, and the transformer of two of them.

Shapes: B samples, H rows, M memory tokens, D width. A row enters the transformer as what is known of it, and its time
says how much that is: 0 nothing, 1 all of it. Rows that are already committed enter whole, at time 1, and the others
continue them, as in Black et al., "Training-time action conditioning for efficient real-time chunking", 2025
(arXiv 2512.05964): in training the delay that commits them is simulated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.model.actions import ActionStatistics
from vla_ros.model.attention import FeedForward, MultiHeadAttention
from vla_ros.model.config import DecoderConfig
from vla_ros.types import ACTION_WIDTH

_ROUNDED = 0.05  # below this normalised error the absolute error is rounded off into a square, so that it can settle
_PERIODS = (4e-3, 4.0)  # of the time embedding, for times in 0..1: pi0's


@dataclass(frozen=True, eq=False)
class Prefix:
    """What is left of the previous chunk while a new one is made.

    rows: (B, H, 14), physical and relative to the new chunk's origin; the first length of them, (B,) long, will be
    carried out whatever the new chunk says. The others are not looked at.
    """

    rows: Tensor
    length: Tensor

    @property
    def committed(self) -> Tensor:
        """True for the rows that will be carried out. -> (B, H) bool"""
        return torch.arange(self.rows.shape[1], device=self.length.device) < self.length.unsqueeze(-1)

    def continued_by(self, rows: Tensor) -> Tensor:
        """The committed rows as they are, then the given ones. (B, H, 14) -> (B, H, 14)"""
        return torch.where(self.committed.unsqueeze(-1), self.rows.to(rows.dtype), rows)


@dataclass(frozen=True, eq=False)
class Memory:
    """What the network has understood. tokens: (B, M, D); mask: (B, M) bool, True where real; pooled: (B, D)."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class ActionHead(nn.Module, ABC):
    """From what the network has understood to `horizon` rows; how is a subclass's choice."""

    horizon: int

    @abstractmethod
    def loss(
        self,
        memory: Memory,
        target: Tensor,
        statistics: ActionStatistics,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """How far the head is from the target: a mean over the rows to learn from, in normalised units. -> ()

        target: (B, H, 14) physical; weights: (B, H), 0 where there is no row to learn from; generator: of all that is
        drawn, on any device.
        """

    @abstractmethod
    def sample(
        self,
        memory: Memory,
        statistics: ActionStatistics,
        prefix: Prefix | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A chunk that begins with the prefix, unchanged. Shapes as for loss. -> (B, H, 14), valid physical rows"""


def drawing_device(generator: torch.Generator | None, like: Tensor) -> torch.device:
    """Where a generator draws, or without one where the numbers are needed."""
    return like.device if generator is None else generator.device


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Zero where nothing has weight. values, weights: of one shape. -> ()"""
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0.0, total, 1.0)


@dataclass(frozen=True, eq=False)
class Context:
    """All that the rows of a chunk depend on, prepared once, however often they are decoded.

    keys, values: each block's view of the memory, (B, heads, M, D / heads). mask: (B, 1, 1, M) bool. pooled: (B, 1, D).
    rows: (B, H, 14), normalised, known where committed, (B, H) bool; in training known everywhere, but not to be told.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor
    pooled: Tensor
    rows: Tensor
    committed: Tensor


class MemoryAttention(MultiHeadAttention):
    """Attention to a memory that stays the same, and whose keys and values are therefore projected only once."""

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, D) -> keys and values, (B, heads, M, D / heads)"""
        return self._heads(self.k_proj(memory)), self._heads(self.v_proj(memory))

    def look(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """queries: (B, H, D); keys, values: from project; mask: (B, 1, 1, M) bool, no row all False. -> (B, H, D)"""
        dropout = self.dropout if self.training else 0.0
        looked = F.scaled_dot_product_attention(self._heads(self.q_proj(queries)), keys, values, mask, dropout)
        return self._join(looked)


@dataclass(frozen=True, eq=False)
class Modulation:
    """How a row's normalised features are scaled and shifted: (B, H, D) each."""

    gain: Tensor
    shift: Tensor

    def __call__(self, normed: Tensor) -> Tensor:
        """(B, H, D) -> (B, H, D)"""
        return torch.addcmul(self.shift, normed, self.gain)


class TimeModulation(nn.Module):
    """From a row's time and the pooled features to the modulations of a block's three parts (adaptive layer norm).

    Sources: Peebles and Xie, "Scalable diffusion models with transformers", 2023; one network serves all blocks, as in
    Chen et al., "PixArt-alpha", 2023, and each block's own norms set it apart.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        shortest, longest = _PERIODS
        periods = torch.logspace(math.log10(shortest), math.log10(longest), width // 2)
        self.register_buffer("frequencies", 2.0 * math.pi / periods, persistent=False)
        self.time_in = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled_in = nn.Linear(width, width)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, times: Tensor, pooled: Tensor) -> tuple[Modulation, Modulation, Modulation]:
        """times: (B, H) in 0..1; pooled: (B, 1, D). Tensors of (B, H, D)"""
        angles = times.unsqueeze(-1) * self.frequencies  # (B, H, D / 2)
        waves = torch.cat((angles.sin(), angles.cos()), dim=-1)  # (B, H, D)
        modulation = self.out(self.time_in(waves) + self.pooled_in(pooled))  # (B, H, 6 D)
        gains, shifts = modulation.chunk(2, dim=-1)  # (B, H, 3 D)
        first, second, third = zip((1.0 + gains).chunk(3, dim=-1), shifts.chunk(3, dim=-1), strict=True)
        return Modulation(*first), Modulation(*second), Modulation(*third)


class RowBlock(nn.Module):
    """Rows look at each other, then at the memory, then each thinks for itself. Pre-norm, modulated, residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.row_norm = nn.LayerNorm(width)
        self.row_attention = MultiHeadAttention(width, heads, dropout)
        self.memory_norm = nn.LayerNorm(width)
        self.memory_attention = MemoryAttention(width, heads, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        rows: Tensor,
        modulations: tuple[Modulation, Modulation, Modulation],
        memory: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """rows: (B, H, D); memory: keys, values, mask. -> (B, H, D)"""
        to_rows, to_memory, to_mlp = modulations
        normed = to_rows(self.row_norm(rows))
        rows = rows + self.dropout(self.row_attention(normed, normed))
        rows = rows + self.dropout(self.memory_attention.look(to_memory(self.memory_norm(rows)), *memory))
        thought: Tensor = self.dropout(self.mlp(to_mlp(self.mlp_norm(rows))))
        return rows + thought


class ChunkDecoder(ActionHead):
    """One learned query per row and a transformer that says what the rows are; subclasses say what it is told of them.

    The loss is a squared error, from which flow matching is derived, unless a subclass says otherwise.
    """

    def __init__(self, config: DecoderConfig, width: int, heads: int, dropout: float) -> None:
        """Raises ValueError if the heads do not divide the width."""
        super().__init__()
        self.horizon = config.horizon
        self.max_prefix = config.max_prefix
        self.queries = nn.Parameter(torch.randn(config.horizon, width))
        self.row_in = nn.Linear(ACTION_WIDTH, width)
        self.modulation = TimeModulation(width)
        blocks = nn.ModuleList(RowBlock(width, heads, dropout) for _ in range(config.layers))
        self.blocks = cast("Sequence[RowBlock]", blocks)
        self.norm_out = nn.LayerNorm(width)
        self.row_out = nn.Linear(width, ACTION_WIDTH)

    def loss(
        self,
        memory: Memory,
        target: Tensor,
        statistics: ActionStatistics,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ActionHead. The first 0 to max_prefix rows, drawn for each sample, are given and not learned from.

        Rows of no weight stand for the last one that has some, whatever they are. They must not be hidden instead: how
        many there are would tell in training, but never later, how far away the end of an episode is.
        """
        weights = torch.ones_like(target[..., 0]) if weights is None else weights  # (B, H)
        known = Prefix(_held(target, weights), self._drawn_lengths(target, generator))
        context = self._context(memory, known, statistics)
        residual = self._residual(context, generator)  # (B, H, 14)
        return weighted_mean(self._penalty(residual).mean(dim=-1), weights * ~context.committed)

    @torch.no_grad()
    def sample(
        self,
        memory: Memory,
        statistics: ActionStatistics,
        prefix: Prefix | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ActionHead. A prefix of more than max_prefix rows is continued too, but was never trained for."""
        known = self._nothing_committed(len(memory.pooled)) if prefix is None else prefix
        context = self._context(memory, known, statistics)
        return known.continued_by(statistics.denormalise(self._generate(context, generator)))

    def _penalty(self, residual: Tensor) -> Tensor:
        """(B, H, 14) -> (B, H, 14)"""
        return residual.square()

    @abstractmethod
    def _residual(self, context: Context, generator: torch.Generator | None) -> Tensor:
        """What is predicted for each row, less what should be. -> (B, H, 14)"""

    @abstractmethod
    def _generate(self, context: Context, generator: torch.Generator | None) -> Tensor:
        """Rows that continue the committed ones, normalised. -> (B, H, 14); whatever stands for those is not used."""

    def _context(
        self,
        memory: Memory,
        known: Prefix,
        statistics: ActionStatistics,
    ) -> Context:
        """The pooled features are a token of the memory too, so that no row ever looks at nothing."""
        pooled = memory.pooled.unsqueeze(1)  # (B, D) -> (B, 1, D)
        tokens = torch.cat((pooled, memory.tokens), dim=1)  # (B, 1 + M, D)
        allowed = F.pad(memory.mask, (1, 0), value=True)[:, None, None, :]  # (B, M) -> (B, 1, 1, 1 + M)
        keys, values = zip(*(block.memory_attention.project(tokens) for block in self.blocks), strict=True)
        return Context(keys, values, allowed, pooled, statistics.normalise(known.rows), known.committed)

    def _decode(self, rows: Tensor, times: Tensor, context: Context) -> Tensor:
        """What the rows are, from what is known of them. rows: (B, H, 14) normalised; times: (B, H). -> (B, H, 14)"""
        tokens = self.queries + self.row_in(rows)  # (B, H, 14) -> (B, H, D)
        modulations = self.modulation(times, context.pooled)
        for block, keys, values in zip(self.blocks, context.keys, context.values, strict=True):
            tokens = block(tokens, modulations, (keys, values, context.mask))
        decoded: Tensor = self.row_out(self.norm_out(tokens))  # (B, H, D) -> (B, H, 14)
        return decoded

    def _drawn_lengths(self, target: Tensor, generator: torch.Generator | None) -> Tensor:
        """-> (B,) long, 0 to max_prefix, each as likely as the others."""
        device = drawing_device(generator, target)
        lengths = torch.randint(self.max_prefix + 1, (len(target),), generator=generator, device=device)
        return lengths.to(target.device)

    def _nothing_committed(self, samples: int) -> Prefix:
        rows = self.queries.new_zeros(samples, self.horizon, ACTION_WIDTH)
        return Prefix(rows, torch.zeros(samples, dtype=torch.long, device=rows.device))


def _held(target: Tensor, weights: Tensor) -> Tensor:
    """Rows of no weight replaced by the last one before them that has some. (B, H, 14), (B, H) -> (B, H, 14)"""
    index = torch.arange(target.shape[1], device=target.device) * (weights > 0.0)  # (B, H)
    last = index.cummax(dim=1).values
    return target.gather(1, last.unsqueeze(-1).expand_as(target))


class RegressionChunkDecoder(ChunkDecoder):
    """All rows at once: the median of what the data shows, which is no row of the data's where it shows two ways.

    The absolute error holds small motions, on which a grasp depends, as dear as large ones: Zhao et al., "Learning
    fine-grained bimanual manipulation with low-cost hardware" (ACT), 2023.
    """

    def _penalty(self, residual: Tensor) -> Tensor:
        return F.smooth_l1_loss(residual, torch.zeros_like(residual), reduction="none", beta=_ROUNDED)

    def _residual(self, context: Context, generator: torch.Generator | None) -> Tensor:
        return self._generate(context, generator) - context.rows

    def _generate(self, context: Context, generator: torch.Generator | None) -> Tensor:
        known = torch.where(context.committed.unsqueeze(-1), context.rows, 0.0)
        return self._decode(known, context.committed.to(known.dtype), context)
