"""What was experienced earlier, in slots beside the network, found again by what it is like.

A memory is data, not weights: it goes into every function and a new one comes out. So one network serves a batch of
samples with a short memory each, through which gradients flow to what was written, and a robot with one that outlives
it. Addressing by content: Graves, Wayne and Danihelka, "Neural Turing machines", 2014. The least used slots are written
to: Santoro et al., "Meta-learning with memory-augmented neural networks", 2016.

Shapes: M memories, S slots, N samples of each memory, K width of a key, D width. B = M * N samples; those of one memory
stand together, so that M = B gives each its own and M = 1 one to all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DECAY = 0.99  # of usage, with every reading: at ten a second it halves in seven seconds
_SHARPNESS = 10.0  # of likenesses in -1..1, before anything is learned
# Cosine of two keys that stand for one experience. Of features of the checkpoint mt10, by keys that have learned
# nothing, those of two looks 0.1 s apart lie at 0.95 in the median, 1 s apart or in other tasks near 0.
_NEAR = 0.95
_KEY_SHARE = 4  # a key is so many times narrower than what it stands for


@dataclass(frozen=True, eq=False)
class MemoryState:
    """keys: (M, S, K) unit vectors; values: (M, S, D); usage: (M, S), 0 for an empty slot, above it to 1 for others."""

    keys: Tensor
    values: Tensor
    usage: Tensor

    @property
    def used(self) -> Tensor:
        """Slots that hold something. -> (M, S) bool"""
        return self.usage > 0.0

    def to(self, device: torch.device | str) -> MemoryState:
        """The same on another device."""
        return MemoryState(self.keys.to(device), self.values.to(device), self.usage.to(device))


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What a reading found. features: (M, N, D), zeros from an empty memory; weights: (M, N, S), of its slots.

    memory: with the usage after this reading, for whoever goes on with it; the one that was read is as it was.
    """

    features: Tensor
    weights: Tensor
    memory: MemoryState


