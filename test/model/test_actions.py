"""The 14 numbers as tensors: unit quaternions whatever comes, statistics there and back, and the action's token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla_ros import geometry
from vla_ros.errors import ModelError
from vla_ros.model.actions import (
    IDENTITY,
    ActionEncoder,
    ActionParts,
    ActionStatistics,
    from_rotation_vector,
    quaternion_product,
    unit_quaternion,
)
from vla_ros.types import ACTION_WIDTH, GRIPPER, LINEAR_VELOCITY, QUATERNION

seeds = st.integers(0, 2**32 - 1)
TOOL_DOWN = torch.tensor([1.0, 0.0, 0.0, 0.0])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(count: int, seed: int = 0, spread: float = 0.2) -> Tensor:
    """Valid relative rows around the identity."""
    rows = spread * torch.randn(count, ACTION_WIDTH, generator=_generator(seed))
    rows[:, QUATERNION] = unit_quaternion(rows[:, QUATERNION] + torch.tensor(IDENTITY))
    rows[:, GRIPPER] = torch.rand(count, generator=_generator(seed + 1))
    return rows


@given(seeds, st.sampled_from([1e-3, 1.0, 1e3]))
def test_any_quaternion_becomes_unit_in_the_hemisphere_of_the_reference(seed, scale):
    raw = scale * torch.randn(5, 4, generator=_generator(seed))
    reference = unit_quaternion(torch.randn(5, 4, generator=_generator(seed + 1)))
    for near in (None, reference):
        unit = unit_quaternion(raw, near)
        assert torch.allclose(unit.norm(dim=-1), torch.ones(5), atol=1e-6)
        assert ((unit * (torch.tensor(IDENTITY) if near is None else near)).sum(dim=-1) >= 0.0).all()
        assert torch.allclose((unit * raw).sum(dim=-1).abs(), raw.norm(dim=-1), rtol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-7])
def test_a_quaternion_without_a_direction_becomes_the_reference_and_its_gradient_stays_finite(size):
    raw = torch.full((2, 4), size, requires_grad=True)
    assert torch.equal(unit_quaternion(raw), torch.tensor([IDENTITY, IDENTITY]))
    assert torch.equal(unit_quaternion(raw, TOOL_DOWN), TOOL_DOWN.expand(2, 4))
    (gradient,) = torch.autograd.grad(unit_quaternion(raw)[:, 0].sum(), raw)
    assert gradient.isfinite().all()


def test_parts_are_the_action_taken_apart():
    rows = _rows(6).reshape(2, 3, ACTION_WIDTH)
    parts = ActionParts.split(rows)
    assert [parts.position.shape, parts.gripper.shape] == [(2, 3, 3), (2, 3, 1)]
    assert torch.equal(parts.joined(), rows)


@given(seeds, st.sampled_from([0.0, 1e-6, 0.3, 3.0]))
def test_rotations_are_those_of_the_numpy_side(seed, angle):
    generator = np.random.default_rng(seed)
    vector = generator.normal(size=3)
    vector *= angle / np.linalg.norm(vector)
    start = geometry.normalise(generator.normal(size=4))
    turn = from_rotation_vector(torch.tensor(vector))
    assert np.allclose(turn.numpy(), geometry.from_rotation_vector(vector), atol=1e-9)
    product = quaternion_product(turn, torch.tensor(start))
    assert np.allclose(product.numpy(), geometry.multiply(turn.numpy(), start), atol=1e-9)


def test_statistics_normalise_and_back():
    rows = _rows(200)
    statistics = ActionStatistics.of(rows)
    normalised = statistics.normalise(rows)
    others = [index for index in range(ACTION_WIDTH) if index not in range(*QUATERNION.indices(ACTION_WIDTH))]
    assert torch.allclose(normalised[:, others].mean(dim=0), torch.zeros(len(others)), atol=1e-4)
    assert torch.allclose(normalised[:, others].std(dim=0, correction=0), torch.ones(len(others)), atol=1e-4)
    assert torch.allclose(statistics.denormalise(normalised), rows, atol=1e-5)


def test_a_dimension_that_never_changed_does_not_explode():
    rows = _rows(1).expand(50, ACTION_WIDTH)
    statistics = ActionStatistics.of(rows)
    assert statistics.normalise(rows).abs().max() < 100.0
    assert statistics.normalise(rows + 1e-6).sub(statistics.normalise(rows)).abs().max() < 1e-2
    assert (statistics.low < rows[0]).all() and (rows[0] < statistics.high).all()


def test_a_quaternion_keeps_its_shape_when_it_is_normalised():
    statistics = ActionStatistics.of(_rows(200))
    assert torch.equal(statistics.mean[QUATERNION], torch.tensor(IDENTITY))
    assert len(statistics.std[QUATERNION].unique()) == 1


def test_both_signs_of_a_quaternion_are_the_same_action():
    rows = _rows(20)
    statistics = ActionStatistics.of(rows)
    flipped = rows.clone()
    flipped[:, QUATERNION] *= -1.0
    assert torch.equal(statistics.normalise(rows), statistics.normalise(flipped))
    assert torch.equal(ActionStatistics.of(flipped).std, statistics.std)


def test_orientations_half_a_turn_from_the_identity_have_statistics_of_their_own():
    jitter = 0.02 * torch.randn(100, 4, generator=_generator(3))
    rows = _rows(100)
    rows[:, QUATERNION] = unit_quaternion(
        TOOL_DOWN + jitter
    )  # half of them with w < 0: the identity's hemisphere flips
    statistics = ActionStatistics.of(rows, orientation=TOOL_DOWN)
    assert statistics.std[QUATERNION].max() < 0.03 < 0.5 < ActionStatistics.of(rows).std[QUATERNION].min()
    gap = statistics.normalise(rows)[:, QUATERNION].amax(dim=0) - statistics.normalise(rows)[:, QUATERNION].amin(dim=0)
    assert gap.max() < 10.0
    assert torch.equal(statistics.denormalise(torch.zeros(ACTION_WIDTH))[QUATERNION], TOOL_DOWN)


def test_whatever_is_denormalised_is_a_valid_action():
    statistics = ActionStatistics.of(_rows(50))
    wild = 100.0 * torch.randn(300, ACTION_WIDTH, generator=_generator(5))
    wild[0, QUATERNION] = -statistics.mean[QUATERNION] / statistics.std[QUATERNION]  # the zero quaternion
    rows = statistics.denormalise(wild)
    assert torch.allclose(rows[:, QUATERNION].norm(dim=-1), torch.ones(300), atol=1e-6)
    assert (rows[:, QUATERNION][:, 3] >= 0.0).all()
    assert rows[:, GRIPPER].min() == 0.0 and rows[:, GRIPPER].max() == 1.0


def test_statistics_of_nothing_leave_everything_but_the_quaternions_origin():
    rows = _rows(5)
    expected = rows.clone()
    expected[:, QUATERNION] -= torch.tensor(IDENTITY)
    assert torch.allclose(ActionStatistics.identity().normalise(rows), expected)


def test_reach_is_the_greatest_magnitude():
    rows = _rows(3)
    rows[:, LINEAR_VELOCITY.start] = torch.tensor([-0.5, 0.0, 0.1])
    assert ActionStatistics.of(rows).reach[LINEAR_VELOCITY.start] == pytest.approx(0.56)


def test_statistics_travel_in_the_state_dict_and_as_plain_numbers():
    statistics = ActionStatistics.of(_rows(50))
    loaded = ActionStatistics.identity()
    loaded.load_state_dict(statistics.state_dict())
    written = ActionStatistics(*(getattr(statistics, name).tolist() for name in ("mean", "std", "low", "high")))
    for found in (loaded, written):
        assert torch.equal(found.normalise(_rows(5)), statistics.normalise(_rows(5)))
    assert not list(statistics.parameters())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.zeros(3, 13), r"\(3, 13\)"),
        (torch.zeros(0, ACTION_WIDTH), r"\(0, 14\)"),
        (torch.full((2, ACTION_WIDTH), torch.nan), "mean is not finite"),
        (_rows(2).index_fill(1, torch.tensor([4]), torch.inf), "not finite"),
    ],
)
def test_statistics_of_what_are_not_actions_are_refused(rows, words):
    with pytest.raises(ModelError, match=words):
        ActionStatistics.of(rows)


def test_statistics_that_contradict_themselves_are_refused():
    ones, mean = [1.0] * ACTION_WIDTH, [*[0.0] * 6, 1.0, *[0.0] * 7]
    with pytest.raises(ModelError, match="low is above"):
        ActionStatistics(mean, ones, ones, [0.0] * ACTION_WIDTH)
    with pytest.raises(ModelError, match="quaternion"):
        ActionStatistics([0.0] * ACTION_WIDTH, ones, mean, ones)
    with pytest.raises(ModelError, match=r"std has shape \(1,\)"):
        ActionStatistics(mean, [1.0], mean, ones)


def test_an_action_becomes_a_token_from_its_numbers_or_its_parts():
    torch.manual_seed(0)
    encoder = ActionEncoder(hidden_dim=32)
    normalised = ActionStatistics.identity().normalise(_rows(6)).reshape(2, 3, ACTION_WIDTH)
    encoded = encoder(normalised)
    assert encoded.shape == (2, 3, 32)
    assert torch.equal(encoder(ActionParts.split(normalised)), encoded)


def test_the_encoder_sees_every_number_and_only_its_own_sample():
    torch.manual_seed(0)
    encoder = ActionEncoder(hidden_dim=32)
    rows = ActionStatistics.identity().normalise(_rows(3))
    before = encoder(rows)
    for number in range(ACTION_WIDTH):
        changed = rows.clone()
        changed[1, number] += 0.5
        after = encoder(changed)
        assert torch.equal(after[0], before[0]) and torch.equal(after[2], before[2])
        assert not torch.allclose(after[1], before[1], atol=1e-4)


def test_gradients_reach_every_parameter_of_the_encoder():
    torch.manual_seed(0)
    encoder = ActionEncoder(hidden_dim=32)
    encoder(_rows(4)).square().mul(torch.arange(32)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0.0 for parameter in encoder.parameters())


@pytest.mark.parametrize(("arguments", "words"), [((7,), "always has 14"), ((14, 30), "multiple of 4")])
def test_an_encoder_of_another_shape_is_refused(arguments, words):
    with pytest.raises(ModelError, match=words):
        ActionEncoder(*arguments)
