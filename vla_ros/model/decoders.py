"""One action from pooled features, the head that makes a chunk of it, and the choice among all heads.

The two decoders have one interface and are bounded by the data's statistics. Where their last layer says nothing, their
quaternion does not turn: it is an offset from the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.errors import ModelError
from vla_ros.model.actions import (
    IDENTITY,
    VELOCITY,
    ActionParts,
    ActionStatistics,
    from_rotation_vector,
    quaternion_product,
    require_action_width,
    unit_quaternion,
)
from vla_ros.model.chunk_decoder import ActionHead, Memory, Prefix, RegressionChunkDecoder, weighted_mean
from vla_ros.model.config import DecoderConfig
from vla_ros.model.flow import FlowChunkDecoder
from vla_ros.types import ACTION_WIDTH, POSITION


class ActionDecoder(nn.Module):
    """One network for the whole action: a position inside the data's range, velocities up to the data's fastest."""

    def __init__(self, hidden_dim: int = 512, action_space_dim: int = ACTION_WIDTH, dropout: float = 0.1) -> None:
        """Raises ModelError unless action_space_dim is 14."""
        super().__init__()
        require_action_width(action_space_dim)
        self.decoder = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, action_space_dim),
        )

    def forward(self, features: Tensor, statistics: ActionStatistics) -> ActionParts:
        """features: (B, D) -> parts in physical units, (B, 3), (B, 4), (B, 6), (B, 1)."""
        raw = ActionParts.split(self.decoder(features))
        low, high = statistics.low[POSITION], statistics.high[POSITION]
        return ActionParts(
            position=low + (high - low) * torch.sigmoid(raw.position),
            orientation=_turned(torch.tanh(raw.orientation)),
            velocity=statistics.reach[VELOCITY] * torch.tanh(raw.velocity),
            gripper=torch.sigmoid(raw.gripper),
        )


class ContinuousActionDecoder(nn.Module):
    """A network for each part of the action, none further from rest than the data ever was."""

    def __init__(self, hidden_dim: int = 512, action_space_dim: int = ACTION_WIDTH, dropout: float = 0.1) -> None:
        """Raises ModelError unless action_space_dim is 14."""
        super().__init__()
        require_action_width(action_space_dim)
        self.translation_decoder = _branch(hidden_dim, 3, dropout)
        self.rotation_decoder = _branch(hidden_dim, 4, dropout)
        self.velocity_decoder = _branch(hidden_dim, 6, dropout)
        self.gripper_decoder = _branch(hidden_dim, 1, dropout)

    def forward(self, features: Tensor, statistics: ActionStatistics) -> ActionParts:
        """features: (B, D) -> parts in physical units, (B, 3), (B, 4), (B, 6), (B, 1)."""
        reach = statistics.reach
        return ActionParts(
            position=reach[POSITION] * torch.tanh(self.translation_decoder(features)),
            orientation=_turned(F.softsign(self.rotation_decoder(features))),
            velocity=reach[VELOCITY] * torch.tanh(self.velocity_decoder(features)),
            gripper=torch.sigmoid(self.gripper_decoder(features)),
        )


class SingleStepHead(ActionHead):
    """Decodes one action, row 0, from the pooled features, and holds its velocity and gripper over the horizon.

    What is committed of the previous chunk does not change the action: such a head does not know of it.
    """

    def __init__(self, decoder: ActionDecoder | ContinuousActionDecoder, horizon: int, dt_s: float) -> None:
        super().__init__()
        self.decoder = decoder
        self.horizon = horizon
        self.dt_s = dt_s

    def loss(
        self,
        memory: Memory,
        target: Tensor,
        statistics: ActionStatistics,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ActionHead, of row 0 only."""
        predicted = self.decoder(memory.pooled, statistics).joined()  # (B, 14)
        residual = statistics.normalise(predicted) - statistics.normalise(target[:, 0])
        weight = torch.ones_like(target[:, 0, 0]) if weights is None else weights[:, 0]
        return weighted_mean(residual.square().mean(dim=-1), weight)

    @torch.no_grad()
    def sample(
        self,
        memory: Memory,
        statistics: ActionStatistics,
        prefix: Prefix | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ActionHead. Nothing is drawn."""
        rows = held(self.decoder(memory.pooled, statistics), self.horizon, self.dt_s)
        return rows if prefix is None else prefix.continued_by(rows)


def held(action: ActionParts, horizon: int, dt_s: float) -> Tensor:
    """An action's velocity held: row i is where it leads in i * dt_s. Parts of (B, ...) -> (B, H, 14)"""
    velocity = action.velocity.unsqueeze(1).expand(-1, horizon, -1)  # (B, H, 6)
    linear, angular = velocity.chunk(2, dim=-1)
    elapsed_s = dt_s * torch.arange(horizon, device=velocity.device, dtype=velocity.dtype).unsqueeze(-1)  # (H, 1)
    turned = quaternion_product(from_rotation_vector(angular * elapsed_s), action.orientation.unsqueeze(1))
    return ActionParts(
        position=action.position.unsqueeze(1) + linear * elapsed_s,
        orientation=unit_quaternion(turned),
        velocity=velocity,
        gripper=action.gripper.unsqueeze(1).expand(-1, horizon, -1),
    ).joined()


def make_head(config: DecoderConfig, width: int, heads: int, dropout: float) -> ActionHead:
    """The head of the configuration's kind. Raises ModelError that lists the kinds."""
    if config.kind not in _KINDS:
        raise ModelError(f"there is no decoder {config.kind!r}; choose one of {', '.join(_KINDS)}")
    return _KINDS[config.kind](config, width, heads, dropout)


def _single(config: DecoderConfig, width: int, heads: int, dropout: float) -> ActionHead:
    return SingleStepHead(ActionDecoder(width, dropout=dropout), config.horizon, config.dt_s)


def _continuous(config: DecoderConfig, width: int, heads: int, dropout: float) -> ActionHead:
    return SingleStepHead(ContinuousActionDecoder(width, dropout=dropout), config.horizon, config.dt_s)


_KINDS: Mapping[str, Callable[[DecoderConfig, int, int, float], ActionHead]] = {
    "flow": FlowChunkDecoder,
    "regression": RegressionChunkDecoder,
    "single": _single,
    "continuous": _continuous,
}


def _branch(hidden_dim: int, width: int, dropout: float) -> nn.Sequential:
    half = hidden_dim // 2
    return nn.Sequential(nn.Linear(hidden_dim, half), nn.GELU(), nn.Dropout(dropout), nn.Linear(half, width))


def _turned(offset: Tensor) -> Tensor:
    """The rotation at an offset of -1..1 in each number from the identity: any can be had so. (B, 4) -> (B, 4)"""
    return unit_quaternion(offset.new_tensor(IDENTITY) + offset)
