"""Vision and language meet: with masks, in every branch, and across time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla_ros.model.fusion import CrossModalAttention, HierarchicalFusion

WIDTH, HEADS, WORDS, PATCHES = 32, 4, 5, 7


def features(seed: int = 0, samples: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vision = torch.randn(samples, PATCHES, WIDTH, generator=generator)
    return vision, torch.randn(samples, WORDS, WIDTH, generator=generator)


def fusion(history: int = 0, layers: int = 2) -> HierarchicalFusion:
    torch.manual_seed(0)
    return HierarchicalFusion(WIDTH, HEADS, layers, history, dropout=0.1).eval()


def test_the_summary_of_both_modalities_has_the_width_of_one() -> None:
    vision, language = features()
    fused = CrossModalAttention(WIDTH, HEADS)(vision, language)
    assert fused.fused_features.shape == (2, WIDTH)
    assert fused.vision_attended.shape == vision.shape and fused.language_attended.shape == language.shape
    assert fused.vision_to_language.shape == (2, PATCHES, WORDS)
    assert fused.language_to_vision.shape == (2, WORDS, PATCHES)


@pytest.mark.parametrize("history", [0, 3])
def test_the_branches_with_and_without_a_past_both_run(history: int) -> None:
    vision, language = features()
    past = torch.randn(2, history, WIDTH) if history else None
    assert fusion(history)(vision, language, temporal_features=past).fused_features.shape == (2, WIDTH)


def test_padding_of_either_modality_changes_nothing() -> None:
    vision, language = features()
    vision_mask = torch.ones(2, PATCHES, dtype=torch.bool)
    language_mask = torch.ones(2, WORDS, dtype=torch.bool)
    vision_mask[0, 4:], language_mask[1, 3:] = False, False
    built = fusion()
    before = built(vision, language, vision_mask, language_mask)
    vision, language = vision.clone(), language.clone()
    vision[0, 4:], language[1, 3:] = 50.0, -50.0
    after = built(vision, language, vision_mask, language_mask)
    assert torch.allclose(before.fused_features, after.fused_features, atol=1e-5)
    assert torch.allclose(before.vision_attended[0, :4], after.vision_attended[0, :4], atol=1e-5)
    alone = built(vision[:1, :4], language[:1])
    assert torch.allclose(alone.fused_features[0], after.fused_features[0], atol=1e-5)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    vision, language = features(samples=3)
    built = fusion()
    before = built(vision, language).fused_features
    vision[1] += 1.0
    after = built(vision, language).fused_features
    assert torch.equal(before[[0, 2]], after[[0, 2]]) and not torch.allclose(before[1], after[1])


def test_the_words_decide_what_becomes_of_the_same_image() -> None:
    vision, language = features()
    same_image = vision[:1].expand(2, -1, -1)
    fused = fusion()(same_image, language).fused_features
    assert not torch.allclose(fused[0], fused[1], atol=1e-3)


def test_the_past_matters_and_so_does_its_order() -> None:
    vision, language = features()
    built = fusion(history=3)
    past = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    with_past = built(vision, language, temporal_features=past).fused_features
    assert not torch.allclose(with_past, built(vision, language).fused_features, atol=1e-4)
    assert not torch.allclose(
        with_past, built(vision, language, temporal_features=past.flip(1)).fused_features, atol=1e-5
    )


def test_a_masked_past_is_no_past() -> None:
    vision, language = features()
    built = fusion(history=3)
    garbage = torch.full((2, 3, WIDTH), 9.0)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    masked = built(vision, language, temporal_features=garbage, temporal_mask=nothing).fused_features
    assert torch.allclose(masked, built(vision, language).fused_features, atol=1e-5)
    some = torch.tensor([[False, False, True]] * 2)
    short = built(vision, language, temporal_features=garbage[:, 2:]).fused_features
    padded = built(vision, language, temporal_features=garbage, temporal_mask=some).fused_features
    assert torch.allclose(short, padded, atol=1e-5)


def test_what_becomes_history_does_not_depend_on_history() -> None:
    vision, language = features()
    built = fusion(history=2)
    past = torch.randn(2, 2, WIDTH)
    alone, later = built(vision, language), built(vision, language, temporal_features=past)
    assert torch.equal(alone.frame_features, later.frame_features)


def test_a_past_that_it_was_not_built_for_is_refused() -> None:
    vision, language = features()
    with pytest.raises(ValueError, match="without a history"):
        fusion()(vision, language, temporal_features=torch.zeros(2, 1, WIDTH))
    with pytest.raises(ValueError, match="3 earlier instants are more than 2"):
        fusion(history=2)(vision, language, temporal_features=torch.zeros(2, 3, WIDTH))


def test_gradients_reach_every_parameter() -> None:
    vision, language = features()
    built = fusion(history=2).train()
    fused = built(vision, language, temporal_features=torch.randn(2, 2, WIDTH))
    target = torch.randn(2, WIDTH)
    loss = (fused.fused_features - target).square().sum()
    loss = loss + fused.vision_attended.square().sum() + fused.language_attended.square().sum()
    loss.backward()
    assert [name for name, value in built.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_evaluation_is_deterministic_and_training_is_not() -> None:
    vision, language = features()
    built = fusion()
    assert torch.equal(built(vision, language).fused_features, built(vision, language).fused_features)
    built.train()
    assert not torch.equal(built(vision, language).fused_features, built(vision, language).fused_features)


def test_without_attention_each_is_told_the_others_mean_whatever_the_order() -> None:
    torch.manual_seed(0)
    means = HierarchicalFusion(WIDTH, HEADS, 2, dropout=0.0, attends=False).eval()
    vision, language = torch.randn(2, 5, WIDTH), torch.randn(2, 4, WIDTH)
    mask = torch.tensor([[True, True, True, False]] * 2)
    other = language.clone()
    other[:, 3] = 100.0
    once, again = (means(vision, words, language_mask=mask) for words in (language, other))
    assert torch.allclose(once.fused_features, again.fused_features, atol=1e-5), "padding is no part of the mean"
    assert torch.allclose(once.levels[0].vision_to_language[0, 0], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))
    attending = HierarchicalFusion(WIDTH, HEADS, 2, dropout=0.0).eval()
    swapped = language[:, [1, 0, 2, 3]]
    for network in (means, attending):
        first, second = network(vision, language, None, mask), network(vision, swapped, None, mask)
        assert torch.allclose(first.vision_attended, second.vision_attended, atol=1e-4)
