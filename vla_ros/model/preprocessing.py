"""From a camera's frame to the square that a backbone was trained on.

Two steps: `Preprocessing.prepare` fits a frame into a square of bytes, on the CPU; the backbone turns bytes into
numbers on its own device, so that a batch stays one byte per channel until it is there. On square frames, for which
a letterbox changes nothing, both together equal the image processor that the backbone's authors published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla_ros.errors import ModelError, in_one_line
from vla_ros.types import FloatArray, ImageArray

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """How one backbone wants its images: size x size pixels, then (pixel / 255 - mean) / std for each of R, G, B."""

    size: int
    resample: Image.Resampling
    mean: Channels
    std: Channels

    @classmethod
    def of_processor(cls, settings: Mapping[str, Any], size: int) -> Preprocessing:
        """The settings of a transformers image processor (its preprocessor_config.json) for another size [pixels].

        What such a processor does in up to five steps is one mean and one std here; its cropping is left out, since a
        letterbox loses nothing at the border. Raises ModelError for settings that make no sense.
        """
        try:
            resample = Image.Resampling(settings["resample"])
            mean, std = _per_channel(settings["image_mean"]), _per_channel(settings["image_std"])
            scale = 255.0 * float(settings.get("rescale_factor", 1 / 255))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"an image processor's settings are not understood: {in_one_line(error)}") from error
        offset, divisor = np.zeros(3), np.ones(3)
        if not settings.get("do_rescale", True):
            scale = 255.0
        elif settings.get("rescale_offset", False):
            offset = offset + 1.0
        if settings.get("do_normalize", True):
            offset, divisor = offset + mean, divisor * std
        if settings.get("include_top", False):  # EfficientNet's: divided by std once more
            divisor = divisor * std
        return cls(size, resample, _channels(offset / scale), _channels(divisor / scale))

    def prepare(self, image: ImageArray) -> Tensor:
        """Fit a frame into the square, its aspect kept, the rest filled with the mean colour.

        image: (H, W, 3) uint8 RGB. -> (3, S, S) uint8. Raises ModelError for anything else.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ModelError(f"an image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = Image.fromarray(image).resize(fitted, self.resample)
        if fitted != (self.size, self.size):
            square = Image.new("RGB", (self.size, self.size), self.bar_colour)
            square.paste(picture, ((self.size - fitted[0]) // 2, (self.size - fitted[1]) // 2))
            picture = square
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()  # (S, S, 3) -> (3, S, S)

    @property
    def bar_colour(self) -> tuple[int, int, int]:
        """What the letterbox's bars are painted with: the byte nearest to the mean, which becomes nearly zero."""
        red, green, blue = (round(255 * min(max(value, 0.0), 1.0)) for value in self.mean)
        return red, green, blue


def _per_channel(values: Any) -> FloatArray:
    """One number for all channels, or one for each. -> (3,)"""
    return np.broadcast_to(np.asarray(values, np.float64), 3)


def _channels(values: FloatArray) -> Channels:
    red, green, blue = values.tolist()
    return red, green, blue
