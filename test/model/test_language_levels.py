from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from language_builders import COMMANDS, HEADS, LONG, SHORT, WIDTH, build, save, tokenizer_without_special_tokens
from torch import Tensor

from vla_ros.model.config import LanguageConfig
from vla_ros.model.language import NO_SENTENCE, HierarchicalLanguageEncoder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("bert"), *build("bert"))


@pytest.fixture
def encoder(source: str) -> HierarchicalLanguageEncoder:
    return HierarchicalLanguageEncoder(LanguageConfig(source=source, layers=2), WIDTH, HEADS).eval()


def test_a_command_of_two_sentences_has_two(encoder: HierarchicalLanguageEncoder) -> None:
    features = encoder([LONG, SHORT])
    assert features.sentence_mask.tolist() == [[True, True], [True, False]]
    assert features.sentence_features.shape == features.paragraph_features.shape == (2, 2, WIDTH)
    assert features.word_features.shape == (*features.word_mask.shape, WIDTH)
    assert features.global_features.shape == (2, WIDTH)


def in_paragraph(encoder: HierarchicalLanguageEncoder, changed: int) -> tuple[Tensor, Tensor]:
    """How much the sentence and paragraph features move, (S,) each, when the words of one sentence do.

    The words are changed after the word encoder, which lets all of them see each other.
    """
    tokens = encoder.tokenize_commands([LONG])
    before = encoder(tokens)
    noise = torch.randn(WIDTH) * (tokens.sentence_index == changed).unsqueeze(-1)
    hook = encoder.word_encoder.register_forward_hook(
        lambda module, args, words: replace(words, token_features=words.token_features + noise)
    )
    after = encoder(tokens)
    hook.remove()
    return (
        (after.sentence_features - before.sentence_features)[0].abs().amax(dim=-1),
        (after.paragraph_features - before.paragraph_features)[0].abs().amax(dim=-1),
    )


@pytest.mark.parametrize("changed", [0, 1])
def test_a_sentence_is_made_of_its_own_words_and_a_paragraph_of_all(
    encoder: HierarchicalLanguageEncoder, changed: int
) -> None:
    sentences, paragraph = in_paragraph(encoder, changed)
    assert sentences[1 - changed] == 0.0
    assert sentences[changed] > 1e-3
    assert (paragraph > 1e-4).all()


def test_special_tokens_belong_to_no_sentence(encoder: HierarchicalLanguageEncoder) -> None:
    sentences, paragraph = in_paragraph(encoder, NO_SENTENCE)
    assert sentences.max() == 0.0
    assert paragraph.max() == 0.0


def test_levels_do_not_look_across_the_batch(encoder: HierarchicalLanguageEncoder) -> None:
    alone = encoder([SHORT])
    for other in (LONG, "stop!", ""):
        beside = encoder([SHORT, other])
        length = alone.word_features.shape[1]
        torch.testing.assert_close(beside.word_features[:1, :length], alone.word_features, atol=1e-5, rtol=0.0)
        torch.testing.assert_close(beside.sentence_features[:1, :1], alone.sentence_features, atol=1e-5, rtol=0.0)
        torch.testing.assert_close(beside.paragraph_features[:1, :1], alone.paragraph_features, atol=1e-5, rtol=0.0)
        torch.testing.assert_close(beside.global_features[:1], alone.global_features, atol=1e-5, rtol=0.0)


def test_the_global_feature_is_the_mean_of_the_real_sentences(encoder: HierarchicalLanguageEncoder) -> None:
    features = encoder([SHORT, LONG])
    torch.testing.assert_close(features.global_features[0], features.paragraph_features[0, 0])
    torch.testing.assert_close(features.global_features[1], features.paragraph_features[1].mean(dim=0))


def test_the_order_of_sentences_matters(encoder: HierarchicalLanguageEncoder) -> None:
    features = encoder(["open the drawer. close the drawer.", "close the drawer. open the drawer."])
    assert not torch.allclose(features.global_features[0], features.global_features[1], atol=1e-3)


def test_text_and_tokens_are_the_same_command(encoder: HierarchicalLanguageEncoder) -> None:
    by_text = encoder(list(COMMANDS))
    by_tokens = encoder(encoder.tokenize_commands(COMMANDS))
    assert torch.equal(by_text.global_features, by_tokens.global_features)


@pytest.mark.parametrize("commands", [[""], ["", "  "], ["", LONG], ["...", SHORT]])
def test_a_blank_command_is_finite_and_says_nothing(encoder: HierarchicalLanguageEncoder, commands: list[str]) -> None:
    features = encoder(commands)
    for part in (features.word_features, features.sentence_features, features.paragraph_features):
        assert part.isfinite().all()
        assert part.shape[1] >= 1
    assert not features.sentence_mask[0].any()
    assert features.global_features[0].abs().max() == 0.0


@pytest.mark.parametrize("first", [None, 0])
def test_a_blank_command_works_without_special_tokens(tmp_path: Path, first: int | None) -> None:
    source = save(tmp_path, build("bert")[0], tokenizer_without_special_tokens())
    config = LanguageConfig(source=source, trainable_from=first)
    encoder = HierarchicalLanguageEncoder(config, WIDTH, HEADS).eval()
    for commands in ([""], ["", SHORT]):
        features = encoder(commands)
        assert features.word_features.isfinite().all()
        assert features.word_mask[0].sum() == 1
        assert features.global_features[0].abs().max() == 0.0


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(source: str) -> None:
    for first in (None, 1):
        config = LanguageConfig(source=source, trainable_from=first)
        encoder = HierarchicalLanguageEncoder(config, WIDTH, HEADS).train()
        features = encoder([LONG, SHORT, ""])
        (features.word_features.square().mean() + (features.global_features * torch.randn(WIDTH)).mean()).backward()
        for name, parameter in encoder.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
