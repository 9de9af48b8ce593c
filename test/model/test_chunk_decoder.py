"""Chunks by regression and by flow matching: what they may depend on, what they learn, and how they continue."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vla_ros.model.actions import IDENTITY, ActionStatistics, unit_quaternion
from vla_ros.model.attention import MultiHeadAttention
from vla_ros.model.chunk_decoder import ChunkDecoder, Context, Memory, MemoryAttention, Prefix, weighted_mean
from vla_ros.model.config import DecoderConfig
from vla_ros.model.decoders import make_head
from vla_ros.model.flow import draw_times
from vla_ros.types import ACTION_WIDTH, GRIPPER, QUATERNION

WIDTH, HEADS, HORIZON, SAMPLES, TOKENS = 32, 4, 8, 3, 5
KINDS = ("regression", "flow")
both = pytest.mark.parametrize("kind", KINDS)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _head(kind: str, max_prefix: int = 3, dropout: float = 0.0) -> ChunkDecoder:
    torch.manual_seed(0)
    config = replace(DecoderConfig(horizon=HORIZON, layers=2, max_prefix=max_prefix), kind=kind)  # type: ignore[arg-type]
    head = make_head(config, WIDTH, HEADS, dropout)
    assert isinstance(head, ChunkDecoder)
    return head.eval()


def _rows(samples: int = SAMPLES, seed: int = 2) -> Tensor:
    rows = 0.3 * torch.randn(samples, HORIZON, ACTION_WIDTH, generator=_generator(seed))
    rows[..., QUATERNION] = unit_quaternion(rows[..., QUATERNION] + torch.tensor(IDENTITY))
    rows[..., GRIPPER] = rows[..., GRIPPER].sigmoid()
    return rows


class _Seen:
    """What a head is given: memory, mask, pooled."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.memory = torch.randn(samples, TOKENS, WIDTH, generator=_generator(1))
        self.mask = torch.ones(samples, TOKENS, dtype=torch.bool)
        self.pooled = torch.randn(samples, WIDTH, generator=_generator(3))

    @property
    def given(self) -> Memory:
        return Memory(self.memory, self.mask, self.pooled)

    def sampled(self, head: ChunkDecoder, prefix: Prefix | None = None, seed: int = 0) -> Tensor:
        statistics = ActionStatistics.identity()
        return head.sample(self.given, statistics, prefix, _generator(seed))

    def loss(self, head: ChunkDecoder, target: Tensor, weights: Tensor | None = None, seed: int = 0) -> Tensor:
        statistics = ActionStatistics.identity()
        return head.loss(self.given, target, statistics, weights, _generator(seed))


def _prefix(lengths: list[int]) -> Prefix:
    return Prefix(_rows(len(lengths), seed=9), torch.tensor(lengths))


@both
def test_a_sampled_chunk_is_made_of_valid_actions(kind):
    rows = _Seen().sampled(_head(kind))
    assert rows.shape == (SAMPLES, HORIZON, ACTION_WIDTH)
    assert torch.allclose(rows[..., QUATERNION].norm(dim=-1), torch.ones(SAMPLES, HORIZON), atol=1e-6)
    assert ((rows[..., GRIPPER] >= 0.0) & (rows[..., GRIPPER] <= 1.0)).all()


@both
def test_one_sample_changes_no_other_chunk(kind):
    head, seen, changed = _head(kind), _Seen(), _Seen()
    changed.memory[1] += 1.0
    changed.pooled[1] += 1.0
    before, after = seen.sampled(head), changed.sampled(head)
    assert torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-6)
    assert not torch.allclose(before[1], after[1], atol=1e-3)


@both
def test_every_token_of_the_memory_and_the_pooled_features_matter(kind):
    head, before = _head(kind), _Seen().sampled(_head(kind))
    for token in range(TOKENS):
        changed = _Seen()
        changed.memory[:, token] *= -1.0
        assert not torch.allclose(changed.sampled(head), before, atol=1e-5)
    changed = _Seen()
    changed.pooled *= -1.0
    assert not torch.allclose(changed.sampled(head), before, atol=1e-3)


