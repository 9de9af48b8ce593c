"""Attention over batch-first tokens, with masks that hold: what every part of the network is built from.

Shapes: B samples, N and M tokens, D width. A mask is True where a token is real. A query that may look at nothing
receives zeros, not an average of padding. Source: Vaswani et al., "Attention is all you need", 2017, in the pre-norm
form of Xiong et al., "On layer normalization in the transformer architecture", 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MLP_RATIO = 2


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of queries on keys.

    Raises ValueError if the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.dropout = dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)  # a softmax does not feel what all scores have in common
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """queries: (B, N, D); keys: (B, M, D); mask: (B, M) or (B, N, M) bool. -> (B, N, D)"""
        q, k, v = self._split(queries, keys)
        allowed = _pairs(mask)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, _additive(allowed, q), dropout)  # (B, heads, N, D / heads)
        return self._join(_silent(attended, allowed))

    def with_weights(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As forward, without dropout, and the weights averaged over heads. -> (B, N, D), (B, N, M)"""
        q, k, v = self._split(queries, keys)
        allowed = _pairs(mask)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, heads, N, M)
        bias = _additive(allowed, q)
        weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
        weights = _silent(weights, allowed)
        return self._join(weights @ v), weights.mean(dim=1)

    def _split(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._heads(self.q_proj(queries)), self._heads(self.k_proj(keys)), self._heads(self.v_proj(keys))

    def _heads(self, tokens: Tensor) -> Tensor:
        split = tokens.reshape(*tokens.shape[:-1], self.heads, -1)  # (B, N, D) -> (B, N, heads, D / heads)
        return split.transpose(1, 2)

    def _join(self, attended: Tensor) -> Tensor:
        joined: Tensor = self.out_proj(attended.transpose(1, 2).flatten(-2))  # (B, heads, N, D / heads) -> (B, N, D)
        return joined


class MeanOfOthers(nn.Module):
    """What is left of attention where nobody chooses: every query is told the same, the mean of the real keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_proj = nn.Linear(width, width)

    def with_weights(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """queries: (B, N, D); keys: (B, M, D); mask: (B, M) bool. -> (B, N, D), (B, N, M)"""
        real = keys.new_ones(keys.shape[:2], dtype=torch.bool) if mask is None else mask
        told = self.out_proj(masked_mean(keys, real)).unsqueeze(1) * real.any(dim=1)[:, None, None]  # (B, 1, D)
        shares = real.to(keys.dtype) / real.sum(dim=1, keepdim=True).clamp(min=1)  # (B, M)
        count = queries.shape[1]
        return told.expand(-1, count, -1), shares.unsqueeze(1).expand(-1, count, -1)


class FeedForward(nn.Sequential):
    """The two-layer perceptron of a transformer block. (..., D) -> (..., D)"""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        hidden = _MLP_RATIO * width
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class SelfAttentionBlock(nn.Module):
    """Tokens look at each other, then each thinks for itself. Pre-norm, residual."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens: (B, N, D); mask: (B, N) or (B, N, N) bool. -> (B, N, D)"""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.dropout(self.attention(normed, normed, mask))
        thought: Tensor = self.dropout(self.mlp(self.mlp_norm(tokens)))
        return tokens + thought

    def with_weights(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As forward, without dropout, and who looked at whom. -> (B, N, D), (B, N, N)"""
        normed = self.attention_norm(tokens)
        attended, weights = self.attention.with_weights(normed, normed, mask)
        tokens = tokens + attended
        return tokens + self.mlp(self.mlp_norm(tokens)), weights


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens; zeros where there is none. tokens: (B, N, D); mask: (B, N) bool. -> (B, D)"""
    weight = mask.unsqueeze(-1).to(tokens.dtype)  # (B, N, 1)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def _pairs(mask: Tensor | None) -> Tensor | None:
    """(B, M) or (B, N, M) -> (B, 1, 1 or N, M)"""
    if mask is None:
        return None
    return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]


def _additive(allowed: Tensor | None, like: Tensor) -> Tensor | None:
    """Zero where looking is allowed, the lowest number elsewhere: finite, so that a row without keys gives no NaN."""
    if allowed is None:
        return None
    lowest = torch.finfo(like.dtype).min
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill(~allowed, lowest)


def _silent(values: Tensor, allowed: Tensor | None) -> Tensor:
    """Zeros for every query that may look at nothing. values: (B, heads, N, anything)"""
    if allowed is None:
        return values
    return values * allowed.any(dim=-1, keepdim=True).to(values.dtype)
