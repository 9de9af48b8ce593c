"""Vision and language look at each other, level by level, and back in time.

Shapes: B samples, N perception tokens (views and robot state), L language tokens, T earlier instants, D width.
Sources: cross-modal attention after Lu et al., "ViLBERT", 2019 (co-attention), in pre-norm form.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_ros.model.attention import FeedForward, MeanOfOthers, MultiHeadAttention, masked_mean


@dataclass(frozen=True, eq=False)
class CrossModalFeatures:
    """What one level gives. Attention weights are averages over heads; the rows of real tokens sum to 1."""

    fused_features: Tensor  # (B, D)
    vision_attended: Tensor  # (B, N, D)
    language_attended: Tensor  # (B, L, D)
    vision_to_language: Tensor  # (B, N, L): which words each piece of the image looks at
    language_to_vision: Tensor  # (B, L, N): which pieces of the image each word looks at


@dataclass(frozen=True, eq=False)
class FusedFeatures:
    """What all levels give together.

    fused_features: (B, D), after looking back in time. frame_features: (B, D), of this instant alone: what a later
    instant is given as its history. levels: first to last.
    """

    fused_features: Tensor
    frame_features: Tensor
    vision_attended: Tensor  # (B, N, D)
    language_attended: Tensor  # (B, L, D)
    levels: tuple[CrossModalFeatures, ...]


class CrossModalAttention(nn.Module):
    """Vision attends to language and language to vision, at once; each then goes through a perceptron.

    attends: or else each is told the other's mean, and nothing of which token says what.
    """

    def __init__(self, feature_dim: int = 512, num_heads: int = 8, dropout: float = 0.1, attends: bool = True) -> None:
        super().__init__()
        self.norm_vision = nn.LayerNorm(feature_dim)
        self.norm_language = nn.LayerNorm(feature_dim)
        self.vision_attention, self.language_attention = (
            MultiHeadAttention(feature_dim, num_heads, dropout) if attends else MeanOfOthers(feature_dim)
            for _ in range(2)
        )
        self.vision_mlp = nn.Sequential(nn.LayerNorm(feature_dim), FeedForward(feature_dim, dropout))
        self.language_mlp = nn.Sequential(nn.LayerNorm(feature_dim), FeedForward(feature_dim, dropout))
        self.out_proj = nn.Linear(2 * feature_dim, feature_dim)
        self.norm_fused = nn.LayerNorm(feature_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        vision_features: Tensor,
        language_features: Tensor,
        vision_mask: Tensor | None = None,
        language_mask: Tensor | None = None,
    ) -> CrossModalFeatures:
        """vision_features: (B, N, D); language_features: (B, L, D); masks: (B, N), (B, L) bool, True where real."""
        vision, language = self.norm_vision(vision_features), self.norm_language(language_features)
        from_language, vision_weights = self.vision_attention.with_weights(vision, language, language_mask)
        from_vision, language_weights = self.language_attention.with_weights(language, vision, vision_mask)
        vision_attended = vision_features + self.dropout(from_language)  # (B, N, D)
        language_attended = language_features + self.dropout(from_vision)  # (B, L, D)
        vision_attended = vision_attended + self.dropout(self.vision_mlp(vision_attended))
        language_attended = language_attended + self.dropout(self.language_mlp(language_attended))
        pooled = [_pooled(vision_attended, vision_mask), _pooled(language_attended, language_mask)]  # 2 x (B, D)
        fused = self.norm_fused(self.out_proj(torch.cat(pooled, dim=-1)))  # (B, 2D) -> (B, D)
        return CrossModalFeatures(fused, vision_attended, language_attended, vision_weights, language_weights)


class TemporalAttention(nn.Module):
    """This instant looks at itself and at up to `history` earlier ones. A lag embedding tells them apart."""

    def __init__(self, feature_dim: int, num_heads: int, history: int, dropout: float) -> None:
        super().__init__()
        self.history = history
        self.lag = nn.Parameter(torch.zeros(history + 1, feature_dim))  # row 0 is now, row k is k instants ago
        nn.init.normal_(self.lag, std=0.02)
        self.norm = nn.LayerNorm(feature_dim)
        self.attention = MultiHeadAttention(feature_dim, num_heads, dropout)

    def forward(self, now: Tensor, temporal_features: Tensor | None, temporal_mask: Tensor | None) -> Tensor:
        """now: (B, D); temporal_features: (B, T, D), oldest first, at most `history` of them. -> (B, D)"""
        sequence, mask = self._sequence(now, temporal_features, temporal_mask)  # (B, T + 1, D), now last
        lags = self.lag[: sequence.shape[1]].flip(0)
        sequence = self.norm(sequence) + lags
        attended: Tensor = self.attention(sequence[:, -1:], sequence, mask)
        return attended.squeeze(1)

    def _sequence(
        self, now: Tensor, temporal_features: Tensor | None, temporal_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if temporal_features is None:
            return now.unsqueeze(1), None
        if temporal_features.shape[1] > self.history:
            raise ValueError(f"{temporal_features.shape[1]} earlier instants are more than {self.history}")
        sequence = torch.cat([temporal_features, now.unsqueeze(1)], dim=1)
        if temporal_mask is None:
            return sequence, None
        return sequence, torch.cat([temporal_mask, temporal_mask.new_ones(len(now), 1)], dim=1)


class HierarchicalFusion(nn.Module):
    """Levels of cross-modal attention, each working on what the last one gave; a learned mixture of their summaries."""

    def __init__(
        self,
        feature_dim: int = 512,
        num_heads: int = 8,
        num_layers: int = 3,
        history: int = 0,
        dropout: float = 0.1,
        attends: bool = True,
    ) -> None:
        super().__init__()
        self.fusion_layers = nn.ModuleList(
            [CrossModalAttention(feature_dim, num_heads, dropout, attends) for _ in range(num_layers)]
        )
        self.level_logits = nn.Parameter(torch.zeros(num_layers))
        # Attention over one instant would be a plain linear layer: without a history there is none.
        self.temporal_attention = TemporalAttention(feature_dim, num_heads, history, dropout) if history else None
        self.final_projection = nn.Sequential(
            nn.LayerNorm(feature_dim), FeedForward(feature_dim, dropout), nn.LayerNorm(feature_dim)
        )

    def forward(
        self,
        vision_features: Tensor,
        language_features: Tensor,
        vision_mask: Tensor | None = None,
        language_mask: Tensor | None = None,
        temporal_features: Tensor | None = None,
        temporal_mask: Tensor | None = None,
    ) -> FusedFeatures:
        """(B, N, D), (B, L, D), their masks; frame_features of earlier instants (B, T, D), oldest first; mask (B, T).

        Raises ValueError if it is given a history that it was not built for.
        """
        levels: list[CrossModalFeatures] = []
        vision, language = vision_features, language_features
        for layer in self.fusion_layers:
            levels.append(layer(vision, language, vision_mask, language_mask))
            vision, language = levels[-1].vision_attended, levels[-1].language_attended
        shares = torch.softmax(self.level_logits, dim=0)  # (levels,)
        summaries = torch.stack([level.fused_features for level in levels])  # (levels, B, D)
        frame = torch.einsum("l,lbd->bd", shares, summaries)
        fused = self.final_projection(frame + self._look_back(frame, temporal_features, temporal_mask))
        return FusedFeatures(fused, frame, vision, language, tuple(levels))

    def _look_back(self, frame: Tensor, temporal_features: Tensor | None, mask: Tensor | None) -> Tensor:
        if self.temporal_attention is not None:
            attended: Tensor = self.temporal_attention(frame, temporal_features, mask)
            return attended
        if temporal_features is not None:
            raise ValueError("this fusion was built without a history")
        return torch.zeros_like(frame)


def _pooled(tokens: Tensor, mask: Tensor | None) -> Tensor:
    return tokens.mean(dim=1) if mask is None else masked_mean(tokens, mask)
