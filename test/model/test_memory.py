"""An external memory gives back what was written, keeps what is used, and is no part of the network's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from vla_ros.errors import ModelError
from vla_ros.model.memory import ExternalMemory, MemoryAugmentedFusion, MemoryState
from vla_ros.model.memory_file import load_memory, save_memory

WIDTH, KEY, SLOTS = 16, 8, 6
PARTS = tuple(field.name for field in fields(MemoryState))


def external(slots: int = SLOTS, near: float = 0.95) -> ExternalMemory:
    torch.manual_seed(0)
    return ExternalMemory(slots, WIDTH, KEY, near)


def fusion(slots: int = SLOTS) -> MemoryAugmentedFusion:
    torch.manual_seed(0)
    return MemoryAugmentedFusion(WIDTH, slots, dropout=0.0).eval()


def features(seed: int, memories: int = 1, samples: int = 1) -> Tensor:
    """Directions that have nothing to do with each other. -> (M, N, D)"""
    return torch.randn(memories, samples, WIDTH, generator=torch.Generator().manual_seed(seed))


def filled(built: ExternalMemory, count: int, memories: int = 1) -> MemoryState:
    """Experiences 0, 1, ... one after the other."""
    memory = built.empty(memories)
    for seed in range(count):
        memory = built.write(memory, features(seed, memories), features(100 + seed, memories))
    return memory


def same(one: MemoryState, other: MemoryState) -> bool:
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in PARTS)


def slots_written(before: MemoryState, after: MemoryState) -> list[int]:
    """Of the first memory."""
    changed = (before.values[0] != after.values[0]).any(dim=-1) | (before.keys[0] != after.keys[0]).any(dim=-1)
    return torch.nonzero(changed).flatten().tolist()


@torch.no_grad()
def test_what_was_written_is_read_by_what_it_is_like() -> None:
    built = external()
    memory = filled(built, SLOTS)
    built.log_sharpness.fill_(7.0)  # one slot alone
    for seed in range(SLOTS):
        found = built(features(seed) + 0.01 * features(50), memory)
        assert found.weights.argmax() == seed and found.weights.max() > 0.99
        assert torch.allclose(found.features, built.value_encoder(features(100 + seed)), atol=0.05)


@torch.no_grad()
def test_only_used_slots_are_looked_at() -> None:
    built = external()
    memory = filled(built, 2)
    garbage = replace(memory, keys=memory.keys.clone(), values=memory.values.clone())
    garbage.keys[:, 2:], garbage.values[:, 2:] = 1e3, 1e3
    found, other = built(features(9), memory), built(features(9), garbage)
    assert torch.equal(found.features, other.features)
    assert found.weights[..., 2:].abs().max() == 0.0 and torch.allclose(found.weights.sum(), torch.ones(()))


@torch.no_grad()
def test_reading_changes_nothing_and_offers_a_memory_that_is_older() -> None:
    built = external()
    memory = filled(built, 3)
    kept = replace(memory, **{part: getattr(memory, part).clone() for part in PARTS})
    built.log_sharpness.fill_(7.0)
    found = built(features(1), memory)
    assert same(memory, kept)
    assert torch.equal(found.memory.keys, memory.keys) and torch.equal(found.memory.values, memory.values)
    usage = found.memory.usage[0]
    assert usage[1] > 0.999, "it was read"
    assert torch.allclose(usage[[0, 2]], torch.full((2,), 0.99), atol=1e-4), "the others were not"
    assert (usage[3:] == 0.0).all(), "an empty slot stays empty"


@torch.no_grad()
def test_what_is_not_asked_for_is_kept_however_long_until_its_slot_is_needed() -> None:
    built = external(slots=2)
    memory = filled(built, 2)
    built.log_sharpness.fill_(7.0)
    # As after hours: what 1 % is taken from again and again ends at nothing where a processor rounds small numbers off.
    memory = replace(memory, usage=torch.tensor([[1.0, torch.finfo(torch.float32).tiny]]))
    torch.set_flush_denormal(True)
    try:
        for _ in range(5):
            memory = built(features(0), memory).memory
    finally:
        torch.set_flush_denormal(False)
    assert memory.used.all()
    assert torch.allclose(built(features(1), memory).features, built.value_encoder(features(101)), atol=0.05)


@torch.no_grad()
def test_the_least_used_slot_is_written_to() -> None:
    built = external()
    memory = filled(built, SLOTS)
    built.log_sharpness.fill_(7.0)
    for seed in (0, 1, 3, 4, 5):
        memory = built(features(seed), memory).memory
    assert slots_written(memory, built.write(memory, features(9), features(109))) == [2]
    half = filled(built, 3)
    assert slots_written(half, built.write(half, features(9), features(109))) == [3], "an empty one before a used one"


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_batch_takes_slots_of_its_own_and_leaves_the_others(data: st.DataObject) -> None:
    """Whatever is in the memory, and however much of the batch is known or the same."""
    built = external()
    memories = data.draw(st.integers(1, 3))
    memory = filled(built, data.draw(st.integers(0, SLOTS)), memories)
    usage = torch.tensor(data.draw(st.lists(st.sampled_from([0.1, 0.5, 1.0]), min_size=SLOTS, max_size=SLOTS)))
    memory = replace(memory, usage=torch.where(memory.used, usage, 0.0))
    seeds = data.draw(st.lists(st.integers(0, SLOTS + 3), min_size=1, max_size=SLOTS))
    keys = torch.cat([features(seed, memories) for seed in seeds], dim=1)
    with torch.no_grad():
        after = built.write(memory, keys, torch.randn(memories, len(seeds), WIDTH))
    for index in range(memories):
        changed = (memory.values[index] != after.values[index]).any(dim=-1)
        assert int(changed.sum()) == len(seeds)
        assert torch.equal(after.keys[index][~changed], memory.keys[index][~changed])
        assert torch.equal(after.usage[index][~changed], memory.usage[index][~changed])
        assert (after.usage[index][changed] == 1.0).all()
        assert torch.allclose(after.keys[index].norm(dim=-1), after.used[index].float(), atol=1e-5)


@torch.no_grad()
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_masked_leaves_no_trace(data: st.DataObject) -> None:
    """Some of them are new, some are known, and some are like another one of the same batch."""
    built, known = external(near=0.9), data.draw(st.integers(0, SLOTS))
    memory = filled(built, known)
    seeds = data.draw(st.lists(st.integers(0, SLOTS + 3), min_size=1, max_size=SLOTS))
    real = data.draw(st.lists(st.booleans(), min_size=len(seeds), max_size=len(seeds)))
    found_by = torch.cat([features(seed) for seed in seeds], dim=1)
    what = torch.cat([features(200 + index) for index in range(len(seeds))], dim=1)
    mask = torch.tensor([real])
    masked = built.write(memory, found_by, what, mask)
    alone = built.write(memory, found_by[mask].unsqueeze(0), what[mask].unsqueeze(0)) if any(real) else memory
    for part in PARTS:
        assert torch.allclose(getattr(masked, part), getattr(alone, part), atol=1e-6), part
    if not any(real):
        assert same(masked, memory)


def test_more_at_once_than_there_are_slots_is_refused() -> None:
    built = external()
    with pytest.raises(ValueError, match="7 experiences at once are more than 6 slots"):
        built.write(built.empty(), features(0, samples=7), features(1, samples=7))


@torch.no_grad()
def test_what_is_known_is_updated_through_the_gate_and_keeps_its_key() -> None:
    built = external()
    memory = filled(built, 3)
    for bias, share in ((-50.0, 0.0), (50.0, 1.0), (0.0, 0.5)):
        built.update_gate.weight.zero_()
        built.update_gate.bias.fill_(bias)
        after = built.write(memory, features(1) + 0.001 * features(9), features(200))
        new = built.value_encoder(features(200))[0, 0]
        assert torch.allclose(after.values[0, 1], (1.0 - share) * memory.values[0, 1] + share * new, atol=1e-5)
        assert torch.equal(after.keys, memory.keys) and after.used.sum() == 3
    apart = external(near=0.9999999).write(memory, features(1) + 0.1 * features(9), features(200))
    assert apart.used.sum() == 4, "less like it than `near`, it has a slot of its own"


@torch.no_grad()
def test_of_two_that_are_like_one_slot_the_nearer_updates_it() -> None:
    built = external()
    memory = filled(built, 2)
    twins = torch.cat([features(1) + 0.01 * features(9), features(1)], dim=1)
    after = built.write(memory, twins, torch.cat([features(201), features(202)], dim=1))
    assert torch.allclose(after.values[0, 2], built.value_encoder(features(201))[0, 0], atol=1e-6)
    assert torch.equal(after.keys[0, 1], memory.keys[0, 1]) and after.used.sum() == 3


@torch.no_grad()
def test_an_empty_memory_changes_not_one_bit_of_its_own_sample_alone() -> None:
    built = fusion()
    fused = features(1, samples=3)[0]
    assert torch.equal(built(fused, built.external_memory.empty(3)).fused_features, fused)
    assert torch.equal(built(fused, built.external_memory.empty()).fused_features, fused)
    memory, empty = filled(built.external_memory, 2, memories=3), built.external_memory.empty(3)
    first = torch.tensor([True, False, False])
    mixed = MemoryState(
        torch.where(first[:, None, None], empty.keys, memory.keys),
        torch.where(first[:, None, None], empty.values, memory.values),
        torch.where(first[:, None], empty.usage, memory.usage),
    )
    recall = built(fused, mixed)
    assert torch.equal(recall.fused_features[0], fused[0]) and not recall.retrieved_features[0].any()
    assert torch.equal(recall.fused_features[1:], built(fused, memory).fused_features[1:])
    assert not torch.isclose(recall.fused_features[1:], fused[1:]).all(dim=-1).any()


def test_an_empty_memory_changes_not_one_bit_in_half_precision_either() -> None:
    built = fusion()
    fused = features(1, samples=3)[0]
    with torch.autocast("cpu", torch.bfloat16):
        recall = built(fused, built.external_memory.empty(3))
        again = built(fused, built.store_experience(fused, fused, recall.memory))
    assert torch.equal(recall.fused_features, fused) and again.fused_features.dtype == fused.dtype
    assert again.memory.values.dtype == torch.float32 and again.fused_features.isfinite().all()


@torch.no_grad()
def test_samples_share_one_memory_or_have_their_own() -> None:
    built = fusion()
    fused = features(1, samples=4)[0]
    shared = built.store_experience(fused, fused, built.external_memory.empty())
    assert shared.usage.shape == (1, SLOTS) and shared.used.sum() == 4
    own = built.store_experience(fused, fused, built.external_memory.empty(4))
    assert own.used.sum(dim=1).tolist() == [1, 1, 1, 1]
    in_pairs = built.store_experience(fused, fused, built.external_memory.empty(2))
    assert in_pairs.used.sum(dim=1).tolist() == [2, 2]
    for memory in (shared, own, in_pairs):
        assert built(fused, memory).fused_features.shape == fused.shape
    alone = built(fused[2:3], MemoryState(own.keys[2:3], own.values[2:3], own.usage[2:3]))
    assert torch.allclose(built(fused, own).fused_features[2], alone.fused_features[0], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda built: built(torch.zeros(1, 5), built.external_memory.empty()), "are 5 wide; this memory is for 16"),
        (
            lambda built: built.store_experience(
                torch.zeros(1, WIDTH), torch.zeros(1, 5), built.external_memory.empty()
            ),
            "are 5 wide; this memory is for 16",
        ),
        (lambda built: built(torch.zeros(3, WIDTH), built.external_memory.empty(2)), "3 samples .* among 2 memories"),
        (
            lambda built: built(torch.zeros(1, WIDTH), fusion(slots=4).external_memory.empty()),
            r"\(1, 4, 4\), \(1, 4, 16\)\) are not .* \(\(1, 6, 4\), \(1, 6, 16\)\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sizes(
    call: Callable[[MemoryAugmentedFusion], object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        call(fusion())


def test_gradients_flow_through_what_was_written_to_encoders_and_gate() -> None:
    built = fusion()
    fused = features(1, samples=2)[0]
    memory = built.external_memory.empty(2)
    for step in range(3):  # what is known already goes through the gate
        memory = built.store_experience(fused + 1e-3 * step, fused + step, memory)
    memory = built.store_experience(features(5, samples=2)[0], features(6, samples=2)[0], memory)
    (built(features(2, samples=2)[0], memory).fused_features * features(3, samples=2)[0]).sum().backward()
    assert memory.used.sum(dim=1).tolist() == [2, 2]
    assert [name for name, value in built.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_nothing_learned_is_written_to_and_nothing_flows_into_a_memory_that_is_kept(tmp_path: Path) -> None:
    built = fusion()
    assert not list(built.buffers())
    memory = filled(built.external_memory, 3)
    assert all(
        torch.equal(value, other) for value, other in zip(built.parameters(), fusion().parameters(), strict=True)
    )
    save_memory(tmp_path / "memory.safetensors", memory)
    kept = load_memory(tmp_path / "memory.safetensors", built.external_memory.empty())
    built(features(1, samples=2)[0], kept).fused_features.sum().backward()
    assert built.external_memory.query_encoder.weight.grad is not None
    assert built.external_memory.value_encoder.weight.grad is None, "that memory was written long ago"
    assert all(not getattr(kept, part).requires_grad and getattr(kept, part).grad is None for part in PARTS)
    assert same(kept, load_memory(tmp_path / "memory.safetensors", built.external_memory.empty()))


def test_a_file_takes_the_place_of_an_older_one_and_gives_back_every_bit(tmp_path: Path) -> None:
    built, path = external(), tmp_path / "memory.safetensors"
    for count in (2, 5):
        memory = filled(built, count)
        save_memory(path, memory)
        assert same(load_memory(path, built.empty()), memory)
    assert [file.name for file in tmp_path.iterdir()] == ["memory.safetensors"]
    with pytest.raises(ModelError, match=r"nowhere/memory\.safetensors cannot be written"):
        save_memory(tmp_path / "nowhere" / path.name, memory)


def _changed(part: str, change: Callable[[Tensor], Tensor]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        tensors = load_file(path)
        save_file({**tensors, part: change(tensors[part]).contiguous()}, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "not a safetensors file that can be read"),
        (lambda path: path.unlink(), "not a safetensors file that can be read"),
        (lambda path: save_file({"weights": torch.zeros(1)}, path), "not a memory: it must have keys, values, usage"),
        (_changed("values", lambda values: values[:, :2]), r"its values are .*\(1, 2, 16\); .* of \(1, 6, 16\)"),
        (_changed("usage", lambda usage: usage.double()), "its usage are torch.float64"),
        (_changed("values", lambda values: values / 0.0), "its values are not all finite"),
        (_changed("keys", lambda keys: 2.0 * keys), "its keys must have length 1"),
        (
            _changed("usage", torch.zeros_like),
            "its keys must have length 1 where a slot is used, and 0 where it is not",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_words(
    tmp_path: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    built, path = external(), tmp_path / "memory.safetensors"
    save_memory(path, filled(built, 3))
    spoil(path)
    with pytest.raises(ModelError, match=complaint):
        load_memory(path, built.empty())


def test_likeness_is_that_of_directions() -> None:
    built = external()
    memory = built.write(built.empty(), features(1), features(2))
    assert torch.allclose(memory.keys[0, 0], F.normalize(built.key_encoder(features(1)), dim=-1)[0, 0])
    assert torch.allclose(built(3.0 * features(1), memory).weights, built(features(1), memory).weights)
