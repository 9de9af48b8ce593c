"""A network is taught how it looks when somebody meddles: from runs of its own that were disturbed, and some that were
not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.trials import Outcome
from vla_ros.model.meddling import Meddling, looked_back
from vla_ros.types import FloatArray

WITHIN_S = 0.95
"""After it began: looks at which it is to be told."""
_NOT_BEFORE_S = 0.05  # until then there is nothing to see
_STEPS, _RATE, _WEIGHT_DECAY = 1500, 2e-3, 3e-2
_DISTURBED, _UNDISTURBED = 32, 224  # of a batch


def teach(meddling: Meddling, runs: Sequence[Outcome], seed: int = 0) -> None:
    """Learn anew from runs with glimpses, those of disturbed ones up to WITHIN_S after it began, and all of the others.

    Raises LearningError unless there are looks of both kinds.
    """
    torch.manual_seed(seed)
    novice = meddling.novice()
    looks, answers = _lesson(runs)
    disturbed, undisturbed = torch.nonzero(answers > 0.0)[:, 0], torch.nonzero(answers == 0.0)[:, 0]
    if not len(disturbed) or not len(undisturbed):
        raise LearningError("to tell disturbed runs from others there must be some of both, with looks at them")
    novice.measure(looks)
    novice.train()
    optimiser = torch.optim.AdamW(novice.parameters(), _RATE, weight_decay=_WEIGHT_DECAY)
    schedule = OneCycleLR(optimiser, _RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        batch = torch.cat((_some(disturbed, _DISTURBED), _some(undisturbed, _UNDISTURBED)))
        wanted = answers[batch].expand(len(novice.members), -1)
        loss = F.binary_cross_entropy_with_logits(novice.answers(looks[batch]), wanted)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    meddling.load_state_dict(novice.state_dict())
    meddling.eval()


@torch.no_grad()
def suspicions(meddling: Meddling, run: Outcome) -> FloatArray:
    """At each look of a run without gaps. -> (n,)"""
    glimpses = _glimpses(run)
    return np.array([float(meddling(glimpses[: number + 1])) for number in range(len(glimpses))])


def _glimpses(run: Outcome) -> Tensor:
    return torch.from_numpy(np.array(run.glimpses, np.float32))


def _some(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randint(len(indices), (count,))]


def _lesson(runs: Sequence[Outcome]) -> tuple[Tensor, Tensor]:
    """-> (N, LOOKS, G); (N,), 1 where somebody meddled just before, else 0"""
    found = [pair for run in runs for pair in _looks(run)]
    if not found:
        raise LearningError("in none of the runs was anything looked at twice")
    return torch.stack([look for look, _ in found]), torch.tensor([answer for _, answer in found])


def _looks(run: Outcome) -> Iterator[tuple[Tensor, float]]:
    glimpses = _glimpses(run)
    for number, (at_s, _) in enumerate(run.surprises):
        since_s = -1.0 if run.disturbed_s is None else at_s - run.disturbed_s
        if since_s <= 0.0 or _NOT_BEFORE_S < since_s <= WITHIN_S:
            yield looked_back(glimpses[: number + 1]), float(since_s > 0.0)
