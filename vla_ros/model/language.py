"""An instruction as tokens: its words by a pretrained encoder, its sentences and the whole by trained layers.

Shapes: B instructions, L tokens, S sentences, C the encoder's width, D the network's width. A mask is True where a
token or sentence is real; the values under False mean nothing.
Sources: Devlin et al., "BERT", 2019; Reimers and Gurevych, "Sentence-BERT", 2019 (the mean over real tokens);
Wang et al., "MiniLM", 2020 (the embedded encoder); Yang et al., "Hierarchical attention networks", 2016 (the levels).
"""

from __future__ import annotations

import inspect
import json
import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import MODEL_MAPPING, AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from vla_ros.errors import ModelError, in_one_line
from vla_ros.model.attention import SelfAttentionBlock, masked_mean
from vla_ros.model.config import LanguageConfig
from vla_ros.model.embedded import minilm_folder
from vla_ros.model.hub import quiet_loading
from vla_ros.model.sentences import sentence_spans

EMBEDDED = "all-MiniLM-L6-v2"
NO_SENTENCE = -1
_REMEMBERED = 4096  # instructions, more than are trained on; MiniLM's states of one are about 20 kB
_CHOICES = f"{EMBEDDED!r} (embedded), a hub name, or a folder with config.json, model.safetensors and a tokenizer"


@dataclass(frozen=True, eq=False)
class CommandTokens:
    """Instructions as an encoder reads them, padded on the right.

    input_ids: (B, L) long. attention_mask: (B, L) bool. sentence_index: (B, L) long, which sentence of its
    instruction a token belongs to; NO_SENTENCE for padding and for tokens that stand for no text ([CLS], [SEP]).
    """

    input_ids: Tensor
    attention_mask: Tensor
    sentence_index: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> CommandTokens:
        """Some of the instructions, by a slice, a list of indices, or an index or bool tensor."""
        return CommandTokens(self.input_ids[rows], self.attention_mask[rows], self.sentence_index[rows])

    def to(self, device: torch.device | str) -> CommandTokens:
        """The same on a device."""
        return CommandTokens(*(part.to(device) for part in (self.input_ids, self.attention_mask, self.sentence_index)))


@dataclass(frozen=True, eq=False)
class LanguageFeatures:
    """sentence_features: (B, D), of the mean over real tokens. token_features: (B, L, D). attention_mask: (B, L)."""

    sentence_features: Tensor
    token_features: Tensor
    attention_mask: Tensor


@dataclass(frozen=True, eq=False)
class HierarchicalLanguageFeatures:
    """What is said at three levels.

    word_features: (B, L, D), word_mask: (B, L). sentence_features: (B, S, D), each sentence by itself;
    sentence_mask: (B, S). paragraph_features: (B, S, D), each sentence among the others. global_features: (B, D),
    the mean of these; zeros for an instruction without words.
    """

    word_features: Tensor
    word_mask: Tensor
    sentence_features: Tensor
    sentence_mask: Tensor
    paragraph_features: Tensor
    global_features: Tensor


