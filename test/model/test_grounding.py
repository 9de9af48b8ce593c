"""Places are found in what is seen and said, and what is unknown teaches nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vla_ros.model.grounding import GroundingHead, grounding_loss

PLACES, WIDTH, TOKENS = 2, 16, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def head() -> GroundingHead:
    torch.manual_seed(0)
    return GroundingHead(PLACES, WIDTH, heads=2)


def batch(seed: int, samples: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens of which one, marked and anywhere, says where two things are. -> tokens, mask, places [m]"""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(samples, TOKENS, WIDTH, generator=generator)
    places = 0.2 * torch.randn(samples, 3 * PLACES, generator=generator)
    marked = torch.randint(TOKENS, (samples,), generator=generator)
    tokens[..., 0] = 0.0
    tokens[torch.arange(samples), marked, 0] = 6.0
    tokens[torch.arange(samples), marked, 1 : 1 + 3 * PLACES] = 5.0 * places
    return tokens, torch.ones(samples, TOKENS, dtype=torch.bool), places


def test_places_are_learned_from_whichever_token_tells_of_them() -> None:
    grounding = head()
    optimiser = torch.optim.Adam(grounding.parameters(), lr=1e-2)
    for step in range(200):
        tokens, mask, places = batch(step, 64)
        loss = grounding_loss(grounding(tokens, mask), places, torch.ones_like(places, dtype=torch.bool))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tokens, mask, places = batch(10_000, 200)
    with torch.no_grad():
        error_m = (grounding(tokens, mask).flatten(1) - places).abs().mean()
    assert places.abs().mean() > 0.15
    assert error_m < 0.08


def test_unknown_places_count_nothing_and_teach_nothing() -> None:
    grounding = head()
    tokens, mask, places = batch(0)
    known = torch.ones_like(places, dtype=torch.bool)
    known[:, 3:] = False
    answers = grounding(tokens, mask).detach()
    expected = (answers[:, 0] - places[:, :3]).abs().mean() / 0.1
    assert torch.allclose(grounding_loss(answers, places, known), expected)
    places[:, 3:] = torch.nan  # whatever stands there
    assert torch.isfinite(grounding_loss(answers, places, known))


def test_nothing_known_is_no_loss() -> None:
    tokens, mask, places = batch(0)
    grounding = head()
    loss = grounding_loss(grounding(tokens, mask), places, torch.zeros_like(places, dtype=torch.bool))
    loss.backward()
    assert loss == 0.0
    assert all(value.grad is None or not value.grad.any() for value in grounding.parameters())


def test_masked_tokens_are_not_asked() -> None:
    grounding = head().eval()
    tokens, mask, _ = batch(0)
    mask[:, 3:] = False
    changed = tokens.clone()
    changed[:, 3:] = 100.0
    assert torch.equal(grounding(tokens, mask), grounding(changed, mask))


def test_each_place_is_told_by_a_token_of_its_own() -> None:
    grounding = head()
    answers = torch.zeros(1, PLACES, 3)
    told = grounding.tell(answers)
    assert told.shape == (1, PLACES, WIDTH)
    assert not torch.equal(told[:, 0], told[:, 1])
    answers[0, 1, 2] = 0.1
    moved = grounding.tell(answers)
    assert torch.equal(moved[:, 0], told[:, 0])
    assert not torch.equal(moved[:, 1], told[:, 1])
