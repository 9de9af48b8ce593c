"""Frames against the image processors that the backbones' authors published."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL.Image import Resampling
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from vla_ros.errors import ModelError
from vla_ros.images import read_only
from vla_ros.model.backbones import ConvBackbone
from vla_ros.model.preprocessing import Preprocessing

SIZE = 48
IMAGENET = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
ROOTS = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": [math.sqrt(std) for std in IMAGENET_DEFAULT_STD]}
SQUARE = {"height": SIZE, "width": SIZE}
SHORTEST = {"shortest_edge": SIZE}
WHITE_BALANCE = Preprocessing(SIZE, Resampling.BICUBIC, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))

REFERENCES = {
    "CLIP's": CLIPImageProcessorPil(size=SHORTEST, crop_size=SQUARE),
    "ResNet's without its crop": ConvNextImageProcessorPil(size=SHORTEST, crop_pct=1.0, **IMAGENET),
    "EfficientNet's, divided by std twice": EfficientNetImageProcessorPil(size=SQUARE, resample=0, **ROOTS),
    "one mean for all channels": EfficientNetImageProcessorPil(size=SQUARE, image_mean=0.5, image_std=0.25),
    "rescaled to -1..1": EfficientNetImageProcessorPil(
        size=SQUARE, rescale_factor=1 / 127.5, rescale_offset=True, include_top=False, **IMAGENET
    ),
    "rescaled only": CLIPImageProcessorPil(size=SHORTEST, crop_size=SQUARE, do_normalize=False),
    "normalised only": CLIPImageProcessorPil(
        size=SHORTEST,
        crop_size=SQUARE,
        do_rescale=False,
        image_mean=[120.0, 115.0, 100.0],
        image_std=[70.0, 68.0, 66.0],
    ),
}


class Nothing(ConvBackbone):
    """No network: its maps are its pixels."""

    def __init__(self, preprocessing):
        super().__init__(preprocessing, 3)

    def maps(self, pixels, condition):
        return pixels

    def stages(self):
        return []


def _noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [20, SIZE, 131])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_square_frame_becomes_what_the_reference_makes_of_it(name, side):
    reference, frame = REFERENCES[name], _noise(side, side, seed=side)
    preprocessing = Preprocessing.of_processor(reference.to_dict(), SIZE)
    found = Nothing(preprocessing).normalise(preprocessing.prepare(frame)[None])
    expected = torch.from_numpy(np.asarray(reference(frame, return_tensors="np")["pixel_values"]))
    assert found.shape == (1, 3, SIZE, SIZE)
    assert (found - expected).abs().max() <= 1e-6


def test_a_prepared_frame_is_still_bytes():
    assert WHITE_BALANCE.prepare(_noise(30, 40)).dtype == torch.uint8


@given(st.integers(1, 200), st.integers(1, 200))
def test_any_shape_fits_into_the_square_with_its_aspect_and_in_its_middle(height, width):
    prepared = WHITE_BALANCE.prepare(np.full((height, width, 3), 255, np.uint8))
    assert prepared.shape == (3, SIZE, SIZE)
    is_picture = (prepared == 255).all(dim=0)
    rows, columns = is_picture.any(dim=1).nonzero()[:, 0], is_picture.any(dim=0).nonzero()[:, 0]
    assert is_picture.sum() == len(rows) * len(columns)
    assert max(len(rows), len(columns)) == SIZE
    assert abs(len(rows) - max(1.0, SIZE * height / max(height, width))) <= 0.5
    assert abs(len(columns) - max(1.0, SIZE * width / max(height, width))) <= 0.5
    for found in (rows, columns):
        assert abs((found[0] + found[-1]).item() - (SIZE - 1)) <= 1


def test_a_disc_in_a_wide_frame_stays_a_disc():
    y, x = np.mgrid[0:120, 0:160]
    frame = np.zeros((120, 160, 3), np.uint8)
    frame[np.hypot(y - 60, x - 80) < 40] = 255
    disc = (WHITE_BALANCE.prepare(frame)[0] > 200).nonzero()
    height, width = (disc.max(dim=0).values - disc.min(dim=0).values).tolist()
    assert abs(height - width) <= 1
    assert abs(height - SIZE * 80 / 160) <= 2


def test_the_bars_are_nearly_zero_for_the_network():
    pixels = Nothing(WHITE_BALANCE).normalise(WHITE_BALANCE.prepare(_noise(24, 48))[None])
    assert pixels[0, :, :12].abs().max() < 0.5 / 255 / 0.26
    assert pixels[0, :, 12:36].abs().max() > 1.0


def test_bars_take_the_nearest_colour_there_is_for_a_mean_outside_the_bytes():
    assert Preprocessing(SIZE, Resampling.BICUBIC, (-0.5, 0.5, 1.5), (1.0, 1.0, 1.0)).bar_colour == (0, 128, 255)


def test_a_read_only_frame_may_be_prepared_and_is_not_shared():
    frame = _noise(SIZE, SIZE)
    prepared = WHITE_BALANCE.prepare(read_only(frame))
    prepared.zero_()
    assert frame.any()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
    ids=["grey", "with alpha", "empty", "floats"],
)
def test_what_is_no_colour_frame_of_bytes_is_refused(frame):
    with pytest.raises(ModelError, match=r"must be \(H, W, 3\) uint8"):
        WHITE_BALANCE.prepare(frame)


@pytest.mark.parametrize(
    "change",
    [{"resample": 99}, {"image_mean": [0.1, 0.2]}, {"image_std": "wide"}, {"rescale_factor": None}],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_make_no_sense_are_refused(change):
    settings = REFERENCES["CLIP's"].to_dict() | change
    with pytest.raises(ModelError, match="settings are not understood"):
        Preprocessing.of_processor(settings, SIZE)


@pytest.mark.parametrize("images", [torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)])
def test_images_that_were_not_prepared_are_refused(images):
    with pytest.raises(ModelError, match=f"must be .B, 3, {SIZE}, {SIZE}. uint8"):
        Nothing(WHITE_BALANCE)(images)