@both
def test_what_is_masked_in_the_memory_changes_nothing(kind):
    head, target = _head(kind), _rows()
    seen, garbage, longer = _Seen(), _Seen(), _Seen()
    seen.mask[:, 3:] = garbage.mask[:, 3:] = longer.mask[:, 3:] = False
    garbage.memory[:, 3:] = 1e3
    longer.memory = torch.cat((longer.memory, torch.randn(SAMPLES, 4, WIDTH)), dim=1)
    longer.mask = torch.cat((longer.mask, torch.zeros(SAMPLES, 4, dtype=torch.bool)), dim=1)
    for other in (garbage, longer):
        assert torch.allclose(other.sampled(head), seen.sampled(head), atol=1e-5)
        assert torch.allclose(other.loss(head, target), seen.loss(head, target), atol=1e-5)


@both
def test_a_memory_in_which_nothing_is_real_gives_a_chunk_nevertheless(kind):
    seen = _Seen()
    seen.mask[:] = False
    assert seen.sampled(_head(kind)).isfinite().all()


@both
def test_a_chunk_is_the_same_again_in_eval_given_the_generators_seed(kind):
    head, seen = _head(kind, dropout=0.5), _Seen()
    assert torch.equal(seen.sampled(head, seed=1), seen.sampled(head, seed=1))
    assert torch.equal(seen.sampled(head, seed=1), seen.sampled(head, seed=2)) is (kind == "regression")
    assert not torch.equal(seen.sampled(head.train(), seed=1), seen.sampled(head, seed=1))


def test_without_a_generator_a_flow_draws_from_torchs_own():
    head, seen = _head("flow"), _Seen()

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return head.sample(seen.given, ActionStatistics.identity())

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))


@both
def test_gradients_reach_every_parameter(kind):
    head, seen = _head(kind).train(), _Seen()
    seen.memory.requires_grad_(True)
    seen.pooled.requires_grad_(True)
    seen.loss(head, _rows()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.abs().sum() > 1e-7, name
    assert seen.memory.grad.abs().sum(dim=-1).min() > 0.0 and seen.pooled.grad.abs().sum(dim=-1).min() > 0.0


@both
def test_committed_rows_come_back_unchanged_and_change_the_others(kind):
    head, seen, prefix = _head(kind), _Seen(), _prefix([0, 2, HORIZON])
    free, bound = seen.sampled(head), seen.sampled(head, prefix)
    assert torch.allclose(bound[0], free[0], atol=1e-6)
    assert torch.equal(bound[1, :2], prefix.rows[1, :2]) and not torch.allclose(bound[1, 2:], free[1, 2:], atol=1e-3)
    assert torch.equal(bound[2], prefix.rows[2])


@both
def test_rows_behind_the_prefix_are_not_looked_at(kind):
    head, seen, prefix = _head(kind), _Seen(), _prefix([0, 1, 3])
    rest = torch.where(prefix.committed.unsqueeze(-1), prefix.rows, torch.nan)
    assert torch.equal(seen.sampled(head, Prefix(rest, prefix.length)), seen.sampled(head, prefix))


@both
def test_only_rows_behind_the_drawn_prefix_that_have_weight_are_learned_from(kind):
    head, seen = _head(kind), _Seen(64)
    weights = torch.ones(64, HORIZON)
    weights[:, 6:] = 0.0
    decoded: list[Tensor] = []
    head.row_out.register_forward_hook(lambda module, given, out: decoded.append(out))
    loss = seen.loss(head, _rows(64), weights)
    (gradient,) = torch.autograd.grad(loss, decoded)
    learned = gradient.abs().sum(dim=-1) > 0.0  # (64, H)
    first = learned.int().argmax(dim=-1)
    assert set(first.tolist()) == {0, 1, 2, 3}  # every delay up to max_prefix occurs
    places = torch.arange(HORIZON)
    assert torch.equal(learned, (places >= first.unsqueeze(-1)) & (places < 6))


@both
def test_rows_without_weight_change_nothing(kind):
    head, seen, target = _head(kind), _Seen(), _rows()
    weights = torch.ones(SAMPLES, HORIZON)
    weights[:, 5:] = 0.0
    garbage = target.clone()
    garbage[:, 5:] = 7.0
    padded = target.clone()
    padded[:, 5:] = 0.0  # not even a quaternion
    expected = seen.loss(head, target, weights)
    assert torch.allclose(seen.loss(head, garbage, weights), expected, atol=1e-6)
    assert torch.allclose(seen.loss(head, padded, weights), expected, atol=1e-6)
    assert seen.loss(head, target, torch.zeros(SAMPLES, HORIZON)) == 0.0


@both
def test_the_sign_of_a_targets_quaternion_does_not_matter(kind):
    head, seen, target = _head(kind), _Seen(), _rows()
    flipped = target.clone()
    flipped[..., QUATERNION] *= -1.0
    assert seen.loss(head, flipped) == seen.loss(head, target)


def test_a_weighted_mean_is_over_what_has_weight():
    assert weighted_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 3.0, 0.0])) == 1.75
    assert weighted_mean(torch.tensor([1.0]), torch.tensor([0.0])) == 0.0


