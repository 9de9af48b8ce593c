"""Small networks and batches for tests of the assembled model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vla_ros.model.actions import ActionStatistics
from vla_ros.model.config import SIZES, DecoderConfig, FusionConfig, VLAConfig
from vla_ros.model.vla import VLAModel
from vla_ros.types import ImageArray, Observation, Pose


def config(kind: str = "regression", history: int = 0, views: tuple[str, ...] = ("front", "wrist")) -> VLAConfig:
    """Tiny, without dropout."""
    decoder: DecoderConfig = replace(SIZES["tiny"].decoder, kind=kind)  # type: ignore[arg-type]
    return replace(SIZES["tiny"], views=views, decoder=decoder, fusion=FusionConfig(layers=2, history=history))


def model(kind: str = "regression", seed: int = 0, **kwargs: object) -> VLAModel:
    """A tiny network with reproducible weights, in eval mode."""
    torch.manual_seed(seed)
    built = VLAModel(config(kind, **kwargs), ActionStatistics.identity(), ActionStatistics.identity())  # type: ignore[arg-type]
    return built.eval()


def image(seed: int, height: int = 64, width: int = 64) -> ImageArray:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def observation(
    seed: int = 0,
    instruction: str = "open the drawer",
    views: Sequence[str] = ("front", "wrist"),
    t_obs_ns: int = 1_000_000_000,
) -> Observation:
    """Something seen. The same seed gives the same."""
    rng = np.random.default_rng(seed)
    turned = rng.normal(size=4)
    pose = Pose(rng.uniform(-0.3, 0.3, 3), turned / np.linalg.norm(turned))
    commanded = Pose(pose.position + rng.uniform(-0.02, 0.02, 3), pose.quaternion)
    images = {view: image(100 * seed + index) for index, view in enumerate(views)}
    return Observation(t_obs_ns, instruction, images, pose, commanded, None, float(rng.uniform()))


def rows(seed: int, horizon: int, count: int = 1) -> torch.Tensor:
    """Valid relative rows. -> (count, horizon, 14)"""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(count, horizon, 14, generator=generator)
    return ActionStatistics.identity().denormalise(0.3 * raw)
