"""A network that has learned nothing yet: where training starts, and enough to see how large and how fast it is."""

from __future__ import annotations

import torch

from vla_ros.model.actions import ActionStatistics
from vla_ros.model.config import VLAConfig
from vla_ros.model.vla import VLAModel


def untrained(config: VLAConfig, seed: int = 0) -> VLAModel:
    """In eval mode, with actions and states taken as they are. The same seed gives the same weights.

    Raises ModelError if a backbone cannot be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VLAModel(config, ActionStatistics.identity(), ActionStatistics.identity()).eval()
