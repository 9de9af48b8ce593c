"""The world model foretells what a toy world does, by its own predictions; the value tells good from bad."""

from __future__ import annotations

import pytest
import torch

from vla_ros.model.actions import ActionStatistics
from vla_ros.model.value import ValueEstimator
from vla_ros.model.world_model import CONTROLS, WorldModel, controls

WIDTH = 8


def linear_world(samples: int, steps: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A stable, turning world that is pushed about. -> states (samples, steps + 1, 8), controls (samples, steps, 7)"""
    fixed = torch.Generator().manual_seed(0)
    turning = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=fixed)).Q * 0.97
    push = 0.3 * torch.randn(CONTROLS, WIDTH, generator=fixed)
    generator = torch.Generator().manual_seed(seed)
    states = [3.0 * torch.randn(samples, WIDTH, generator=generator)]
    pushed = torch.randn(samples, steps, CONTROLS, generator=generator)
    for one in pushed.unbind(dim=1):
        states.append(states[-1] @ turning + one @ push)
    return torch.stack(states, dim=1), pushed


def fitted(steps: int) -> WorldModel:
    torch.manual_seed(0)
    built = WorldModel(WIDTH)
    optimiser = torch.optim.Adam(built.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-2, total_steps=steps)
    for seed in range(steps):
        optimiser.zero_grad()
        built.loss(*linear_world(64, 4, seed + 1)).backward()
        optimiser.step()
        schedule.step()
    return built.eval()


@pytest.mark.timeout(300)
def test_ten_steps_from_its_own_predictions_stay_within_a_hundredth_of_the_variance() -> None:
    built = fitted(800)
    states, pushed = linear_world(200, 10, 12345)
    with torch.inference_mode():
        foretold = built(states[:, 0], pushed)
    error = (foretold[:, -1] - states[:, -1]).square().mean()
    variance = states[:, -1].var(dim=0).mean()
    print(f"error {error / variance:.2%} of the variance after ten steps")
    assert error < 0.01 * variance
    # Nothing but the beginning is told: what comes after a step changes nothing before it.
    other = torch.cat((pushed[:, :5], -pushed[:, 5:]), dim=1)
    with torch.inference_mode():
        again = built(states[:, 0], other)
    assert torch.equal(again[:, :5], foretold[:, :5]) and not torch.allclose(again[:, 5], foretold[:, 5])


def test_a_rollout_is_one_step_after_the_other() -> None:
    torch.manual_seed(1)
    built = WorldModel(WIDTH)
    torch.nn.init.normal_(built.drift.weight, std=0.1)
    states, pushed = linear_world(3, 4, 1)
    by_hand = states[:, 0]
    for index in range(4):
        by_hand = built.step(by_hand, pushed[:, index])
    assert torch.allclose(built(states[:, 0], pushed)[:, -1], by_hand)
    assert built(states[:, 0], pushed[:, :0]).shape == (3, 0, WIDTH)


def test_it_learns_from_what_was_seen_and_does_not_teach_who_saw_it() -> None:
    built = WorldModel(WIDTH)
    states, pushed = linear_world(3, 4, 1)
    assert torch.equal(built(states[:, 0], pushed)[:, -1], states[:, 0]), "at first nothing is expected to change"
    torch.nn.init.normal_(built.change.weight)
    states.requires_grad_()
    built.loss(states, pushed).backward()
    assert states.grad is None
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in built.parameters())


def test_steps_of_no_weight_teach_nothing() -> None:
    built = WorldModel(WIDTH)
    states, pushed = linear_world(3, 4, 1)
    weights = torch.ones(3, 4)
    weights[1, 3] = 0.0
    spoilt = states.clone()
    spoilt[1, 4] = 1e6
    assert built.loss(states, pushed, weights) == built.loss(spoilt, pushed, weights)
    assert built.loss(states, pushed, torch.zeros(3, 4)) == 0.0


def test_instants_that_do_not_fit_the_steps_are_refused() -> None:
    states, pushed = linear_world(3, 4, 1)
    with pytest.raises(ValueError, match="4 steps lead through 5 instants, not 4"):
        WorldModel(WIDTH).loss(states[:, 1:], pushed)


def test_where_a_row_is_counted_from_does_not_matter_to_a_step() -> None:
    rows = torch.zeros(2, 3, 14)
    rows[..., 6], rows[..., 7], rows[..., 13] = 1.0, 0.2, 0.7
    moved = rows.clone()
    moved[..., :3] += 5.0
    statistics = ActionStatistics.identity()
    assert controls(rows, statistics).shape == (2, 3, CONTROLS)
    assert torch.equal(controls(rows, statistics), controls(moved, statistics))
    moved[..., 7] = -0.2
    assert not torch.equal(controls(rows, statistics), controls(moved, statistics))


@pytest.mark.timeout(300)
def test_the_value_ranks_what_ended_well_above_what_did_not() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    direction = torch.randn(WIDTH, generator=generator)

    def episodes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.randn(count, WIDTH, generator=generator)
        return features, features @ direction + 0.3 * torch.randn(count, generator=generator) > 0.0

    built = ValueEstimator(WIDTH)
    optimiser = torch.optim.Adam(built.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        built.loss(*episodes(128)).backward()
        optimiser.step()
    features, success = episodes(500)
    with torch.inference_mode():
        values = built(features)
        likely = torch.sigmoid(values)
    pairs = values[success].unsqueeze(1) > values[~success]
    print(f"{pairs.float().mean():.1%} of pairs in order")
    assert pairs.float().mean() > 0.95
    assert likely[success].mean() > 0.8 and likely[~success].mean() < 0.2


def test_outcomes_that_nobody_knows_teach_the_value_nothing() -> None:
    built = ValueEstimator(WIDTH)
    features = torch.randn(4, WIDTH, requires_grad=True)
    known = torch.tensor([1.0, 1.0, 0.0, 1.0])
    losses = [built.loss(features, torch.tensor([True, False, maybe, True]), known) for maybe in (True, False)]
    assert torch.equal(*losses)
    losses[0].backward()
    assert features.grad is None
