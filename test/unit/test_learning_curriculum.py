"""Easy episodes first: what a stage gives out, when the next begins, what is held out, how fast is learned."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from learning_builders import experience

pytest.importorskip("torch", reason="torch is not installed")

from vla_ros.errors import LearningError
from vla_ros.learning.curriculum import CurriculumSampler, Progress, advanced
from vla_ros.learning.recipe import CurriculumConfig, Recipe
from vla_ros.learning.schedule import learning_rate
from vla_ros.learning.training import split
from vla_ros.model.config import VLAConfig

FRAMES = np.arange(100, 123)
DIFFICULTY = np.linspace(0.0, 1.0, len(FRAMES))
CONFIG = CurriculumConfig(levels=(0.5, 1.0), thresholds=(0.8,), max_steps=1000)


def sampler(seed: int = 0, batch_size: int = 4) -> CurriculumSampler:
    return CurriculumSampler(FRAMES, DIFFICULTY, CONFIG.levels, batch_size, seed)


def test_an_epoch_gives_every_frame_at_most_once_and_leaves_out_less_than_a_batch() -> None:
    batches = [sampler().batch(Progress(stage=1, batches=number)) for number in range(5)]
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) == 20
    assert set(seen.tolist()) <= set(FRAMES.tolist())


def test_another_epoch_has_another_order_and_leaves_out_others() -> None:
    one, other = (np.concatenate([sampler().batch(Progress(1, 5 * epoch + n)) for n in range(5)]) for epoch in (0, 1))
    assert one.tolist() != other.tolist()
    assert set(one.tolist()) != set(other.tolist())


def test_a_stage_gives_out_its_easy_frames_alone() -> None:
    easy = set(FRAMES[DIFFICULTY <= 0.5].tolist())
    seen = np.concatenate([sampler().batch(Progress(0, number)) for number in range(20)])
    assert set(seen.tolist()) == easy


def test_a_batch_follows_from_seed_and_progress_alone() -> None:
    used = sampler()
    for number in (7, 0, 3):  # whatever was asked for before
        assert used.batch(Progress(1, number)).tolist() == sampler().batch(Progress(1, number)).tolist()
    assert sampler(seed=1).batch(Progress(1, 3)).tolist() != sampler().batch(Progress(1, 3)).tolist()


def test_iterating_goes_on_from_where_the_progress_is() -> None:
    resumed = sampler()
    resumed.progress = Progress(1, 3)
    (next_batch,) = islice(resumed, 1)
    assert next_batch.tolist() == sampler().batch(Progress(1, 3)).tolist()
    expected = [sampler().batch(Progress(0, number)).tolist() for number in range(12)]
    assert [batch.tolist() for batch in islice(sampler(), 12)] == expected


def test_a_stage_with_less_than_a_batch_is_refused() -> None:
    with pytest.raises(LearningError, match=r"level 0\.5 has 12 frames; a batch has 13"):
        sampler(batch_size=13)


@pytest.mark.parametrize(
    ("progress", "accuracy", "expected"),
    [
        (Progress(0, 10), 0.8, Progress(1, 0)),
        (Progress(0, 10), 0.79, Progress(0, 10)),
        (Progress(0, 10), None, Progress(0, 10)),
        (Progress(0, 1000), 0.1, Progress(1, 0)),
        (Progress(0, 1000), None, Progress(1, 0)),
        (Progress(1, 5000), 1.0, Progress(1, 5000)),
    ],
)
def test_a_stage_ends_when_it_is_learned_or_has_lasted_too_long(
    progress: Progress, accuracy: float | None, expected: Progress
) -> None:
    assert advanced(progress, accuracy, CONFIG) == expected


def test_the_learning_rate_rises_in_a_line_and_falls_to_a_fiftieth() -> None:
    recipe = Recipe(("data",), VLAConfig(), steps=1000, warmup_steps=10, learning_rate=1e-3)
    rates = [learning_rate(step, recipe) for step in range(1000)]
    assert rates[:10] == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1e-3)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[505] == pytest.approx(0.51e-3)
    assert rates[-1] == pytest.approx(2e-5, rel=0.01)
    assert learning_rate(0, replace(recipe, warmup_steps=0)) == pytest.approx(1e-3)


def test_held_out_episodes_are_whole_and_of_every_task_and_failures_are_in_neither_part() -> None:
    lengths = [3, 4, 5, 6, 7, 8]
    tasks = ("push-v3", "reach-v3") * 3
    data = experience(lengths, tasks=tasks, successes=[True, True, True, True, False, True])
    parts = split(data, share=0.03)
    learned, held_out = (set(data.episodes[frames].tolist()) for frames in (parts.training, parts.held_out))
    assert not learned & held_out
    assert learned | held_out == {0, 1, 2, 3, 5}
    assert sorted(tasks[episode] for episode in held_out) == ["push-v3", "reach-v3"]
    assert len(parts.training) + len(parts.held_out) == sum(lengths) - lengths[4]
    again = split(data, share=0.03)
    assert again.held_out.tolist() == parts.held_out.tolist()


def test_no_world_is_both_learned_from_and_held_out() -> None:
    worlds = [f"room {number}" for number in (0, 1, 2, 3)]
    data = replace(experience([3] * 8, tasks=("push-v3",) * 4 + ("reach-v3",) * 4), worlds=(*worlds, *worlds))
    parts = split(data, share=0.25)
    learned, held_out = (
        {data.worlds[episode] for episode in data.episodes[frames]} for frames in (parts.training, parts.held_out)
    )
    assert held_out and not learned & held_out
    assert len(parts.training) + len(parts.held_out) == 24


def test_a_task_of_which_every_world_is_held_out_is_refused() -> None:
    worlds = ("room 0", "room 1", "room 2", "room 0", "room 0")
    data = replace(experience([3] * 5, tasks=("push-v3",) * 3 + ("reach-v3",) * 2), worlds=worlds)
    with pytest.raises(LearningError, match="every episode of 'reach-v3' is in a world that is held out; more worlds"):
        split(data, share=0.25)


def test_a_task_with_too_few_successes_is_refused() -> None:
    data = experience([3, 3, 3], tasks=("push-v3",) * 3, successes=[True, False, False])
    with pytest.raises(LearningError, match="1 good episodes of 'push-v3' are too few"):
        split(data, share=0.03)
