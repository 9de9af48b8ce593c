"""Has somebody meddled with the things of the task? Told by where they were seen in the last few looks.

A thing moves though the robot is not at it, or stays behind though the robot holds it. But what a robot itself does to
things is of so many kinds that no threshold on how far they move tells one from the other: that is learned, from runs
that were disturbed and runs that were not.

Shapes: B samples, n looks, the newest last, G numbers of a glimpse. Several networks, which start differently, are
asked, and their answers' mean counts (Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation
using deep ensembles", 2017).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.types import FloatArray, Observation, Pose

LOOKS = 6
"""That are looked back on: a second at a camera's 10 Hz has some before and some after what happened in it."""
_MEMBERS = 3
_HIDDEN = (128, 64)
_DROPOUT = 0.3
_UNTAUGHT = -30.0  # log odds of a network that has learned nothing: it suspects nobody
_LEAST = 1e-3  # [m]: of a deviation. What never varied is told no closer


def glimpse(places_m: FloatArray, before: Pose, now: Observation) -> FloatArray:
    """What a look tells of the things, and of what the robot did since the one before.

    places_m: (P, 3), from the tool, base axes. before: what was commanded then. -> (6 P + 7,): places from the tool,
    and from the base; the commanded motion; how far the tool is behind the command [m]; the gripper.
    """
    tool, commanded = now.ee_pose.position, now.commanded_pose.position
    from_base = places_m + tool
    return np.concatenate(
        [places_m.ravel(), from_base.ravel(), commanded - before.position, commanded - tool, [now.gripper]]
    )


class Meddling(nn.Module):
    """Log odds that somebody did. places: P, of the network's head for them."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, places: int) -> None:
        super().__init__()
        self._places, self._moving = places, 6 * places
        size = LOOKS * (self._moving + 7) + (LOOKS - 1) * self._moving
        self.members = nn.ModuleList(_member(size) for _ in range(_MEMBERS))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def forget(self) -> None:
        """Suspect nobody, as a network does that was not taught."""
        self.load_state_dict(Meddling(self._places).state_dict())

    def novice(self) -> Meddling:
        """Another one for the same network, with weights drawn to learn from."""
        other = Meddling(self._places)
        for layer in other.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        return other

    def describe(self, glimpses: Tensor) -> Tensor:
        """All of them, and how far the places have come to where they are. (B, LOOKS, G) -> (B, D)"""
        ways = glimpses[:, -1:, : self._moving] - glimpses[:, :-1, : self._moving]
        return torch.cat((glimpses.flatten(1), ways.flatten(1)), dim=1)

    @torch.no_grad()
    def measure(self, glimpses: Tensor) -> None:
        """Take these for usual in size. (N, LOOKS, G)"""
        described = self.describe(glimpses)
        self.mean.copy_(described.mean(dim=0))
        self.deviation.copy_(described.std(dim=0).clamp(min=_LEAST))

    def answers(self, glimpses: Tensor) -> Tensor:
        """Log odds, of each member. (B, LOOKS, G) -> (members, B)"""
        described = (self.describe(glimpses) - self.mean) / self.deviation
        return torch.stack([member(described).squeeze(-1) for member in self.members])

    def forward(self, glimpses: Tensor) -> Tensor:
        """Of the last looks, as many as there were: about 0 where nothing is suspected, the log odds where much is.

        (n, G) -> ()
        """
        odds: Tensor = self.answers(looked_back(glimpses).unsqueeze(0)).mean()
        return F.softplus(odds)


def looked_back(glimpses: Tensor) -> Tensor:
    """The first look stands for those before it. (n, G) -> (LOOKS, G)"""
    lacking = LOOKS - len(glimpses)
    return torch.cat((glimpses[:1].expand(lacking, -1), glimpses)) if lacking > 0 else glimpses[-LOOKS:]


def _member(size: int) -> nn.Sequential:
    """All zero, so that every network that was not taught is the same."""
    first, second = _HIDDEN
    layers = [_undrawn(*sizes) for sizes in ((size, first), (first, second), (second, 1))]
    last = layers[-1]
    member = nn.Sequential(
        *(layers[0], nn.GELU(), nn.Dropout(_DROPOUT)),
        *(layers[1], nn.GELU(), nn.Dropout(_DROPOUT)),
        last,
    )
    for weights in member.parameters():
        nn.init.zeros_(weights)
    nn.init.constant_(last.bias, _UNTAUGHT)
    return member


def _undrawn(inputs: int, outputs: int) -> nn.Linear:
    """Without a draw, which would change those of every network that has one."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    return layer
