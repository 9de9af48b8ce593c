from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from language_builders import (
    COMMANDS,
    LONG,
    SHORT,
    SIZES,
    WIDTH,
    bert_tokenizer,
    build,
    calls_of,
    reconfigure,
    save,
    trained,
    words_of,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AlbertModel,
    AutoModel,
    AutoTokenizer,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DistilBertModel,
    PreTrainedModel,
    RobertaModel,
)
from transformers.models.t5.modeling_t5 import T5Stack

from vla_ros.errors import ModelError
from vla_ros.model import language
from vla_ros.model.attention import masked_mean
from vla_ros.model.config import LanguageConfig
from vla_ros.model.embedded import minilm_folder
from vla_ros.model.language import NO_SENTENCE, LanguageEncoder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Local folders by model type; each name speaks of another model."""
    torch.manual_seed(0)
    names = {
        "bert": "my-roberta",
        "roberta": "my-bert",
        "distilbert": "plain-bert",
        "albert": "some-bert",
        "t5": "no-bert",
    }
    root = tmp_path_factory.mktemp("models")
    return {kind: save(root / name, *build(kind)) for kind, name in names.items()}


@pytest.fixture
def frozen(sources: dict[str, str]) -> LanguageEncoder:
    return LanguageEncoder(LanguageConfig(source=sources["bert"]), WIDTH).eval()


# Loading


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", BertModel),
        ("roberta", RobertaModel),
        ("distilbert", DistilBertModel),
        ("albert", AlbertModel),
        ("t5", T5Stack),
    ],
)
def test_the_configuration_and_not_the_name_chooses_the_model(
    sources: dict[str, str], kind: str, expected: type[PreTrainedModel]
) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources[kind]), WIDTH).eval()
    features = encoder(encoder.tokenize_commands(COMMANDS))
    assert encoder.encoder.config.model_type == kind
    assert isinstance(encoder.encoder, expected)
    assert features.token_features.shape == (len(COMMANDS), *features.attention_mask.shape[1:], WIDTH)
    assert features.sentence_features.isfinite().all()


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_states_are_those_of_the_saved_weights(sources: dict[str, str], kind: str) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources[kind]), WIDTH).eval()
    tokens = encoder.tokenize_commands([LONG])
    reference = AutoModel.from_pretrained(sources[kind]).eval()
    with torch.no_grad():
        expected = reference(tokens.input_ids, tokens.attention_mask.long()).last_hidden_state
    torch.testing.assert_close(encoder.hidden(tokens), expected, atol=1e-6, rtol=0.0)


def test_of_an_encoder_decoder_only_the_encoder_is_kept(sources: dict[str, str]) -> None:
    names = dict(LanguageEncoder(LanguageConfig(source=sources["t5"]), WIDTH).named_parameters())
    assert not any("decoder" in name for name in names)


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_no_pooling_layer_is_counted(sources: dict[str, str], kind: str) -> None:
    names = dict(LanguageEncoder(LanguageConfig(source=sources[kind]), WIDTH).named_parameters())
    assert not any("pooler" in name for name in names)


def test_half_precision_weights_are_read_in_full_precision(tmp_path: Path) -> None:
    model, tokenizer = build("bert")
    source = save(tmp_path, model.half(), tokenizer)
    assert LanguageEncoder(LanguageConfig(source=source), WIDTH).encoder.dtype is torch.float32


def test_a_missing_folder_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"all-MiniLM-L6-v2.*hub name.*folder"):
        LanguageEncoder(LanguageConfig(source=str(tmp_path / "missing")), WIDTH)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model, tokenizer = build("bert")
    source = save(tmp_path, model, tokenizer)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        LanguageEncoder(LanguageConfig(source=source), WIDTH)


@pytest.mark.parametrize(("change", "count"), [({"num_hidden_layers": 3}, 16), ({"intermediate_size": 40}, 6)])
def test_weights_that_a_folder_lacks_are_an_error_and_not_random(
    tmp_path: Path, change: dict[str, int], count: int
) -> None:
    source = save(tmp_path, *build("bert"))
    reconfigure(tmp_path, change)
    with pytest.raises(ModelError, match=f"{count} of its language encoder's weights missing or in another shape"):
        LanguageEncoder(LanguageConfig(source=source), WIDTH)


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    source = save(tmp_path, *build("bert"))
    auto_map = {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}
    reconfigure(tmp_path, {"model_type": "theirs", "auto_map": auto_map})
    (tmp_path / "theirs.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError):
        LanguageEncoder(LanguageConfig(source=source), WIDTH)


def test_a_model_that_is_no_language_encoder_is_an_error(tmp_path: Path) -> None:
    text = {**SIZES, "vocab_size": 40, "projection_dim": 8}
    image = {**text, "image_size": 8, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8))
    with pytest.raises(ModelError, match="clip, which is no language encoder"):
        LanguageEncoder(LanguageConfig(source=save(tmp_path, model, bert_tokenizer())), WIDTH)


def test_a_length_beyond_the_encoder_s_is_an_error(sources: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"max_length: 81.*80 tokens"):
        LanguageEncoder(LanguageConfig(source=sources["bert"], max_length=81), WIDTH)


def test_roberta_loses_the_positions_up_to_its_padding(sources):
    with pytest.raises(ModelError, match=r"max_length: 79.*78 tokens"):
        LanguageEncoder(LanguageConfig(source=sources["roberta"], max_length=79), WIDTH)
    longest = LanguageEncoder(LanguageConfig(source=sources["roberta"], max_length=78), WIDTH).eval()
    tokens = longest.tokenize_commands(["a very long story " * 50])
    assert tokens.input_ids.shape == (1, 78) and longest(tokens).token_features.isfinite().all()


# Tokens


def test_tokens_are_padded_and_masked(frozen: LanguageEncoder) -> None:
    tokens = frozen.tokenize_commands(["stop", SHORT])
    assert words_of(frozen, tokens, 0) == ["[CLS]", "stop", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"]
    assert tokens.attention_mask.tolist() == [[True] * 3 + [False] * 4, [True] * 7]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_tokens_know_their_sentence(sources: dict[str, str], kind: str) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources[kind]), WIDTH)
    tokens = encoder.tokenize_commands([LONG, SHORT])
    first = tokens.input_ids[0][tokens.sentence_index[0] == 0]
    second = tokens.input_ids[0][tokens.sentence_index[0] == 1]
    assert str(encoder.tokenizer.decode(first)).lower().replace(" ", "") == "openthedrawer."
    assert str(encoder.tokenizer.decode(second)).lower().replace(" ", "") == "thenputthemuginit."
    assert tokens.sentence_index[0][[0, -1]].tolist() == [NO_SENTENCE, NO_SENTENCE]
    assert set(tokens.sentence_index[1].tolist()) == {0, NO_SENTENCE}
    assert (tokens.sentence_index[~tokens.attention_mask] == NO_SENTENCE).all()


def test_a_long_command_is_cut_and_still_ends_as_the_encoder_expects(sources: dict[str, str]) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources["bert"], max_length=6), WIDTH)
    tokens = encoder.tokenize_commands([LONG])
    assert words_of(encoder, tokens, 0) == ["[CLS]", "open", "the", "drawer", ".", "[SEP]"]
    assert tokens.sentence_index.tolist() == [[-1, 0, 0, 0, 0, -1]]


def test_one_string_is_not_taken_for_a_list_of_letters(frozen: LanguageEncoder) -> None:
    with pytest.raises(TypeError, match="list of strings"):
        frozen.tokenize_commands("stop")


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2], torch.tensor([1, 2]), torch.tensor([False, True, True, False])])
def test_rows_of_tokens_are_commands(frozen: LanguageEncoder, rows: slice | Sequence[int] | Tensor) -> None:
    tokens = frozen.tokenize_commands(COMMANDS)[rows]
    assert len(tokens) == 2
    torch.testing.assert_close(
        frozen(tokens).sentence_features, frozen(frozen.tokenize_commands(COMMANDS[1:3])).sentence_features
    )


def test_tokens_move_to_a_device(frozen: LanguageEncoder) -> None:
    moved = frozen.tokenize_commands([SHORT]).to("meta")
    assert {moved.input_ids.device.type, moved.attention_mask.device.type, moved.sentence_index.device.type} == {"meta"}


# Features of words


@pytest.mark.parametrize("first", [None, 0])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_padding_changes_nothing(sources: dict[str, str], kind: str, first: int | None) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources[kind], trainable_from=first), WIDTH).eval()
    alone = encoder(encoder.tokenize_commands(["stop!"]))
    beside = encoder(encoder.tokenize_commands(["stop!", LONG]))
    length = alone.token_features.shape[1]
    assert beside.token_features.shape[1] > length
    torch.testing.assert_close(beside.token_features[0, :length], alone.token_features[0], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(beside.sentence_features[0], alone.sentence_features[0], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("first", [None, 0])
def test_the_sentence_feature_is_the_mean_of_the_real_tokens_only(sources: dict[str, str], first: int | None) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources["bert"], trainable_from=first), WIDTH).eval()
    tokens = encoder.tokenize_commands(["stop", LONG])
    hidden = encoder.hidden(tokens)
    expected = encoder.layer_norm(encoder.projection(hidden[0, :3].mean(dim=0)))
    torch.testing.assert_close(encoder(tokens).sentence_features[0], expected)
    assert hidden[0, 3:].abs().max() == 0.0


@pytest.mark.parametrize("first", [None, 0])
def test_changing_one_command_changes_no_other(sources: dict[str, str], first: int | None) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources["bert"], trainable_from=first), WIDTH).eval()
    before = encoder(encoder.tokenize_commands([SHORT, "open the drawer and stop"]))
    after = encoder(encoder.tokenize_commands([SHORT, "close it"]))
    torch.testing.assert_close(after.token_features[0], before.token_features[0], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(after.sentence_features[0], before.sentence_features[0], atol=1e-5, rtol=0.0)
    assert not torch.allclose(after.sentence_features[1], before.sentence_features[1], atol=1e-2)


def test_evaluation_is_deterministic_and_dropout_is_for_training(sources: dict[str, str]) -> None:
    encoder = LanguageEncoder(LanguageConfig(source=sources["bert"]), WIDTH, dropout=0.5).eval()
    tokens = encoder.tokenize_commands([SHORT])
    assert torch.equal(encoder(tokens).token_features, encoder(tokens).token_features)
    encoder.train()
    assert not torch.equal(encoder(tokens).token_features, encoder(tokens).token_features)


# Freezing


def test_a_frozen_encoder_stays_in_eval_mode_and_gets_no_gradient(frozen: LanguageEncoder) -> None:
    frozen.train()
    features = frozen(frozen.tokenize_commands(COMMANDS))
    (features.token_features.square().sum() + features.sentence_features.sum()).backward()
    assert frozen.training
    assert frozen.is_frozen
    assert not any(part.training for part in frozen.encoder.modules())
    assert not any(parameter.requires_grad for parameter in frozen.encoder.parameters())
    assert frozen.projection.weight.grad is not None


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_training_starts_at_the_layer_asked_for(sources: dict[str, str], kind: str) -> None:
    encoder = trained(sources[kind], 1).train()
    encoder(encoder.tokenize_commands(COMMANDS)).token_features.square().mean().backward()
    with_gradient = {name for name, parameter in encoder.encoder.named_parameters() if parameter.grad is not None}
    assert not encoder.is_frozen
    assert with_gradient == {name for name, _ in encoder.encoder.named_parameters() if "layer.1." in name}
    in_training = {name for name, part in encoder.encoder.named_modules() if part.training}
    assert in_training
    assert all("layer.1" in name for name in in_training)
    encoder.eval()
    assert not any(part.training for part in encoder.modules())


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "albert", "t5"])
def test_training_from_zero_reaches_every_parameter(sources: dict[str, str], kind: str) -> None:
    encoder = trained(sources[kind], 0).train()
    encoder(encoder.tokenize_commands(COMMANDS)).token_features.square().mean().backward()
    assert encoder.encoder.training
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_layers_that_do_not_exist_cannot_be_trained(sources: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"trainable_from: 2, .* has 2 layers; choose null or 0 to 1"):
        trained(sources["bert"], 2)
    with pytest.raises(ModelError, match="choose null or 0"):
        trained(sources["albert"], 1)


# The cache


def test_an_instruction_is_encoded_once(frozen: LanguageEncoder) -> None:
    calls = calls_of(frozen)
    first = frozen.hidden(frozen.tokenize_commands([SHORT, LONG, SHORT]))
    assert len(calls) == 2
    again = frozen.hidden(frozen.tokenize_commands([LONG, SHORT]))
    assert len(calls) == 2
    assert torch.equal(again[0], first[1])
    assert torch.equal(again[1], first[0])


def test_an_encoder_in_training_is_not_cached(sources: dict[str, str]) -> None:
    encoder = trained(sources["bert"], 1).eval()
    tokens = encoder.tokenize_commands([SHORT])
    before = encoder.hidden(tokens)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(encoder.hidden(tokens), before)


def test_the_cache_is_bounded_and_forgets_the_least_recent(
    sources: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "_REMEMBERED", 2)
    encoder = LanguageEncoder(LanguageConfig(source=sources["bert"]), WIDTH)
    calls = calls_of(encoder)
    encoder.hidden(encoder.tokenize_commands(["open", "close", "open", "stop"]))
    assert len(calls) == 3
    encoder.hidden(encoder.tokenize_commands(["open", "stop"]))
    assert len(calls) == 3
    encoder.hidden(encoder.tokenize_commands(["close"]))
    assert len(calls) == 4


def test_states_first_read_in_inference_mode_can_be_trained_on(frozen: LanguageEncoder) -> None:
    with torch.inference_mode():
        frozen(frozen.tokenize_commands([SHORT]))
    frozen(frozen.tokenize_commands([SHORT])).token_features.square().sum().backward()
    assert frozen.projection.weight.grad is not None


def test_states_first_read_under_autocast_are_in_full_precision(frozen: LanguageEncoder) -> None:
    other = deepcopy(frozen)
    tokens = frozen.tokenize_commands([SHORT])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frozen.hidden(tokens)
    assert torch.equal(frozen.hidden(tokens), other.hidden(tokens))


def test_loaded_weights_make_the_cache_forget(frozen: LanguageEncoder) -> None:
    tokens = frozen.tokenize_commands([SHORT])
    before = frozen.hidden(tokens)
    nn.Sequential(frozen).load_state_dict({f"0.{name}": value * 1.5 for name, value in frozen.state_dict().items()})
    assert not torch.allclose(frozen.hidden(tokens), before)


def test_a_copy_has_its_own_cache_and_its_own_trained_layers(sources: dict[str, str]) -> None:
    original = LanguageEncoder(LanguageConfig(source=sources["bert"]), WIDTH).eval()
    tokens = original.tokenize_commands([SHORT])
    before = original.hidden(tokens)
    copy = deepcopy(original)
    copy.load_state_dict({name: value * 1.5 for name, value in original.state_dict().items()})
    calls = calls_of(original)
    assert not torch.allclose(copy.hidden(tokens), before)
    assert torch.equal(original.hidden(tokens), before)
    assert calls == []
    copy = deepcopy(trained(sources["bert"], 0).eval())
    assert copy.train().encoder.training


def test_a_cast_makes_the_cache_forget(frozen: LanguageEncoder) -> None:
    tokens = frozen.tokenize_commands([SHORT])
    frozen.hidden(tokens)
    nn.Sequential(frozen).double()
    assert frozen.hidden(tokens).dtype is torch.float64


# The embedded encoder


@pytest.fixture(scope="module")
def embedded() -> LanguageEncoder:
    return LanguageEncoder(LanguageConfig(), WIDTH).eval()


def reference_embedding(commands: Sequence[str]) -> Tensor:
    """The recipe on the model's card: mean over the attention mask, then unit length. -> (B, 384)"""
    tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder()), local_files_only=True)
    model = AutoModel.from_pretrained(str(minilm_folder()), local_files_only=True).eval()
    encoded = tokenizer(list(commands), padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded).last_hidden_state
    weight = encoded["attention_mask"].unsqueeze(-1).expand(states.size()).float()
    return F.normalize((states * weight).sum(1) / torch.clamp(weight.sum(1), min=1e-9), p=2, dim=1)


