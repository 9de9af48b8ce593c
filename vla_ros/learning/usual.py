"""What is usual to a world model: measured once it has learned, on frames, and kept with its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.learning.batches import BatchMaker
from vla_ros.model.surprise import Calibration
from vla_ros.model.vla import VLAModel

_SEED = 20_260
Frames = Sequence[NDArray[np.int64]]


@torch.no_grad()
def measure_usual(model: VLAModel, batches: BatchMaker, shown: Frames, held_out: Frames) -> None:
    """Set the usual misses and sights of a network that foresees, and the scales of surprise; no threshold yet, and it
    suspects nobody of meddling.

    shown: batches of frames that it learned from, by which directions are measured; held_out: of others, by which it is
    told how large errors are where nothing is wrong.
    """
    model.eval()
    reasoning = model.reasoning
    assert reasoning.usual_miss is not None and reasoning.usual_view is not None
    if reasoning.meddling is not None:
        reasoning.meddling.forget()  # what it had learned was of another network
    misses, views = _seen(model, batches, shown)
    reasoning.usual_miss.measure(misses)
    reasoning.usual_view.measure(views)
    misses, views = _seen(model, batches, held_out)
    unforeseen, unfamiliar = reasoning.usual_miss.distance(misses), reasoning.usual_view.distance(views)
    reasoning.calibration = Calibration((float(unforeseen.max()), float(unfamiliar.max()), 1.0))


def _seen(model: VLAModel, batches: BatchMaker, frames: Frames) -> tuple[Tensor, Tensor]:
    """What the world model missed of the rows that count, and what the views showed. -> (N, F), (M, views * D)"""
    misses, views = [], []
    for number, some in enumerate(frames):
        batch = batches.make(some, (_SEED, number)).to(model.device).lived(model)
        lesson = batch.lessons.outcome
        assert lesson is not None
        now, later = (model.sight(model.perceive(inputs, plan=False)) for inputs in (batch.inputs, lesson.later))
        rows = batch.targets[:, :1]
        missed = model.reasoning.missed(now.features, rows, later.features, model.action_statistics)
        misses.append(missed[lesson.counts > 0.0])
        views.append(now.features[:, model.reasoning.layout.seen])
    return torch.cat(misses), torch.cat(views)
