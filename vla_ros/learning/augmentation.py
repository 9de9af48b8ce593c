"""Samples, changed anew whenever they are drawn, so that the network learns what does not matter.

Random shifts: Yarats, Kostrikov and Fergus, "Image augmentation is all you need" (DrQ), 2021. Everything is drawn from
a generator on the CPU, so that the same seed gives the same batch on any device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vla_ros.learning.recipe import AugmentationConfig
from vla_ros.types import LINEAR_VELOCITY, POSITION


def shifted(images: Tensor, most_px: int, generator: torch.Generator, still: Tensor | None = None) -> Tensor:
    """Each image moved by up to most_px along both axes, its border repeated. (B, 3, S, S) uint8 -> the same

    still: (B,) bool, those that stay where they are.
    """
    if most_px == 0:
        return images
    batch, _, height, width = images.shape
    moves = torch.randint(-most_px, most_px + 1, (2, batch, 1), generator=generator)
    down, right = moves if still is None else moves * ~still[:, None]
    rows = (torch.arange(height) + down).clamp(0, height - 1)  # (B, S)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    return moved.gather(3, columns[:, None, None, :].expand_as(images))


def recoloured(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each image brighter or darker, with more or less contrast, and each channel a little. (B, 3, S, S) uint8"""
    if share == 0.0:
        return images
    gain = 1.0 + share * (2.0 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1.0)
    tint = 1.0 + 0.25 * share * (2.0 * torch.rand(len(images), 3, 1, 1, generator=generator) - 1.0)
    offset = 128.0 * share * (2.0 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1.0)
    changed = ((images.float() - 128.0) * (gain * tint) + 128.0 + offset).clamp_(0.0, 255.0)
    return changed.to(torch.uint8)


def presence(views: tuple[str, ...], batch: int, dropout: float, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Which views each sample keeps; at least one, drawn by lot. -> view -> (B,) bool"""
    kept = torch.rand(batch, len(views), generator=generator) >= dropout
    spared = torch.randint(len(views), (batch,), generator=generator)
    kept[torch.arange(batch), spared] |= ~kept.any(dim=1)
    return {view: kept[:, index] for index, view in enumerate(views)}


def jittered(states: Tensor, std_m: float, generator: torch.Generator) -> Tensor:
    """Measured positions, and how far commands lead them, with noise. (B, 14) -> (B, 14)"""
    if std_m == 0.0:
        return states
    noisy = states.clone()
    noise = std_m * torch.randn(2, len(states), 3, generator=generator)
    noisy[:, POSITION] += noise[0]
    noisy[:, LINEAR_VELOCITY] += noise[1]
    return noisy


def augmented(
    images: Mapping[str, Tensor],
    states: Tensor,
    config: AugmentationConfig,
    generator: torch.Generator,
    still: Tensor | None = None,
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Tensor]:
    """Images, which of them are there, and states, all changed. See the parts."""
    changed = {
        view: recoloured(shifted(image, config.shift_px, generator, still), config.colour, generator)
        for view, image in images.items()
    }
    return (
        changed,
        presence(tuple(images), len(states), config.view_dropout, generator),
        jittered(states, config.state_noise_m, generator),
    )
