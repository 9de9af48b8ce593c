"""One action from features, always valid, and the chunk that is made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vla_ros import geometry
from vla_ros.errors import ModelError
from vla_ros.model.actions import IDENTITY, VELOCITY, ActionStatistics, unit_quaternion
from vla_ros.model.chunk_decoder import Memory, Prefix, RegressionChunkDecoder
from vla_ros.model.config import DecoderConfig
from vla_ros.model.decoders import ActionDecoder, ContinuousActionDecoder, SingleStepHead, make_head
from vla_ros.model.flow import FlowChunkDecoder
from vla_ros.types import ACTION_WIDTH, GRIPPER, POSITION, QUATERNION, Pose, Twist

WIDTH, HORIZON, DT_S = 32, 6, 0.05
DECODERS = (ActionDecoder, ContinuousActionDecoder)
both = pytest.mark.parametrize("decoder_class", DECODERS)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _features(count: int = 4, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, WIDTH, generator=_generator(1))


def _rows(count: int, seed: int = 2) -> Tensor:
    rows = 0.1 * torch.randn(count, ACTION_WIDTH, generator=_generator(seed))
    rows[:, QUATERNION] = unit_quaternion(rows[:, QUATERNION] + torch.tensor(IDENTITY))
    rows[:, GRIPPER] = rows[:, GRIPPER].sigmoid()
    return rows


STATISTICS = ActionStatistics.of(_rows(100))


def _made(decoder_class: type[ActionDecoder | ContinuousActionDecoder]) -> ActionDecoder | ContinuousActionDecoder:
    torch.manual_seed(0)
    return decoder_class(WIDTH).eval()


def _head(decoder_class: type[ActionDecoder | ContinuousActionDecoder]) -> SingleStepHead:
    return SingleStepHead(_made(decoder_class), HORIZON, DT_S)


def _memory(features: Tensor) -> Memory:
    """Tokens that say nothing, and the features."""
    return Memory(torch.zeros(len(features), 3, WIDTH), torch.ones(len(features), 3, dtype=torch.bool), features)


def _asked(head: SingleStepHead, features: Tensor, prefix: Prefix | None = None) -> Tensor:
    return head.sample(_memory(features), STATISTICS, prefix)


def _loss(head: SingleStepHead, features: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    return head.loss(_memory(features), target, STATISTICS, weights)


@both
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_an_action_is_valid_and_within_the_statistics(decoder_class, scale):
    parts = _made(decoder_class)(_features(50, scale), STATISTICS)
    assert torch.allclose(parts.orientation.norm(dim=-1), torch.ones(50), atol=1e-6)
    assert (parts.orientation[:, 3] >= 0.0).all()
    assert (parts.velocity.abs() <= STATISTICS.reach[VELOCITY]).all()
    assert ((parts.gripper >= 0.0) & (parts.gripper <= 1.0)).all()
    assert (parts.position.abs() <= STATISTICS.reach[POSITION]).all()
    if decoder_class is ActionDecoder:
        assert (parts.position >= STATISTICS.low[POSITION]).all() and (
            parts.position <= STATISTICS.high[POSITION]
        ).all()


@both
def test_a_network_that_says_nothing_does_not_turn(decoder_class):
    decoder = _made(decoder_class)
    for parameter in decoder.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(decoder(_features(), STATISTICS).orientation, torch.tensor(IDENTITY).expand(4, 4))


@both
def test_a_quaternion_that_cancels_to_zero_is_still_a_rotation_with_finite_gradients(decoder_class):
    decoder = _made(decoder_class)
    linear = [module for module in decoder.modules() if isinstance(module, nn.Linear)]
    last = next(module for module in linear if module.out_features in (4, ACTION_WIDTH))
    w = 6 if last.out_features == ACTION_WIDTH else 3
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        last.bias[w] = -1e9  # bounded to -1, which cancels the identity's
    orientation = decoder(_features(), STATISTICS).orientation
    assert torch.allclose(orientation.norm(dim=-1), torch.ones(4))
    orientation[:, 0].sum().backward()
    assert last.bias.grad.isfinite().all()


@both
def test_one_sample_changes_no_other_action(decoder_class):
    decoder, features = _made(decoder_class), _features()
    changed = features.clone()
    changed[1] += 1.0
    before, after = decoder(features, STATISTICS).joined(), decoder(changed, STATISTICS).joined()
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]]) and not torch.allclose(before[1], after[1])


@both
def test_decoding_is_deterministic_in_eval_and_drops_out_in_training(decoder_class):
    decoder, features = _made(decoder_class), _features()
    assert torch.equal(decoder(features, STATISTICS).joined(), decoder(features, STATISTICS).joined())
    decoder.train()
    assert not torch.equal(decoder(features, STATISTICS).joined(), decoder(features, STATISTICS).joined())


@both
def test_an_action_of_another_width_is_refused(decoder_class):
    with pytest.raises(ModelError, match="always has 14"):
        decoder_class(WIDTH, 7)


@both
def test_a_chunk_holds_the_velocity_of_its_first_row(decoder_class):
    rows = _asked(_head(decoder_class), _features(2, 3.0)).double().numpy()
    assert rows.shape == (2, HORIZON, ACTION_WIDTH)
    for sample in rows:
        start = Pose(sample[0, POSITION], geometry.normalise(sample[0, QUATERNION]))
        twist = Twist(sample[0, VELOCITY][:3], sample[0, VELOCITY][3:])
        for index, row in enumerate(sample):
            expected = geometry.integrate(start, twist, index * DT_S)
            assert np.allclose(row[POSITION], expected.position, atol=1e-6)
            assert np.allclose(row[QUATERNION], expected.quaternion, atol=1e-6)
            assert np.allclose(row[VELOCITY], sample[0, VELOCITY]) and row[GRIPPER] == sample[0, GRIPPER]


@both
def test_committed_rows_come_back_unchanged_before_a_held_action(decoder_class):
    head, features = _head(decoder_class), _features(2)
    prefix = Prefix(_rows(2 * HORIZON).reshape(2, HORIZON, ACTION_WIDTH), torch.tensor([2, 0]))
    free, bound = _asked(head, features), _asked(head, features, prefix)
    assert torch.equal(bound[0, :2], prefix.rows[0, :2])
    assert torch.equal(bound[0, 2:], free[0, 2:]) and torch.equal(bound[1], free[1])


@both
def test_a_single_action_learns_from_the_first_row_of_those_that_count(decoder_class):
    head, features = _head(decoder_class), _features(2)
    target = _rows(2 * HORIZON).reshape(2, HORIZON, ACTION_WIDTH)
    weights = torch.tensor([1.0, 0.0]).unsqueeze(-1).expand(2, HORIZON)
    loss = _loss(head, features, target, weights)
    later, other, first = target.clone(), target.clone(), target.clone()
    later[:, 1:, POSITION] += 1.0
    other[1, :, POSITION] += 1.0
    first[0, 0, POSITION] += 1.0
    assert _loss(head, features, later, weights) == loss == _loss(head, features, other, weights)
    assert _loss(head, features, first, weights) != loss
    assert _loss(head, features, target, torch.zeros(2, HORIZON)) == 0.0


@both
def test_a_single_action_can_be_learned_to_the_ends_of_the_data(decoder_class):
    head, features = _head(decoder_class), _features(4)
    rows = _rows(100)
    extremes = torch.stack([rows[rows[:, 0].argmin()], rows[rows[:, 0].argmax()], rows[0], rows[1]])
    target = extremes.unsqueeze(1).expand(-1, HORIZON, -1)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = _loss(head, features, target)
        loss.backward()
        optimiser.step()
    assert all(parameter.grad.abs().sum() > 0.0 for parameter in head.parameters())
    assert torch.allclose(_asked(head, features)[:, 0], extremes, atol=0.03)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("flow", FlowChunkDecoder),
        ("regression", RegressionChunkDecoder),
        ("single", ActionDecoder),
        ("continuous", ContinuousActionDecoder),
    ],
)
def test_the_configuration_chooses_the_head(kind, expected):
    head = make_head(DecoderConfig(kind=kind, horizon=HORIZON, layers=1), WIDTH, 4, 0.0)
    assert isinstance(head.decoder if isinstance(head, SingleStepHead) else head, expected)
    assert head.horizon == HORIZON


def test_a_head_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ModelError, match="flow, regression, single, continuous"):
        make_head(DecoderConfig(kind="diffusion"), WIDTH, 4, 0.0)  # type: ignore[arg-type]
