"""What a world model foretells: what is understood of an instant, and what each view shows.

What is understood leaves out what the task does not need, such as a view that the policy hardly looks through: by that
alone a covered camera would not be noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.model.attention import masked_mean
from vla_ros.model.config import VLAConfig
from vla_ros.model.vision import MultiViewFeatures


@dataclass(frozen=True, eq=False)
class Sight:
    """features: (B, F), understood D, then of each of the network's views D: the mean of its tokens, 0 where it is
    absent. is_complete: (B,) bool, whether all of its views are there.
    """

    features: Tensor
    is_complete: Tensor


def sight_width(config: VLAConfig) -> int:
    """F, how many numbers a sight has."""
    return (1 + len(config.views)) * config.width


def sight_of(understood: Tensor, vision: MultiViewFeatures, views: tuple[str, ...]) -> Sight:
    """understood: (B, D); views: the network's own, of which vision has some."""
    parts = [understood]
    is_complete = torch.ones(len(understood), dtype=torch.bool, device=understood.device)
    for view in views:
        if view in vision.token_slices:
            mine = vision.token_slices[view]
            parts.append(masked_mean(vision.tokens[:, mine], vision.mask[:, mine]))
            is_complete = is_complete & vision.mask[:, mine].all(dim=1)
        else:
            parts.append(torch.zeros_like(understood))
            is_complete = torch.zeros_like(is_complete)
    return Sight(torch.cat(parts, dim=1), is_complete)