def test_the_embedded_encoder_equals_the_reference_pooling(embedded: LanguageEncoder) -> None:
    tokens = embedded.tokenize_commands(COMMANDS)
    ours = F.normalize(masked_mean(embedded.hidden(tokens), tokens.attention_mask), dim=1)
    torch.testing.assert_close(ours, reference_embedding(COMMANDS), atol=1e-6, rtol=0.0)


def test_embedded_cosines_are_the_published_model_s_and_no_measure_of_a_task(embedded: LanguageEncoder) -> None:
    tokens = embedded.tokenize_commands([SHORT, "pick up the blue block", "grab the crimson cube"])
    unit = F.normalize(masked_mean(embedded.hidden(tokens), tokens.attention_mask), dim=1)
    assert (unit[0] @ unit[1:].T).tolist() == pytest.approx([0.76, 0.39], abs=0.01)


def test_embedded_tokens_know_their_sentence(embedded: LanguageEncoder) -> None:
    tokens = embedded.tokenize_commands(["Move 0.5 m. Stop!"])
    assert words_of(embedded, tokens, 0)[1:-1] == ["move", "0", ".", "5", "m", ".", "stop", "!"]
    assert tokens.sentence_index[0].tolist() == [-1, 0, 0, 0, 0, 0, 0, 1, 1, -1]
