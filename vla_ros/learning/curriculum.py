"""Easy episodes first: which frames a stage learns from, in which order, and when the next stage begins.

Bengio et al., "Curriculum learning", 2009. Difficulty is measured, a stage ends when validation says so, and within a
stage the order is random. Everything is a function of seed and position, so that a training that was cut off goes on
with the very next batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vla_ros.errors import LearningError
from vla_ros.learning.recipe import CurriculumConfig
from vla_ros.types import FloatArray


@dataclass(frozen=True)
class Progress:
    """Where a curriculum stands. stage: from 0; batches: how many the stage has given out."""

    stage: int = 0
    batches: int = 0


class CurriculumSampler(Sampler[NDArray[np.int64]]):
    """Batches of frames. Iterating gives the rest of the current stage's endless stream, and moves its progress on."""

    def __init__(
        self, frames: NDArray[np.int64], difficulty: FloatArray, levels: tuple[float, ...], batch_size: int, seed: int
    ) -> None:
        """frames: (N,), those to learn from; difficulty: (N,), 0 easiest to 1 hardest; levels: see CurriculumConfig.

        Raises LearningError if a stage has nothing to learn from.
        """
        self._stages = [frames[difficulty <= level] for level in levels]
        self._batch_size = batch_size
        self._seed = seed
        self._order: tuple[tuple[int, int], NDArray[np.int64]] | None = None
        self.progress = Progress()
        for level, stage in zip(levels, self._stages, strict=True):
            if len(stage) < batch_size:
                raise LearningError(f"the curriculum's level {level} has {len(stage)} frames; a batch has {batch_size}")

    @property
    def all_frames(self) -> NDArray[np.int64]:
        """Those of the last stage, which learns from every one. -> (N,)"""
        return self._stages[-1]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        while True:
            yield self.batch(self.progress)
            self.progress = replace(self.progress, batches=self.progress.batches + 1)

    def batch(self, progress: Progress) -> NDArray[np.int64]:
        """One batch: the same for the same progress. -> (batch_size,)"""
        frames = self._stages[progress.stage]
        per_epoch = len(frames) // self._batch_size  # the last, shorter batch is left out
        epoch, position = divmod(progress.batches, per_epoch)
        order = self._shuffled(progress.stage, epoch)
        return order[position * self._batch_size : (position + 1) * self._batch_size]

    def _shuffled(self, stage: int, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != (stage, epoch):
            rng = np.random.default_rng((self._seed, stage, epoch))
            self._order = ((stage, epoch), rng.permutation(self._stages[stage]))
        return self._order[1]


def advanced(progress: Progress, accuracy: float | None, config: CurriculumConfig) -> Progress:
    """The next stage, if validation says that this one is learned or it has gone on for too long; else the same.

    accuracy: the newest, 0 to 1; None before the stage has been validated.
    """
    if progress.stage == len(config.levels) - 1:
        return progress
    is_learned = accuracy is not None and accuracy >= config.thresholds[progress.stage]
    if is_learned or progress.batches >= config.max_steps:
        return Progress(progress.stage + 1)
    return progress
