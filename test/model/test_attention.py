"""Masks hold, weights are what they say, and the two ways to attend agree."""

from __future__ import annotations

import pytest
import torch

from vla_ros.model.attention import MultiHeadAttention, SelfAttentionBlock, masked_mean

WIDTH, HEADS = 16, 4


@pytest.fixture
def attention() -> MultiHeadAttention:
    torch.manual_seed(0)
    return MultiHeadAttention(WIDTH, HEADS).eval()


def test_attending_with_and_without_weights_is_the_same(attention: MultiHeadAttention) -> None:
    queries, keys = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])
    attended, weights = attention.with_weights(queries, keys, mask)
    assert torch.allclose(attended, attention(queries, keys, mask), atol=1e-6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3), atol=1e-6)
    assert (weights[0, :, 3:] == 0).all()


def test_what_is_masked_changes_nothing(attention: MultiHeadAttention) -> None:
    queries, keys = torch.randn(1, 3, WIDTH), torch.randn(1, 5, WIDTH)
    mask = torch.tensor([[True, True, True, False, False]])
    garbage = torch.cat([keys[:, :3], torch.full((1, 2, WIDTH), 1e4)], dim=1)
    assert torch.allclose(attention(queries, keys, mask), attention(queries, garbage, mask), atol=1e-6)
    assert torch.allclose(attention(queries, keys, mask), attention(queries, keys[:, :3]), atol=1e-6)


def test_a_query_that_may_look_at_nothing_gets_no_average_of_padding(attention: MultiHeadAttention) -> None:
    queries, keys = torch.randn(1, 3, WIDTH), torch.randn(1, 5, WIDTH)
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    attended = attention(queries, keys, nothing)
    assert torch.allclose(attended, attention.out_proj.bias.expand(1, 3, WIDTH))
    assert torch.allclose(attention.with_weights(queries, keys, nothing)[0], attended)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    block = SelfAttentionBlock(WIDTH, HEADS).eval()
    tokens = torch.randn(3, 4, WIDTH)
    changed = tokens.clone()
    changed[1] += 1.0
    before, after = block(tokens), block(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_a_pairwise_mask_keeps_tokens_apart() -> None:
    torch.manual_seed(0)
    block = SelfAttentionBlock(WIDTH, HEADS).eval()
    tokens = torch.randn(1, 4, WIDTH)
    pairs = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).bool().unsqueeze(0)
    changed = tokens.clone()
    changed[:, 2:] += 1.0
    assert torch.equal(block(tokens, pairs)[:, :2], block(changed, pairs)[:, :2])


def test_a_mean_counts_what_is_real_and_is_zero_of_nothing() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]], [[1.0], [2.0], [3.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(tokens, mask).tolist() == [[2.0], [0.0]]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 16"):
        MultiHeadAttention(16, 3)