class LanguageEncoder(nn.Module):
    """A pretrained encoder and a projection to the network's width.

    Whatever AutoModel loads, chosen by the folder's own config.json and never by its name; of an encoder-decoder the
    encoder. Only safetensors are read and no code is. Raises ModelError if that fails, if weights are missing, or if
    the configuration asks for layers or lengths that the encoder does not have.
    """

    def __init__(self, config: LanguageConfig, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokenizer, self.encoder = _load(config.source)
        self.max_length = _checked_length(config, self.tokenizer, self.encoder)
        self.projection = nn.Linear(self.encoder.config.hidden_size, width)
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self._trained = _trained_parts(config, self.encoder)  # a tuple: a second registration would name weights twice
        self._states = _StateCache(_REMEMBERED)
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]
        self.encoder.requires_grad_(False)
        for part in self._trained:
            part.requires_grad_(True)
        self.train()

    @property
    def is_frozen(self) -> bool:
        """Whether no layer of the encoder is trained."""
        return not self._trained

    def tokenize_commands(self, commands: Sequence[str]) -> CommandTokens:
        """Words to tokens, on the CPU. What exceeds the configuration's max_length is cut off; "" is allowed."""
        if isinstance(commands, str):
            raise TypeError("commands is one string; a list of strings is needed")
        encoded = self.tokenizer(
            list(commands), truncation=True, max_length=self.max_length, return_offsets_mapping=True
        )
        blank = self.tokenizer.pad_token_id or 0
        ids = [row or [blank] for row in encoded["input_ids"]]  # something to read, even without special tokens
        sentences = [
            _sentence_index(command, offsets) or [NO_SENTENCE]
            for command, offsets in zip(commands, encoded["offset_mapping"], strict=True)
        ]
        return CommandTokens(
            input_ids=_padded(ids, blank),
            attention_mask=_padded(([1] * len(row) for row in ids), 0).bool(),
            sentence_index=_padded(sentences, NO_SENTENCE),
        )

    def hidden(self, tokens: CommandTokens) -> Tensor:
        """The encoder's last states, zeros for padding. -> (B, L, C)

        A frozen encoder reads an instruction once, alone, and outside autocast: its states depend on neither the
        batch nor the mode they were first asked for in.
        """
        if not self.is_frozen:
            states = self._read(tokens.input_ids, tokens.attention_mask)
            return states.masked_fill(~tokens.attention_mask.unsqueeze(-1), 0.0)
        lengths = tokens.attention_mask.sum(dim=1).tolist()
        rows = torch.split(tokens.input_ids[tokens.attention_mask], lengths)
        states = torch.cat([self._states.get(tuple(row.tolist()), self._read_alone) for row in rows])  # (all n, C)
        blank = states.new_zeros(*tokens.input_ids.shape, states.shape[-1])  # (B, L, C)
        return blank.masked_scatter(tokens.attention_mask.unsqueeze(-1), states)

    def forward(self, tokens: CommandTokens) -> LanguageFeatures:
        """Features at the network's width."""
        hidden = self.hidden(tokens)
        return LanguageFeatures(
            sentence_features=self._project(masked_mean(hidden, tokens.attention_mask)),
            token_features=self._project(hidden),
            attention_mask=tokens.attention_mask,
        )

    def train(self, mode: bool = True) -> LanguageEncoder:
        """As of every module, but what is frozen stays in eval mode."""
        super().train(mode)
        self.encoder.train(False)
        for part in self._trained:
            part.train(mode)
        return self

    def vocabulary(self) -> str:
        """All that decides which tokens a text becomes."""
        rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # These two it remembers of its last use.
        return json.dumps({name: rule for name, rule in rules.items() if name not in ("truncation", "padding")})

    def clear_cache(self) -> None:
        """Forget all states. Loading, moving and casting do it; call it after changing a frozen encoder by hand."""
        self._states.clear()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LanguageEncoder:
        self.clear_cache()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _project(self, states: Tensor) -> Tensor:
        projected: Tensor = self.dropout(self.layer_norm(self.projection(states)))  # (..., C) -> (..., D)
        return projected

    def _read(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # (B, L, C)
        return states

    def _read_alone(self, ids: tuple[int, ...]) -> Tensor:
        """-> (n, C)"""
        device = self.projection.weight.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            row = torch.tensor([ids], device=device)
            return self._read(row, torch.ones_like(row))[0]


class _Level(nn.Module):
    """Blocks of self-attention and the norm that ends a pre-norm stack."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens: (B, N, D); mask: (B, N) or (B, N, N). -> (B, N, D)"""
        for block in self.blocks:
            tokens = block(tokens, mask)
        normed: Tensor = self.norm(tokens)
        return normed


class HierarchicalLanguageEncoder(nn.Module):
    """Words, then each sentence from its own words, then all sentences among each other."""

    def __init__(self, config: LanguageConfig, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.word_encoder = LanguageEncoder(config, width, dropout)
        self.sentence_encoder = _Level(width, heads, config.layers, dropout)
        self.paragraph_encoder = _Level(width, heads, config.layers, dropout)

    def tokenize_commands(self, commands: Sequence[str]) -> CommandTokens:
        """See LanguageEncoder.tokenize_commands."""
        return self.word_encoder.tokenize_commands(commands)

    def forward(self, commands: Sequence[str] | CommandTokens) -> HierarchicalLanguageFeatures:
        """Features of B instructions, given as text or as tokens."""
        tokens = commands if isinstance(commands, CommandTokens) else self.tokenize_commands(commands)
        tokens = tokens.to(self.word_encoder.projection.weight.device)
        words = self.word_encoder(tokens)
        index = tokens.sentence_index  # (B, L)
        together = index.unsqueeze(2) == index.unsqueeze(1)  # (B, L, L): tokens see their own sentence only
        in_sentence = self.sentence_encoder(words.token_features, together)  # (B, L, D)
        members = [index == number for number in range(max(int(index.max()) + 1, 1))]  # S times (B, L)
        sentences = torch.stack([masked_mean(in_sentence, member) for member in members], dim=1)  # (B, S, D)
        sentence_mask = torch.stack([member.any(dim=1) for member in members], dim=1)  # (B, S)
        paragraph = self.paragraph_encoder(sentences, sentence_mask)  # (B, S, D)
        return HierarchicalLanguageFeatures(
            word_features=words.token_features,
            word_mask=words.attention_mask,
            sentence_features=sentences,
            sentence_mask=sentence_mask,
            paragraph_features=paragraph,
            global_features=masked_mean(paragraph, sentence_mask),
        )


def _forget(encoder: LanguageEncoder, _: object) -> None:
    """The hook after loading; a copied encoder's is called with the copy."""
    encoder.clear_cache()


class _StateCache:
    """The states of the instructions used last, by their token ids."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()  # ids -> (n, C), oldest use first

    def get(self, ids: tuple[int, ...], read: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        states = self._rows.pop(ids, None)
        self._rows[ids] = read(ids) if states is None else states
        if len(self._rows) > self._capacity:
            self._rows.popitem(last=False)
        return self._rows[ids]

    def clear(self) -> None:
        self._rows.clear()


def _sentence_index(command: str, offsets: Iterable[tuple[int, int]]) -> list[int]:
    """The sentence of each token, told by its last character: a first one may be the space before the word.

    offsets: first character and one past the last; (0, 0) for a token that stands for no text.
    """
    starts = [start for start, _ in sentence_spans(command)]
    return [bisect_right(starts, end - 1) - 1 for _, end in offsets]  # before the first: NO_SENTENCE


def _padded(rows: Iterable[Sequence[int]], value: int) -> Tensor:
    """-> (B, L) long"""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def _load(source: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and encoder, without the pooling layer that nothing here uses. Raises ModelError."""
    folder = minilm_folder() if source == EMBEDDED else Path(source)
    is_local = folder.is_dir()
    name = str(folder) if is_local else source
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=is_local)
        tokenizer = AutoTokenizer.from_pretrained(
            name, config=config, trust_remote_code=False, local_files_only=is_local
        )
        kind: Any = MODEL_MAPPING[type(config)]
        unused = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        with quiet_loading():
            encoder, report = kind.from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=is_local,
                ignore_mismatched_sizes=True,  # reported instead
                output_loading_info=True,
                **unused,
            )
    except Exception as error:  # tokenizers and safetensors have errors of no narrower kind
        raise ModelError(f"no language encoder in {name!r}: give {_CHOICES} ({in_one_line(error)})") from error
    if wrong := sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}):
        text = f"{len(wrong)} of its language encoder's weights missing or in another shape, such as {wrong[0]}"
        raise ModelError(f"{name!r} has {text}")
    if config.is_encoder_decoder:
        encoder = encoder.get_encoder()
    if not hasattr(encoder.config, "hidden_size") or not tokenizer.is_fast:
        raise ModelError(f"{name!r} holds a {config.model_type}, which is no language encoder: give {_CHOICES}")
    return tokenizer, encoder


