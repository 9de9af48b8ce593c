"""Which worlds there are: a task's variation is the vector that Meta-World places its objects and goal by.

Meta-World ignores the seed of a reset and repeats a frozen vector without a word, and the tasks of its benchmarks come
from the global random state. Here a variation is named by split and index and drawn from a generator of its own,
so that it is the same in every process, and the two splits share none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from vla_ros.errors import SimError
from vla_ros.types import FloatArray

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_SEED = 20240611


@dataclass(frozen=True)
class Variation:
    """One world of a task. "train" may be learned from; "test" is for measuring and in no training set."""

    split: Split
    index: int

    def __str__(self) -> str:
        return f"{self.split}:{self.index}"


def parse(text: str) -> Variation:
    """Read "test:3". Raises SimError."""
    split, _, index = text.strip().partition(":")
    for known in SPLITS:
        if split == known and index.isascii() and index.isdigit():
            return Variation(known, int(index))
    raise SimError(f"'{text}' is not a variation; write a split and an index, such as train:0 or test:3")


def draw(environment: Any, task: str, variation: Variation) -> FloatArray:
    """The variation's vector, drawn from the task's space; what the task itself rejects is drawn again.

    environment: a SawyerXYZEnv of that task, left in some state and frozen to the vector.
    """
    if variation.index < 0:
        raise SimError(f"variation {variation} has a negative index")
    seed = (_SEED, SPLITS.index(variation.split), zlib.crc32(task.encode()), variation.index)
    environment.np_random = np.random.default_rng(seed)
    environment.seeded_rand_vec = True
    environment._freeze_rand_vec = False  # a frozen vector that the task rejects would be drawn for ever
    environment.reset_model()
    environment._freeze_rand_vec = True
    vector: FloatArray = environment._last_rand_vec
    return vector
