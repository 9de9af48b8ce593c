"""A chunk by flow matching: noise is carried along a learned velocity field until it is a chunk of the data's kind.

Times t run from 0, noise, to 1, data; on the way a row is x = (1 - t) noise + t data, so its velocity is data - noise,
or (data - x) / (1 - t). The network says what the data is, and thereby the velocity; what never varies in the data is
then exact in a chunk too, and does not keep a rest of the noise.

Sources: Lipman et al., "Flow matching for generative modeling", 2023; for chunks of actions Black et al., "pi0: a
vision-language-action flow model for general robot control", 2024; for predicting the data under the velocity's loss Li
and He, "Back to basics: let denoising generative models denoise", 2025.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_ros.model.chunk_decoder import ChunkDecoder, Context, drawing_device
from vla_ros.model.config import DecoderConfig


class FlowChunkDecoder(ChunkDecoder):
    """A sample of what the data shows, one way or the other, in a fixed number of Euler steps.

    Committed rows stand still at time 1, while the others flow.
    """

    def __init__(self, config: DecoderConfig, width: int, heads: int, dropout: float) -> None:
        """Raises ValueError if the heads do not divide the width."""
        super().__init__(config, width, heads, dropout)
        self.steps = config.flow_steps

    def _residual(self, context: Context, generator: torch.Generator | None) -> Tensor:
        """Of the velocity: what is predicted of the data, less the data, over 1 - t."""
        noise = draw_noise(context.rows, generator)
        times = draw_times(context.rows, self.steps, generator)  # (B, 1, 1)
        rows = (1.0 - times) * noise + times * context.rows  # (B, H, 14)
        return (self._data(rows, times, context) - context.rows) / (1.0 - times)

    def _generate(self, context: Context, generator: torch.Generator | None) -> Tensor:
        rows = draw_noise(context.rows, generator)
        for step in range(self.steps):
            data = self._data(rows, rows.new_full((1, 1, 1), step / self.steps), context)
            rows = rows + (data - rows) / (self.steps - step)  # velocity times 1 / steps
        return rows

    def _data(self, rows: Tensor, times: Tensor, context: Context) -> Tensor:
        """Where the rows will be at time 1. rows: (B, H, 14); times: (B or 1, 1, 1), the committed ones' is 1."""
        committed = context.committed.unsqueeze(-1)  # (B, H, 1)
        known = torch.where(committed, context.rows, rows)
        return self._decode(known, torch.where(committed, 1.0, times).squeeze(-1), context)


def draw_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers, of like's shape, type and device."""
    device = drawing_device(generator, like)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def draw_times(like: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
    """Times to learn the flow at, one for each sample of like, (B, ...), of its type and device. -> (B, 1, 1)

    As in pi0, 1 - t / last is Beta(1.5, 1): nearer to the noise than to the data, where little is left to tell; and no
    time is later than the last that is asked for, the beginning of the last step.
    """
    device = drawing_device(generator, like)
    uniform = torch.rand(len(like), 1, 1, generator=generator, dtype=like.dtype, device=device).to(like.device)
    last = 1.0 - 1.0 / steps
    return last * (1.0 - uniform ** (1.0 / 1.5))  # the inverse of Beta(1.5, 1)'s distribution function
