"""The 14-number action as tensors: its parts, its rotations, its statistics, and how it becomes a token.

Rows are a model's: a position is a displacement [m] from the commanded pose at t_obs, a quaternion (x, y, z, w) the
rotation [-] from the commanded orientation, so that its hemisphere is w >= 0; velocities are m/s and rad/s, the gripper
is 0 closed to 1 open. Along whose axes, relative.py says. "..." stands for any leading dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vla_ros.errors import ModelError
from vla_ros.types import ACTION_WIDTH, ANGULAR_VELOCITY, GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION

VELOCITY = slice(LINEAR_VELOCITY.start, ANGULAR_VELOCITY.stop)
IDENTITY = (0.0, 0.0, 0.0, 1.0)
_NO_DIRECTION = 1e-6  # a quaternion shorter than this says nothing
_LEAST_STD = 1e-3  # a millimetre, a milliradian: what varies less is constant
_UNIT_TOLERANCE = 1e-3
_MARGIN = 0.1  # of the range seen, on either side: a sigmoid does not reach its ends


@dataclass(frozen=True, eq=False)
class ActionParts:
    """An action, taken apart. position: (..., 3); orientation: (..., 4); velocity: (..., 6); gripper: (..., 1)."""

    position: Tensor
    orientation: Tensor
    velocity: Tensor
    gripper: Tensor

    def joined(self) -> Tensor:
        """The 14 numbers in the order of vla_ros.types. -> (..., 14)"""
        return torch.cat((self.position, self.orientation, self.velocity, self.gripper), dim=-1)

    @staticmethod
    def split(actions: Tensor) -> ActionParts:
        """The inverse of joined: views into actions, (..., 14)."""
        return ActionParts(
            actions[..., POSITION], actions[..., QUATERNION], actions[..., VELOCITY], actions[..., GRIPPER:]
        )


def require_action_width(width: int) -> None:
    """Raises ModelError unless an action has the 14 numbers that it has everywhere."""
    if width != ACTION_WIDTH:
        raise ModelError(
            f"an action of {width} numbers was asked for; it always has {ACTION_WIDTH}: "
            "position 3, quaternion 4, velocity 6, gripper 1"
        )


def unit_quaternion(raw: Tensor, reference: Tensor | None = None) -> Tensor:
    """Of unit length, and of the two signs the one nearer to the reference. (..., 4) -> (..., 4)

    reference: unit, of a shape that broadcasts; the identity by default. A quaternion of no length has no direction:
    it becomes the reference, and passes no gradient.
    """
    near = raw.new_tensor(IDENTITY) if reference is None else reference
    has_direction = raw.square().sum(dim=-1, keepdim=True) > _NO_DIRECTION**2
    given = torch.where(has_direction, raw, near)
    unit = given / given.square().sum(dim=-1, keepdim=True).sqrt()
    return torch.where((unit * near).sum(dim=-1, keepdim=True) < 0.0, -unit, unit)


def quaternion_product(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product left * right: first rotate by `right`, then by `left`. (..., 4), (..., 4) -> (..., 4)"""
    left_vector, left_w = left[..., :3], left[..., 3:]
    right_vector, right_w = right[..., :3], right[..., 3:]
    vector = left_w * right_vector + right_w * left_vector + torch.linalg.cross(left_vector, right_vector)
    return torch.cat((vector, left_w * right_w - (left_vector * right_vector).sum(dim=-1, keepdim=True)), dim=-1)


def from_rotation_vector(rotation_vector: Tensor) -> Tensor:
    """Exponential map. (..., 3) [rad] -> (..., 4) unit."""
    half = 0.5 * torch.linalg.vector_norm(rotation_vector, dim=-1, keepdim=True)
    return torch.cat((0.5 * torch.sinc(half / torch.pi) * rotation_vector, torch.cos(half)), dim=-1)