class ExternalMemory(nn.Module):
    """Reads and writes memories of `slots` slots.

    near: cosine from which on a key is held to be that of a slot that there is. Raises ValueError, naming both, where
    widths do not fit.
    """

    def __init__(self, slots: int, feature_dim: int, key_dim: int, near: float = _NEAR) -> None:
        super().__init__()
        self.slots, self.feature_dim, self.key_dim, self.near = slots, feature_dim, key_dim, near
        self.key_encoder = nn.Linear(feature_dim, key_dim, bias=False)
        # Begins as the keys' encoder: what is like the present is found before anything is learned.
        self.query_encoder = nn.Linear(feature_dim, key_dim, bias=False)
        self.query_encoder.load_state_dict(self.key_encoder.state_dict())
        self.value_encoder = nn.Linear(feature_dim, feature_dim)
        self.update_gate = nn.Linear(2 * feature_dim, feature_dim)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(_SHARPNESS)))

    def empty(self, memories: int = 1) -> MemoryState:
        """Memories without content, on the device of the weights."""
        zeros = self.log_sharpness.new_zeros
        keys, values = (zeros(memories, self.slots, width) for width in (self.key_dim, self.feature_dim))
        return MemoryState(keys, values, zeros(memories, self.slots))

    def forward(self, features: Tensor, memory: MemoryState) -> Retrieved:
        """Read: attention over the used slots. features: (M, N, D), which ask."""
        self._check(features, memory)
        queries = F.normalize(self.query_encoder(features), dim=-1)  # (M, N, K)
        scores = self.log_sharpness.exp() * (queries @ memory.keys.transpose(1, 2))  # (M, N, S)
        used = memory.used.unsqueeze(1)  # (M, 1, S)
        # Finite, so that an empty memory gives no NaN; then none of its slots counts.
        scores = scores.masked_fill(~used, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * used
        return Retrieved(weights @ memory.values, weights, _after_reading(memory, weights))

    def write(
        self, memory: MemoryState, features: Tensor, experience: Tensor, mask: Tensor | None = None
    ) -> MemoryState:
        """Store N experiences in each memory. features, experience: (M, N, D), by what they are found and what is.

        mask: (M, N) bool, False for what is none: it leaves no trace. Each has a slot of its own: the least used ones
        are taken, but where a slot has nearly the key already, the experience goes through a gate into that one. Its
        key stays: one that followed what changes slowly would in the end stand for something else. Raises ValueError
        also where N exceeds the slots.
        """
        self._check(features, memory)
        self._check(experience, memory)
        if features.shape[1] > self.slots:
            raise ValueError(f"{features.shape[1]} experiences at once are more than {self.slots} slots")
        keys = F.normalize(self.key_encoder(features), dim=-1).to(memory.keys.dtype)  # (M, N, K)
        values = self.value_encoder(experience).to(memory.values.dtype)  # (M, N, D)
        is_real = torch.ones(features.shape[:2], dtype=torch.bool, device=keys.device) if mask is None else mask
        slots, is_update = _slots_for(keys.detach(), memory, self.near, is_real)
        is_known = is_update.unsqueeze(-1)  # (M, N, 1)
        before = _at(memory.values, slots)  # (M, N, D)
        values = torch.where(is_known, self._gated(before, values), values)
        values = torch.where(is_real.unsqueeze(-1), values, before)
        keys = torch.where(is_known | ~is_real.unsqueeze(-1), _at(memory.keys, slots), keys)
        usage = memory.usage.scatter(1, slots, memory.usage.gather(1, slots).masked_fill(is_real, 1.0))
        return MemoryState(_put(memory.keys, slots, keys), _put(memory.values, slots, values), usage)

    def _gated(self, before: Tensor, now: Tensor) -> Tensor:
        """(M, N, D), (M, N, D) -> (M, N, D)"""
        gate = torch.sigmoid(self.update_gate(torch.cat([before, now], dim=-1)))
        return before + gate.to(before.dtype) * (now - before)

    def _check(self, features: Tensor, memory: MemoryState) -> None:
        if features.shape[-1] != self.feature_dim:
            raise ValueError(f"features are {features.shape[-1]} wide; this memory is for {self.feature_dim}")
        memories, found = len(features), (tuple(memory.keys.shape), tuple(memory.values.shape))
        wanted = ((memories, self.slots, self.key_dim), (memories, self.slots, self.feature_dim))
        if found != wanted:
            raise ValueError(f"keys and values of shape {found} are not those of this memory, which are {wanted}")


@dataclass(frozen=True, eq=False)
class Recall:
    """fused_features: (B, D), with what was retrieved, (B, D), by the weights of the slots, (B, S).

    memory: see Retrieved.
    """

    fused_features: Tensor
    retrieved_features: Tensor
    weights: Tensor
    memory: MemoryState


class MemoryAugmentedFusion(nn.Module):
    """Adds to fused features what they bring to mind. An empty memory changes not one bit.

    Raises ValueError, naming both, where widths or numbers do not fit.
    """

    def __init__(self, feature_dim: int, slots: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.external_memory = ExternalMemory(slots, feature_dim, feature_dim // _KEY_SHARE)
        self.memory_fusion = nn.Sequential(
            nn.LayerNorm(2 * feature_dim),
            nn.Linear(2 * feature_dim, feature_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feature_dim, feature_dim),
        )

    def forward(self, fused_features: Tensor, memory: MemoryState) -> Recall:
        """fused_features: (B, D), of B samples that stand together where they share one of the M memories."""
        retrieved = self.external_memory(_by_memory(fused_features, memory), memory)
        features, weights = retrieved.features.flatten(0, 1), retrieved.weights.flatten(0, 1)  # (M, N, .) -> (B, .)
        change = self.memory_fusion(torch.cat([fused_features, features], dim=-1))  # (B, 2D) -> (B, D)
        knows = memory.used.any(dim=1).repeat_interleave(retrieved.features.shape[1]).unsqueeze(-1)  # (B, 1)
        fused = torch.where(knows, fused_features + change.to(fused_features.dtype), fused_features)
        return Recall(fused, features, weights, retrieved.memory)

    def store_experience(
        self, fused_features: Tensor, experience: Tensor, memory: MemoryState, mask: Tensor | None = None
    ) -> MemoryState:
        """What is to be found by fused features, (B, D), is the experience, (B, D); mask: (B,) bool, False where there
        is none. See ExternalMemory.write.
        """
        features, what = _by_memory(fused_features, memory), _by_memory(experience, memory)
        is_real = None if mask is None else mask.reshape(features.shape[:2])
        return self.external_memory.write(memory, features, what, is_real)


def _by_memory(features: Tensor, memory: MemoryState) -> Tensor:
    """(B, D) -> (M, N, D)"""
    samples, memories = len(features), len(memory.usage)
    if samples % memories:
        raise ValueError(f"{samples} samples cannot be shared out among {memories} memories")
    return features.reshape(memories, samples // memories, features.shape[-1])


def _after_reading(memory: MemoryState, weights: Tensor) -> MemoryState:
    """Usage decays, and grows with what was read. weights: (M, N, S)"""
    read = weights.detach().to(memory.usage.dtype).mean(dim=1)  # (M, S)
    usage = _DECAY * memory.usage + (1.0 - _DECAY) * read
    # However long nobody asked for it, what is there is not forgotten before its slot is needed.
    usage = usage.clamp(min=torch.finfo(usage.dtype).tiny).where(memory.used, 0.0)
    return replace(memory, usage=usage)


@torch.no_grad()
def _slots_for(keys: Tensor, memory: MemoryState, near: float, is_real: Tensor) -> tuple[Tensor, Tensor]:
    """A slot for each of N <= S keys, all different, and whether it is to be updated. (M, N, K) -> (M, N), (M, N) bool

    Of several keys near one slot the nearest has it, and the others are new. is_real: (M, N) bool; keys that are not
    have the slots that the others leave.
    """
    likeness = (keys @ memory.keys.transpose(1, 2)).masked_fill(~memory.used.unsqueeze(1), -torch.inf)  # (M, N, S)
    likeness = likeness.masked_fill(~is_real.unsqueeze(-1), -torch.inf)
    nearest, slots = likeness.max(dim=-1)  # (M, N)
    wanted = F.one_hot(slots, likeness.shape[-1]).bool() & (nearest >= near).unsqueeze(-1)  # (M, N, S)
    winner = likeness.masked_fill(~wanted, -torch.inf).argmax(dim=1)  # (M, S), of no meaning where nobody wants it
    is_update = (nearest >= near) & (winner.gather(1, slots) == torch.arange(keys.shape[1], device=keys.device))
    left = memory.usage.masked_fill(wanted.any(dim=1), torch.inf)
    free = left.argsort(dim=1, stable=True)  # (M, S), the least used first
    is_new = ~is_update & is_real
    turn = torch.where(is_real, is_new.cumsum(dim=1), is_new.sum(dim=1, keepdim=True) + (~is_real).cumsum(dim=1)) - 1
    return torch.where(is_update, slots, free.gather(1, turn.clamp(min=0))), is_update


def _at(stored: Tensor, slots: Tensor) -> Tensor:
    """(M, S, W), (M, N) -> (M, N, W)"""
    return stored.gather(1, slots.unsqueeze(-1).expand(-1, -1, stored.shape[-1]))


def _put(stored: Tensor, slots: Tensor, new: Tensor) -> Tensor:
    """A copy of the slots, some of them anew. (M, S, W), (M, N), (M, N, W) -> (M, S, W)"""
    return stored.scatter(1, slots.unsqueeze(-1).expand_as(new), new)