def _checked_length(config: LanguageConfig, tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> int:
    # RoBERTa counts positions from the one behind its padding's.
    unused = getattr(getattr(encoder, "embeddings", None), "padding_idx", -1) + 1
    positions = getattr(encoder.config, "max_position_embeddings", math.inf) - unused
    limit = min(tokenizer.model_max_length, positions)
    if config.max_length > limit:
        raise ModelError(f"language.max_length: {config.max_length}, but {config.source!r} reads {limit} tokens")
    return config.max_length


def _trained_parts(config: LanguageConfig, encoder: PreTrainedModel) -> tuple[nn.Module, ...]:
    """Nothing, the whole encoder, or its layers from trainable_from on. Raises ModelError if there are none."""
    first = config.trainable_from
    if not first:
        return () if first is None else (encoder,)
    count = encoder.config.num_hidden_layers
    lists = (part for part in encoder.modules() if isinstance(part, nn.ModuleList) and len(part) == count)
    layers = tuple(next(lists, ()))
    if not layers:
        raise ModelError(f"language.trainable_from: {config.source!r} has no separate layers; choose null or 0")
    if first >= count:
        choices = f"choose null or 0 to {count - 1}"
        raise ModelError(f"language.trainable_from: {first}, but {config.source!r} has {count} layers; {choices}")
    return layers[first:]
