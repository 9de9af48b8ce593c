"""Samples that are changed anew: by how much at most, and the same for the same generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from vla_ros.learning.augmentation import augmented, jittered, presence, recoloured, shifted
from vla_ros.learning.recipe import AugmentationConfig

SIZE_PX = 12


def generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 40, seed: int = 0):
    return torch.randint(0, 256, (count, 3, SIZE_PX, SIZE_PX), generator=generator(seed), dtype=torch.uint8)


def test_images_are_shifted_by_at_most_so_many_pixels_with_their_border_repeated() -> None:
    images, most_px = pictures(), 2
    moved = shifted(images, most_px, generator()).numpy()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (most_px, most_px), (most_px, most_px)), mode="edge")
    offsets = set()
    for number, image in enumerate(moved):
        found = [
            (down, right)
            for down in range(2 * most_px + 1)
            for right in range(2 * most_px + 1)
            if np.array_equal(padded[number, :, down : down + SIZE_PX, right : right + SIZE_PX], image)
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert {down for down, _ in offsets} == {right for _, right in offsets} == set(range(2 * most_px + 1))


def test_colours_change_by_at_most_the_share_and_the_whole_image_alike() -> None:
    grey = torch.full((200, 3, 4, 4), 128, dtype=torch.uint8)
    changed = recoloured(grey, 0.2, generator()).float()
    assert (changed - 128.0).abs().max() <= 0.2 * 128.0 + 1.0
    assert (changed - 128.0).abs().max() > 0.15 * 128.0
    assert (changed.flatten(2) == changed.flatten(2)[..., :1]).all()


@pytest.mark.parametrize("change", [lambda x: shifted(x, 0, generator()), lambda x: recoloured(x, 0.0, generator())])
def test_nothing_asked_is_nothing_changed(change: Callable) -> None:
    images = pictures()
    assert torch.equal(change(images), images)


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.99])
def test_one_view_always_stays(dropout: float) -> None:
    kept = torch.stack(list(presence(("front", "wrist", "top"), 4000, dropout, generator()).values()))
    assert kept.any(dim=0).all()
    if dropout == 0.0:
        assert kept.all()
    elif dropout == 0.3:
        assert (~kept).float().mean() == pytest.approx(0.3, abs=0.03)
    else:
        assert kept.float().mean(dim=1) == pytest.approx([1 / 3] * 3, abs=0.05)  # which one stays is drawn by lot


def test_noise_falls_on_positions_and_on_how_far_commands_lead_alone() -> None:
    states = torch.ones(2000, 14)
    noise = jittered(states, 0.003, generator()) - states
    changed = [0, 1, 2, 7, 8, 9]
    assert noise[:, changed].std(dim=0) == pytest.approx([0.003] * 6, rel=0.1)
    assert (noise[:, [index for index in range(14) if index not in changed]] == 0.0).all()
    assert (states == 1.0).all()


def test_the_same_generator_gives_the_same_samples() -> None:
    images, states = {"front": pictures(), "wrist": pictures(seed=1)}, torch.zeros(40, 14)
    config = AugmentationConfig(shift_px=3, colour=0.3, view_dropout=0.3)
    one, again, other = (augmented(images, states, config, generator(seed)) for seed in (0, 0, 1))
    for mine, same, different in zip(one[0].values(), again[0].values(), other[0].values(), strict=True):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different)
    for mine, same in zip(one[1].values(), again[1].values(), strict=True):
        assert torch.equal(mine, same)
    assert torch.equal(one[2], again[2])
    assert not torch.equal(one[2], other[2])