class ActionStatistics(nn.Module):
    """What a checkpoint knows of its data's actions, in buffers that are saved with it.

    mean, std: (14,), of the normalisation. A std is never below 1e-3, lest a dimension that was constant in the data
    explode. Quaternions keep their shape: their mean is a rotation, in whose hemisphere they all are, and one std
    serves all four columns. low, high: (14,), the range of the values, for decoders that are bounded.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        mean: Tensor | Sequence[float],
        std: Tensor | Sequence[float],
        low: Tensor | Sequence[float],
        high: Tensor | Sequence[float],
    ) -> None:
        """Raises ModelError for numbers that are not 14, not finite, or at odds with each other."""
        super().__init__()
        for name, values in (("mean", mean), ("std", std), ("low", low), ("high", high)):
            self.register_buffer(name, _fourteen(name, values))
        self._check()
        self.std.clamp_(min=_LEAST_STD)

    @classmethod
    def of(cls, rows: Tensor, orientation: Tensor | None = None) -> ActionStatistics:
        """Measured on rows, (N, 14). low and high stand a tenth of the range outside of it, within a decoder's reach.

        orientation: (4,) unit, what their rotations are near to: the identity, the default, for relative rows. (Seen
        from half a turn away, as a tool that points down is from the identity, the signs would flip at random.)
        Raises ModelError unless rows are 14 finite numbers each, and at least one.
        """
        if rows.ndim != 2 or rows.shape[1] != ACTION_WIDTH or len(rows) == 0:
            raise ModelError(
                f"action statistics need rows of shape (1 or more, {ACTION_WIDTH}), not {tuple(rows.shape)}"
            )
        rows = rows.double()
        near = rows.new_tensor(IDENTITY) if orientation is None else orientation.to(rows)
        mean, std = rows.mean(dim=0), rows.std(dim=0, correction=0)
        mean[QUATERNION] = near
        std[QUATERNION] = (unit_quaternion(rows[:, QUATERNION], near) - near).square().mean().sqrt()
        low, high = rows.amin(dim=0), rows.amax(dim=0)
        margin = (_MARGIN * (high - low)).clamp(min=_LEAST_STD)
        return cls(mean, std, low - margin, high + margin)

    @classmethod
    def identity(cls) -> ActionStatistics:
        """Of nothing yet: std 1, the range -1 to 1, mean 0 but for the quaternion's identity."""
        mean = torch.zeros(ACTION_WIDTH)
        mean[QUATERNION] = torch.tensor(IDENTITY)
        ones = torch.ones(ACTION_WIDTH)
        return cls(mean, ones, -ones, ones)

    @property
    def reach(self) -> Tensor:
        """The greatest magnitude of each number. -> (14,)"""
        return torch.maximum(self.low.abs(), self.high.abs())

    def normalise(self, actions: Tensor) -> Tensor:
        """Physical rows in units of the data's spread. (..., 14) -> (..., 14); a quaternion's sign does not matter."""
        return (self._with_unit_quaternions(ActionParts.split(actions)).joined() - self.mean) / self.std

    def denormalise(self, normalised: Tensor) -> Tensor:
        """The inverse. (..., 14) -> (..., 14), valid for any input: quaternions are unit, grippers lie in 0..1."""
        parts = self._with_unit_quaternions(ActionParts.split(normalised * self.std + self.mean))
        return replace(parts, gripper=parts.gripper.clamp(0.0, 1.0)).joined()

    def _with_unit_quaternions(self, parts: ActionParts) -> ActionParts:
        return replace(parts, orientation=unit_quaternion(parts.orientation, self.mean[QUATERNION]))

    def _check(self) -> None:
        if abs(float(self.mean[QUATERNION].norm()) - 1.0) > _UNIT_TOLERANCE:
            raise ModelError("the action statistics' mean holds a quaternion that is not unit")
        if (self.std < 0.0).any():
            raise ModelError("the action statistics' std is negative")
        if (self.low > self.high).any():
            raise ModelError("the action statistics' low is above their high")


class ActionEncoder(nn.Module):
    """An action, or the robot's state written as one, as a token: each part on its own, then together."""

    def __init__(self, action_space_dim: int = ACTION_WIDTH, hidden_dim: int = 512) -> None:
        """Raises ModelError unless action_space_dim is 14 and hidden_dim a multiple of 4."""
        super().__init__()
        require_action_width(action_space_dim)
        if hidden_dim % 4:
            raise ModelError(
                f"hidden_dim is {hidden_dim}; it must be a multiple of 4, a share for each part of an action"
            )
        share = hidden_dim // 4
        self.position_encoder = nn.Linear(3, share)
        self.orientation_encoder = nn.Linear(4, share)
        self.velocity_encoder = nn.Linear(6, share)
        self.gripper_encoder = nn.Linear(1, share)
        self.action_combiner = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.LayerNorm(hidden_dim)
        )

    def forward(self, actions: Tensor | ActionParts) -> Tensor:
        """actions: normalised, which also settles the sign of quaternions; (..., 14) or parts. -> (..., hidden_dim)"""
        parts = actions if isinstance(actions, ActionParts) else ActionParts.split(actions)
        encoded = (
            self.position_encoder(parts.position),
            self.orientation_encoder(parts.orientation),
            self.velocity_encoder(parts.velocity),
            self.gripper_encoder(parts.gripper),
        )
        combined: Tensor = self.action_combiner(torch.cat(encoded, dim=-1))
        return combined


def _fourteen(name: str, values: Tensor | Sequence[float]) -> Tensor:
    """A float32 copy of its own. -> (14,)"""
    numbers = values.detach() if isinstance(values, Tensor) else torch.tensor(values)
    if numbers.shape != (ACTION_WIDTH,):
        raise ModelError(f"the action statistics' {name} has shape {tuple(numbers.shape)}; ({ACTION_WIDTH},) is needed")
    if not numbers.isfinite().all():
        raise ModelError(f"the action statistics' {name} is not finite")
    return numbers.to(torch.float32, copy=True)
