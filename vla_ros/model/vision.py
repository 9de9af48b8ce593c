"""From the cameras' images to tokens: one encoder for all views or one for each, then the views look at each other.

Shapes: B samples, P patches of one view, V views, N patches of all views, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from vla_ros.errors import ModelError
from vla_ros.model.attention import SelfAttentionBlock, masked_mean
from vla_ros.model.backbones import PatchFeatures, make_backbone
from vla_ros.model.config import VisionConfig
from vla_ros.model.preprocessing import Preprocessing

_SHARED = "shared"
_FREQUENCIES = 8
_HIGHEST_FREQUENCY = 16.0  # half periods across the image


@dataclass(frozen=True, eq=False)
class VisionFeatures:
    """One view as tokens. patch_features: (B, P, D); global_features: (B, D); positions: (P, 2), x and y in 0..1."""

    patch_features: Tensor
    global_features: Tensor
    positions: Tensor


@dataclass(frozen=True, eq=False)
class MultiViewFeatures:
    """All views as tokens, after they looked at each other.

    views: in the order of the tokens. tokens: (B, N, D), zero where absent. mask: (B, N) bool, False for tokens of
    absent views. view_features: (B, V, D), each view as a whole. fused_features: (B, D), their mean over present views.
    attention_weights: (B, V, V), how much view i as a whole looks at view j; rows sum to 1 for present views and are
    zero for absent ones. token_slices: where each view's tokens are. grids: rows and columns of each view's patches.
    """

    views: tuple[str, ...]
    tokens: Tensor
    mask: Tensor
    view_features: Tensor
    fused_features: Tensor
    attention_weights: Tensor
    token_slices: Mapping[str, slice]
    grids: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class _Layout:
    """The order of tokens: one for each view as a whole, then the patches of each. patches: view -> P, in order."""

    patches: Mapping[str, int]

    def owners(self, device: torch.device) -> Tensor:
        """The index of the view that each token belongs to. -> (V + N,)"""
        counts = [1] * len(self.patches) + list(self.patches.values())
        views = torch.arange(len(self.patches), device=device).repeat(2)  # (2V,)
        return views.repeat_interleave(torch.tensor(counts, device=device))

    def token_slices(self) -> dict[str, slice]:
        """Where each view's patches are among all N."""
        ends = accumulate(self.patches.values())
        return {view: slice(end - count, end) for (view, count), end in zip(self.patches.items(), ends, strict=True)}

    def grids(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of each view's patches: images are square."""
        return {view: (math.isqrt(count), math.isqrt(count)) for view, count in self.patches.items()}


class PositionEmbedding(nn.Module):
    """Where a patch is, as Fourier features: Tancik et al., "Fourier features let networks learn high frequency
    functions", 2020. Of positions and not of indices, so any number of patches will do.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        exponents = torch.linspace(0.0, math.log2(_HIGHEST_FREQUENCY), _FREQUENCIES)
        self.register_buffer("frequencies", math.pi * 2.0**exponents, persistent=False)
        self.projection = nn.Linear(4 * _FREQUENCIES, width)

    def forward(self, positions: Tensor) -> Tensor:
        """(P, 2) in 0..1 -> (P, D)"""
        angles = (positions[..., None] * self.frequencies).flatten(-2)  # (P, 2, F) -> (P, 2F)
        embedded: Tensor = self.projection(torch.cat((angles.sin(), angles.cos()), dim=-1))
        return embedded


class VisionEncoder(nn.Module):
    """A backbone, and the projection of its features to the network's width.

    Raises ModelError if the backbone cannot be had.
    """

    def __init__(self, config: VisionConfig, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = make_backbone(config, condition_width=width)
        self.projection = nn.Linear(self.backbone.feature_dim, width)
        self.global_projection = nn.Linear(self.backbone.feature_dim, width)
        self.position_embedding = PositionEmbedding(width)
        self.layer_norm = nn.LayerNorm(width)
        self.global_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images_or_patches: Tensor | PatchFeatures, condition: Tensor | None = None) -> VisionFeatures:
        """Images (B, 3, S, S) uint8, or what `extract` made of them. condition: (B, D), the instruction."""
        if isinstance(images_or_patches, PatchFeatures):
            return self.project(images_or_patches)
        return self.project(self.extract(images_or_patches, condition))

    def extract(self, images: Tensor, condition: Tensor | None = None) -> PatchFeatures:
        """The backbone alone; without gradients if it is frozen, so that its output may be cached."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features: PatchFeatures = self.backbone(images, condition)
        return features

    def project(self, patches: PatchFeatures) -> VisionFeatures:
        """(B, P, C) -> (B, P, D)"""
        placed = self.projection(patches.patches) + self.position_embedding(patches.positions)  # (B, P, D)
        patch_features = self.dropout(self.layer_norm(placed))
        global_features = self.dropout(self.global_norm(self.global_projection(patches.pooled)))  # (B, D)
        return VisionFeatures(patch_features, global_features, patches.positions)

    @property
    def preprocessing(self) -> Preprocessing:
        """What makes this encoder's images of frames."""
        return self.backbone.preprocessing

    @property
    def is_frozen(self) -> bool:
        """Whether the whole backbone is."""
        return self.backbone.is_frozen

    def frozen_parameters(self) -> Iterator[nn.Parameter]:
        """Those of the backbone that are not trained."""
        return (parameter for parameter in self.backbone.parameters() if not parameter.requires_grad)


class ViewProcessor(nn.Module):
    """What is particular to one view: a small residual network, and an embedding that says which view it is."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.Dropout(dropout))
        self.embedding = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, D) -> (B, P, D)"""
        processed: Tensor = tokens + self.mlp(tokens) + self.embedding
        return processed


class MultiViewVisionEncoder(nn.Module):
    """Named views to tokens that know of each other. Raises ModelError if a backbone cannot be had.

    Every view has its patches, and one more token for the view as a whole; all of them attend to all that are present.
    """

    def __init__(
        self, config: VisionConfig, views: Sequence[str], width: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.views = tuple(views)
        keys = [_SHARED] if config.shared else [_key(view) for view in self.views]
        self.encoders = nn.ModuleDict({key: VisionEncoder(config, width, dropout) for key in keys})
        self.processors = nn.ModuleDict({_key(view): ViewProcessor(width, dropout) for view in self.views})
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(config.cross_view_layers))
        self.norm = nn.LayerNorm(width)

    def all_encoders(self) -> Iterator[VisionEncoder]:
        """One, or one for each view."""
        return (encoder for encoder in self.encoders.values() if isinstance(encoder, VisionEncoder))

    def encoder_of(self, view: str) -> VisionEncoder:
        """The one that all views share, or the view's own. Raises ModelError for an unknown view."""
        self._require_known([view])
        encoder = self.encoders[_SHARED if _SHARED in self.encoders else _key(view)]
        assert isinstance(encoder, VisionEncoder)
        return encoder

    def forward(
        self,
        images: Mapping[str, Tensor | PatchFeatures],
        present: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
    ) -> MultiViewFeatures:
        """images: view -> (B, 3, S, S) uint8, or what its encoder extracted; a view that is not there is absent.

        present: view -> (B,) bool; True for all where not given. What an absent view's pixels are changes nothing.
        condition: (B, D), the instruction. Raises ModelError for an unknown view, and for none at all.
        """
        self._require_known([*images, *(present or {})])
        if not images:
            raise ModelError(f"there must be at least one view of {', '.join(self.views)}")
        extracted = self._extract(images, condition)
        is_present = _presence(extracted, present or {})  # (B, V)
        layout = _Layout({view: patches.patches.shape[1] for view, patches in extracted.items()})
        owners = layout.owners(is_present.device)  # (V + N,)
        mask = is_present[:, owners]  # (B, V) -> (B, V + N)
        tokens, weights = self._look_around(self._tokens(extracted, is_present), mask)
        tokens = self.norm(tokens) * mask.unsqueeze(-1)
        count = is_present.shape[1]
        return MultiViewFeatures(
            views=tuple(extracted),
            tokens=tokens[:, count:],
            mask=mask[:, count:],
            view_features=tokens[:, :count],
            fused_features=masked_mean(tokens[:, :count], is_present),
            attention_weights=_between_views(weights, owners, is_present),
            token_slices=layout.token_slices(),
            grids=layout.grids(),
        )

    def _extract(
        self, images: Mapping[str, Tensor | PatchFeatures], condition: Tensor | None
    ) -> dict[str, PatchFeatures]:
        """The backbone's features of every view; views that share a backbone pass it as one batch."""
        extracted = {view: given for view, given in images.items() if isinstance(given, PatchFeatures)}
        pixels = {view: given for view, given in images.items() if isinstance(given, Tensor)}
        groups = [list(pixels)] if pixels and _SHARED in self.encoders else [[view] for view in pixels]
        for group in groups:
            stacked = torch.cat([pixels[view] for view in group])  # (V * B, 3, S, S)
            repeated = None if condition is None else condition.repeat(len(group), 1)  # (V * B, D)
            features = self.encoder_of(group[0]).extract(stacked, repeated)
            extracted |= zip(group, features.split(len(group)), strict=True)
        return {view: extracted[view] for view in images}

    def _tokens(self, extracted: Mapping[str, PatchFeatures], is_present: Tensor) -> Tensor:
        """Each view as a whole, then the patches of each. is_present: (B, V). -> (B, V + N, D)"""
        wholes, patches = [], []
        for (view, features), is_there in zip(extracted.items(), is_present.unbind(dim=1), strict=True):
            projected = self.encoder_of(view).project(_hide(features, is_there))
            process = self.processors[_key(view)]
            wholes.append(process(projected.global_features.unsqueeze(1)))  # (B, 1, D)
            patches.append(process(projected.patch_features))  # (B, P, D)
        return torch.cat([*wholes, *patches], dim=1)

    def _look_around(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """All blocks; the last one, without dropout, reports its attention. Without any, each token sees itself alone.

        (B, V + N, D), (B, V + N) -> (B, V + N, D), (B, V + N, V + N)
        """
        if not len(self.blocks):
            count = tokens.shape[1]
            return tokens, torch.eye(count, dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1, -1)
        *first, last = self.blocks
        for block in first:
            tokens = block(tokens, mask)
        assert isinstance(last, SelfAttentionBlock)
        return last.with_weights(tokens, mask)

    def _require_known(self, views: Sequence[str]) -> None:
        for view in views:
            if view not in self.views:
                raise ModelError(f"view {view!r} is not one of {', '.join(self.views)}")


def _key(view: str) -> str:
    """Unlike a bare view name, never the name of one of a ModuleDict's own methods."""
    return f"view_{view}"


def _presence(extracted: Mapping[str, PatchFeatures], present: Mapping[str, Tensor]) -> Tensor:
    """(B, V) bool"""
    everywhere = [features.pooled.new_ones(len(features.pooled), dtype=torch.bool) for features in extracted.values()]
    return torch.stack([present.get(view, all_of) for view, all_of in zip(extracted, everywhere, strict=True)], dim=1)


def _hide(patches: PatchFeatures, is_present: Tensor) -> PatchFeatures:
    """Zeros instead of whatever an absent view holds, NaN included. is_present: (B,)"""
    kept, pooled = is_present[:, None, None], is_present[:, None]
    return PatchFeatures(
        torch.where(kept, patches.patches, 0.0), patches.positions, torch.where(pooled, patches.pooled, 0.0)
    )


def _between_views(weights: Tensor, owners: Tensor, is_present: Tensor) -> Tensor:
    """What the whole views' tokens look at, summed over each view's tokens.

    weights: (B, V + N, V + N); owners: (V + N,); is_present: (B, V). -> (B, V, V)
    """
    count = is_present.shape[1]
    membership = nn.functional.one_hot(owners, count).to(weights.dtype)  # (V + N, V)
    return weights[:, :count] @ membership * is_present.unsqueeze(-1)
