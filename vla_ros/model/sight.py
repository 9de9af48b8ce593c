"""What a world model foretells: what is understood of an instant, what each view shows, and where the things are.

What is understood leaves out what the task does not need, such as a view that the policy hardly looks through: by that
alone a covered camera would not be noticed. And where a thing is makes a small part of it: by that alone a thing that
is moved by a hand's breadth would not be.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.model.attention import masked_mean
from vla_ros.model.config import VLAConfig
from vla_ros.model.vision import MultiViewFeatures

PLACE_UNIT_M = 0.1


@dataclass(frozen=True, eq=False)
class Sight:
    """features: (B, F), see SightLayout. is_complete: (B,) bool, whether all of the network's views are there."""

    features: Tensor
    is_complete: Tensor


@dataclass(frozen=True)
class SightLayout:
    """Of the F numbers: understood D; of each view D, the mean of its tokens, 0 where it is absent; of each place 3,
    from the tool [0.1 m], where the network has a head for them.
    """

    width: int
    views: tuple[str, ...]
    places: int

    @classmethod
    def of(cls, config: VLAConfig) -> SightLayout:
        """Of a network."""
        return cls(config.width, config.views, config.places)

    @property
    def size(self) -> int:
        """F."""
        return (1 + len(self.views)) * self.width + 3 * self.places

    @property
    def seen(self) -> slice:
        """Where the views are."""
        return slice(self.width, (1 + len(self.views)) * self.width)

    @property
    def where(self) -> slice:
        """Where the places are; empty without a head for them."""
        return slice((1 + len(self.views)) * self.width, self.size)

    def sight(self, understood: Tensor, vision: MultiViewFeatures, places: Tensor | None) -> Sight:
        """understood: (B, D); places: (B, places, 3) [m], from the tool, or None without a head."""
        parts = [understood]
        is_complete = torch.ones(len(understood), dtype=torch.bool, device=understood.device)
        for view in self.views:
            if view in vision.token_slices:
                mine = vision.token_slices[view]
                parts.append(masked_mean(vision.tokens[:, mine], vision.mask[:, mine]))
                is_complete = is_complete & vision.mask[:, mine].all(dim=1)
            else:
                parts.append(torch.zeros_like(understood))
                is_complete = torch.zeros_like(is_complete)
        if places is not None:
            parts.append(places.flatten(1) / PLACE_UNIT_M)
        return Sight(torch.cat(parts, dim=1), is_complete)