def test_looking_at_a_projected_memory_is_attention():
    torch.manual_seed(0)
    attention = MemoryAttention(WIDTH, HEADS)
    queries, memory, mask = torch.randn(2, 3, WIDTH), torch.randn(2, TOKENS, WIDTH), torch.rand(2, TOKENS) > 0.3
    mask[:, 0] = True
    looked = attention.look(queries, *attention.project(memory), mask[:, None, None, :])
    assert torch.allclose(looked, MultiHeadAttention.forward(attention, queries, memory, mask), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_times_to_learn_at_are_those_of_pi0_and_none_is_later_than_the_last_step(steps):
    times = draw_times(torch.zeros(20_000, HORIZON), steps, _generator(0))
    assert times.shape == (20_000, 1, 1)
    assert times.min() >= 0.0 and times.max() <= 1.0 - 1.0 / steps
    beta = torch.distributions.Beta(1.5, 1.0)
    last = 1.0 - 1.0 / steps
    assert abs(float(times.mean()) - last * (1.0 - float(beta.mean))) < 0.01
    assert abs(float(times.var()) - last**2 * float(beta.variance)) < 0.005


def test_a_flow_that_knows_the_data_ends_exactly_there(monkeypatch):
    head, seen, data = _head("flow"), _Seen(), _rows()
    normalised = ActionStatistics.identity().normalise(data)
    given: list[tuple[Tensor, Tensor]] = []

    def knows(rows: Tensor, times: Tensor, context: Context) -> Tensor:
        given.append((rows, times))
        return normalised

    monkeypatch.setattr(head, "_decode", knows)
    assert torch.allclose(seen.sampled(head), data, atol=1e-6)
    noise = given[0][0]
    for step, (rows, times) in enumerate(given):
        time = step / len(given)
        assert torch.allclose(times, torch.full((SAMPLES, HORIZON), time))
        assert torch.allclose(rows, (1.0 - time) * noise + time * normalised, atol=1e-5)
    given.clear()
    assert seen.loss(head, data) < 1e-12
    (rows, times), committed = given[0], given[0][1] == 1.0
    assert torch.equal(rows[committed], normalised[committed]) and not torch.allclose(
        rows[~committed], normalised[~committed]
    )


def test_the_loss_of_a_flow_is_its_velocitys(monkeypatch):
    head, seen, data = _head("flow", max_prefix=0), _Seen(), _rows()
    normalised = ActionStatistics.identity().normalise(data)
    given: list[tuple[Tensor, Tensor, Tensor]] = []
    decode = head._decode

    def watched(rows: Tensor, times: Tensor, context: Context) -> Tensor:
        given.append((rows, times.unsqueeze(-1), decode(rows, times, context)))
        return given[-1][2]

    monkeypatch.setattr(head, "_decode", watched)
    loss = seen.loss(head, data)
    rows, times, predicted = given[0]
    noise = (rows - times * normalised) / (1.0 - times)
    velocity = (predicted - rows) / (1.0 - times)
    assert torch.allclose(loss, (velocity - (normalised - noise)).square().mean(), rtol=1e-4)


def _fit(head: ChunkDecoder, target_of, steps: int, samples: int = 64, rate: float = 1e-2) -> None:
    """target_of: a generator -> rows (samples, H, 14); the condition is always the same, so only the rows tell."""
    memory = _condition(samples)
    statistics, generator = ActionStatistics.identity(), _generator(0)
    optimiser = torch.optim.Adam(head.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        head.loss(memory, target_of(generator), statistics, generator=generator).backward()
        optimiser.step()
        schedule.step()


def _condition(samples: int) -> Memory:
    return Memory(torch.ones(samples, 2, WIDTH), torch.ones(samples, 2, dtype=torch.bool), torch.ones(samples, WIDTH))


def _at_rest(samples: int) -> Tensor:
    rows = torch.zeros(samples, HORIZON, ACTION_WIDTH)
    rows[..., QUATERNION] = torch.tensor(IDENTITY)
    return rows


def _two_ways(generator: torch.Generator, samples: int = 64) -> Tensor:
    """To the left or to the right, half of the time each."""
    rows = _at_rest(samples)
    rows[..., 0] = 2.0 * torch.randint(2, (samples, 1), generator=generator) - 1.0
    return rows


def _waves(generator: torch.Generator, samples: int = 64) -> Tensor:
    """A sine wave from a random phase on: two rows of it tell all others."""
    rows = _at_rest(samples)
    phase = 2.0 * torch.pi * torch.rand(samples, 1, generator=generator)
    rows[..., 0] = torch.sin(phase + 0.6 * torch.arange(HORIZON))
    return rows


def test_flow_matching_goes_one_way_or_the_other_where_regression_has_one_answer_for_all():
    drawn = {}
    for kind in KINDS:
        head = _head(kind, max_prefix=0)
        _fit(head, _two_ways, 60 if kind == "regression" else 400)
        drawn[kind] = head.sample(_condition(400), ActionStatistics.identity(), generator=_generator(1))[..., 0]
    assert drawn["regression"].std(dim=0).max() < 1e-3 and drawn["regression"].abs().max() < 1.25
    left, right = (drawn["flow"] + 1.0).abs().amax(dim=-1) < 0.25, (drawn["flow"] - 1.0).abs().amax(dim=-1) < 0.25
    assert (left | right).float().mean() >= 0.9  # all rows of a chunk go the same way
    assert left.float().mean() >= 0.25 and right.float().mean() >= 0.25


@both
def test_a_chunk_continues_its_prefix(kind):
    head = _head(kind)
    _fit(head, _waves, 700 if kind == "regression" else 250)
    truth = _waves(_generator(7), 100)
    prefix = Prefix(truth, torch.full((100,), 3))
    error = _errors(head, truth, prefix)
    assert error < 0.2 < 0.5 < _errors(head, truth, None)  # nothing else says which wave it is


def _errors(head: ChunkDecoder, truth: Tensor, prefix: Prefix | None) -> float:
    statistics = ActionStatistics.identity()
    rows = head.sample(_condition(len(truth)), statistics, prefix, _generator(1))
    return float((rows - truth)[:, 3:, 0].abs().mean())


def test_what_is_predicted_does_not_tell_how_many_rows_are_learned_from(monkeypatch):
    """Else the network would read off it how far away the end of an episode is, which nothing tells it later."""
    head, seen, data = _head("regression", max_prefix=0), _Seen(), _rows()
    predicted: list[Tensor] = []
    decode = head._decode

    def watched(rows: Tensor, times: Tensor, context: Context) -> Tensor:
        predicted.append(decode(rows, times, context))
        return predicted[-1]

    monkeypatch.setattr(head, "_decode", watched)
    few = torch.zeros(SAMPLES, HORIZON)
    few[:, :2] = 1.0
    seen.loss(head, data)
    seen.loss(head, data, few)
    assert torch.equal(predicted[0], predicted[1])
