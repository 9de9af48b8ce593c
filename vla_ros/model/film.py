"""A small residual network that the instruction steers, trained end to end from pixels.

FiLM: Perez et al., "FiLM: Visual reasoning with a general conditioning layer", 2018; in front of a robot policy,
starting as the identity, as in Brohan et al., "RT-1: Robotics transformer for real-world control at scale", 2022.
GroupNorm (Wu and He, 2018) instead of BatchNorm: no sample sees another, in training neither.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

_STEM_CHANNELS = 32
_STAGE_CHANNELS = (64, 128, 192)
_GROUPS = 8

FILM_CHANNELS = _STAGE_CHANNELS[-1]


class FiLM(nn.Module):
    """Scales and shifts every channel by what the condition says; at first by 1 and 0."""

    def __init__(self, condition_width: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(condition_width, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        """maps: (B, C, h, w); condition: (B, D). -> (B, C, h, w)"""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        modulated: Tensor = maps * (1.0 + scale) + shift
        return modulated


class FiLMBlock(nn.Module):
    """Two convolutions, the second one modulated, around a shortcut. Halves height and width."""

    def __init__(self, in_channels: int, channels: int, condition_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(_GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(_GROUPS, channels)
        self.film = FiLM(condition_width, channels)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=2)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        """maps: (B, C_in, 2h, 2w); condition: (B, D). -> (B, C, h, w)"""
        inner = F.relu(self.norm1(self.conv1(maps)))  # (B, C, h, w)
        inner = self.film(self.norm2(self.conv2(inner)), condition)
        return F.relu(inner + self.shortcut(maps))


class FiLMConv(nn.Module):
    """Pixels and an instruction to a map of FILM_CHANNELS channels at a stride of 16 pixels."""

    def __init__(self, condition_width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, _STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, _STEM_CHANNELS),
            nn.ReLU(),
        )
        widths = (_STEM_CHANNELS, *_STAGE_CHANNELS)
        self.blocks = nn.ModuleList(FiLMBlock(before, after, condition_width) for before, after in pairwise(widths))

    def forward(self, pixels: Tensor, condition: Tensor) -> Tensor:
        """pixels: (B, 3, S, S), about -1..1; condition: (B, D). -> (B, C, S / 16, S / 16)"""
        maps = self.stem(pixels)
        for block in self.blocks:
            maps = block(maps, condition)
        assert isinstance(maps, Tensor)
        return maps
