"""Do vision and language speak of the same thing? A contrastive loss that teaches it, and a monitor that measures it.

A cosine between spaces that nothing ever aligned measures nothing; after training with this loss it does.
Sources: Radford et al., "CLIP", 2021; samples that share an instruction are positives of each other, as in Khosla et
al., "Supervised contrastive learning", 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FIRST_TEMPERATURE = 0.07
_MAX_SCALE = 100.0


class AlignmentHead(nn.Module):
    """Brings both modalities into one space of unit vectors. Features: (B, D) each."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.vision_proj = nn.Linear(feature_dim, feature_dim)
        self.language_proj = nn.Linear(feature_dim, feature_dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_FIRST_TEMPERATURE)))

    def embed(self, vision_features: Tensor, language_features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D), (B, D) -> unit vectors (B, D), (B, D)."""
        return (
            F.normalize(self.vision_proj(vision_features), dim=-1),
            F.normalize(self.language_proj(language_features), dim=-1),
        )

    def loss(self, vision_features: Tensor, language_features: Tensor, instruction: Tensor) -> Tensor:
        """Symmetric cross-entropy over the batch. instruction: (B,) long, equal where the instruction is. -> ()

        Samples of one instruction are not told apart; the loss only evens out how near their images are to it.
        """
        vision, language = self.embed(vision_features, language_features)
        scores = self.log_scale.exp().clamp(max=_MAX_SCALE) * vision @ language.t()  # (B, B)
        same = (instruction[:, None] == instruction[None, :]).to(scores.dtype)
        wanted = same / same.sum(dim=1, keepdim=True)  # symmetric, so it serves both directions
        by_vision = _cross_entropy(scores, wanted) + torch.log(wanted.amax(dim=1)).mean()
        by_language = _cross_entropy(scores.t(), wanted) + torch.log(wanted.amax(dim=1)).mean()
        return 0.5 * (by_vision + by_language)


@dataclass(frozen=True)
class AlignmentReport:
    """Mean cosine of pairs that belong together and of pairs that do not; NaN where a batch has no such pair.

    retrieval: share of images whose nearest instruction is their own; chance: what guessing would reach.
    """

    matched: float
    mismatched: float
    retrieval: float
    chance: float

    @property
    def score(self) -> float:
        """How much nearer matched pairs are than mismatched ones. Zero without any alignment."""
        return self.matched - self.mismatched

    def __str__(self) -> str:
        return (
            f"alignment {self.score:.3f} (matched {self.matched:.3f}, mismatched {self.mismatched:.3f}); "
            f"own instruction found for {self.retrieval:.0%} of the images (by chance {self.chance:.0%})"
        )


def monitor_alignment(
    vision_features: Tensor, language_features: Tensor, instruction: Tensor | None = None
) -> AlignmentReport:
    """Compare matched with mismatched pairs. Features (B, D), aligned by AlignmentHead.embed.

    instruction: (B,) long, equal where the instruction is; without it every sample has its own.
    """
    names = torch.arange(len(vision_features)) if instruction is None else instruction.cpu()
    vision = F.normalize(vision_features.detach().float(), dim=-1).cpu()
    language = F.normalize(language_features.detach().float(), dim=-1).cpu()
    cosines = vision @ language.t()  # (B, B)
    same = names[:, None] == names[None, :]
    found = same.gather(1, cosines.argmax(dim=1, keepdim=True)).float().mean()
    return AlignmentReport(
        matched=float(cosines[same].mean()),
        mismatched=float(cosines[~same].mean()),
        retrieval=float(found),
        chance=float(same.float().mean()),
    )


def _cross_entropy(scores: Tensor, wanted: Tensor) -> Tensor:
    return -(wanted * torch.log_softmax(scores, dim=1)).sum(dim=1).mean()
