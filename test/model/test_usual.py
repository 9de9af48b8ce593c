"""What is usual is measured in each direction's own standard deviation, and a sight is what is there to be seen."""

from __future__ import annotations

import pytest
import torch
from model_builders import model, observation

from vla_ros.model.usual import Usual


def drawn(count: int, seed: int = 0) -> torch.Tensor:
    """Vectors that vary a lot along one diagonal and hardly along the other."""
    generator = torch.Generator().manual_seed(seed)
    wide, narrow = torch.randn(2, count, 1, generator=generator)
    return 5.0 + 10.0 * wide * torch.tensor([1.0, 1.0]) + 0.5 * narrow * torch.tensor([1.0, -1.0])


def test_usual_vectors_are_at_a_distance_of_about_one() -> None:
    usual = Usual(2)
    usual.measure(drawn(5000))
    distances = usual.distance(drawn(5000, seed=1))
    assert 0.5 < float(distances.square().mean().sqrt()) <= 1.05
    assert float(distances.max()) < 5.0


def test_what_hardly_varies_tells_more_than_what_varies_a_lot() -> None:
    usual = Usual(2)
    usual.measure(drawn(5000))
    along, across = torch.tensor([15.0, 15.0]), torch.tensor([15.0, -5.0])
    assert float(usual.distance(across)) > 3.0 * float(usual.distance(along))


def test_directions_in_which_nothing_varied_are_not_infinitely_sharp() -> None:
    usual = Usual(3)
    usual.measure(torch.cat((drawn(100), torch.zeros(100, 1)), dim=1))
    off = torch.tensor([5.0, 5.0, 0.1])
    assert torch.isfinite(usual.distance(off)) and float(usual.distance(off)) < 1.0


def test_before_anything_is_measured_sizes_count_as_they_are() -> None:
    assert float(Usual(4).distance(torch.tensor([2.0, -2.0, 2.0, 2.0]))) == pytest.approx(2.0)


def test_a_sight_tells_of_every_view_and_whether_all_are_there() -> None:
    built = model()
    width = built.config.width
    with torch.inference_mode():
        both = built.sight(built.perceive(built.inputs([observation(0), observation(1)])))
        one = built.sight(built.perceive(built.inputs([observation(0), observation(1, views=("front",))])))
        front = built.sight(built.perceive(built.inputs([observation(1, views=("front",))])))
    assert both.features.shape == (2, 3 * width) == (2, built.reasoning.layout.size) and both.is_complete.all()
    assert one.is_complete.tolist() == [True, False] and not front.is_complete.any()
    assert not one.features[1, 2 * width :].any() and one.features[1, width : 2 * width].any()
    assert torch.allclose(front.features[0], one.features[1], atol=1e-5)
    assert torch.allclose(both.features[0], one.features[0], atol=1e-5)
