"""Small pretrained encoders in local folders, as a hub would hold them, for the tests of language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
    T5Config,
    T5Model,
)

from vla_ros.model.config import LanguageConfig
from vla_ros.model.language import CommandTokens, LanguageEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NOUNS = ["block", "cube", "drawer", "it", "mug"]
WORDS = [*NOUNS, "a", "and", "blue", "close", "grab", "in", "open", "pick", "put", "red", "stop", "the", "then", "up"]
VOCABULARY = [*SPECIAL, *WORDS, ".", "!", ";"]
SHORT = "pick up the red block"
LONG = "Open the drawer. Then put the mug in it."
COMMANDS = (SHORT, LONG, "stop!", "close the drawer; grab a cube and put it in the drawer")
WIDTH, HEADS = 16, 2
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    "hidden_dropout_prob": 0.2,
}


def bert_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: index for index, word in enumerate(VOCABULARY)})


def roberta_tokenizer() -> RobertaTokenizer:
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return RobertaTokenizer(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[])


def tokenizer_without_special_tokens() -> PreTrainedTokenizerFast:
    backend = bert_tokenizer().backend_tokenizer
    bare = type(backend)(backend.model)
    bare.normalizer, bare.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="[UNK]")


def build(kind: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    vocabulary = len(VOCABULARY)
    if kind == "roberta":
        return RobertaModel(RobertaConfig(vocab_size=261, **SIZES)), roberta_tokenizer()
    if kind == "distilbert":
        distilled = DistilBertConfig(vocab_size=vocabulary, dim=24, n_layers=2, n_heads=2, hidden_dim=32)
        return DistilBertModel(distilled), bert_tokenizer()
    if kind == "albert":
        return AlbertModel(AlbertConfig(vocab_size=vocabulary, embedding_size=8, **SIZES)), bert_tokenizer()
    if kind == "t5":
        t5 = T5Config(vocab_size=vocabulary, d_model=24, d_kv=12, d_ff=32, num_layers=2, num_heads=2)
        return T5Model(t5), bert_tokenizer()
    return BertModel(BertConfig(vocab_size=vocabulary, **SIZES)), bert_tokenizer()


def save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def reconfigure(folder: Path, change: Mapping[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))


def trained(source: str, first: int) -> LanguageEncoder:
    return LanguageEncoder(LanguageConfig(source=source, trainable_from=first), WIDTH)


def calls_of(encoder: LanguageEncoder) -> list[tuple[int, ...]]:
    """The shapes that the pretrained encoder is called with from now on."""
    shapes: list[tuple[int, ...]] = []
    encoder.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def words_of(encoder: LanguageEncoder, tokens: CommandTokens, row: int) -> list[str]:
    return list(encoder.tokenizer.convert_ids_to_tokens(tokens.input_ids[row].tolist()))
