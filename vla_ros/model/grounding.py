"""Where are the things that the task is about? The answer is checked in training, and told to whoever decides.

Actions say little about positions while the robot is still far away: every step is as long as is allowed. Asking for
the positions themselves, of which a simulator knows all and a recording what was grasped, teaches vision in a fraction
of the time (auxiliary tasks: Jaderberg et al., "Reinforcement learning with unsupervised auxiliary tasks", 2017; object
positions beside imitation: James, Davison and Johns, "Transferring end-to-end visuomotor control from simulation to
real world for a multi-stage task", 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_ros.model.attention import MultiHeadAttention

_SCALE_M = 0.1  # errors are counted in units of this


class GroundingHead(nn.Module):
    """One question per place, asked of everything that was seen and said. Shapes: B samples, M tokens, D width."""

    def __init__(self, places: int, width: int, heads: int) -> None:
        super().__init__()
        self.questions = nn.Parameter(0.02 * torch.randn(places, width))
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, 0.0)
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))
        self.telling = nn.Linear(3, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens: (B, M, D); mask: (B, M) bool, True where real. -> (B, places, 3) [m], from the tool"""
        questions = self.questions.expand(len(tokens), -1, -1)  # (B, places, D)
        found = questions + self.attention(questions, self.norm(tokens), mask)
        answers: Tensor = self.answer(found)
        return answers

    def tell(self, answers: Tensor) -> Tensor:
        """Answers as tokens beside what they were found in. (B, places, 3) -> (B, places, D)"""
        told: Tensor = self.questions + self.telling(answers / _SCALE_M)
        return told


def grounding_loss(answers: Tensor, places: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error [0.1 m]. answers: (B, places, 3); places, and known, bool: (B, 3 * places) [m]. -> ()"""
    error = (answers.flatten(1) - places).abs() / _SCALE_M  # (B, 3 * places)
    return error.masked_fill(~known, 0.0).sum() / known.sum().clamp(min=1)
