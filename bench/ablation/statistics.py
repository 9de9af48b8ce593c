"""Whether a part makes a difference: pairs of the same world and seed, and how sure their mean is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vla_ros.learning.evaluation.trials import Key
from vla_ros.types import FloatArray

Solved = Mapping[int, Mapping[Key, bool]]
"""Seed of the training -> trial -> whether it succeeded."""
Verdict = Literal["earns its place", "undecided", "harmful"]

_TASK = 1  # where in a trial's key
_DRAWS, _LEVELS = 10_000, (5.0, 95.0)


@dataclass(frozen=True)
class Difference:
    """Share of successes with a part less that without it. low, high: a 90 % interval. only_with, only_without: pairs
    that only one of them solved.
    """

    pairs: int
    mean: float
    low: float
    high: float
    only_with: int
    only_without: int

    @property
    def verdict(self) -> Verdict:
        """By whether the interval lies on one side of none."""
        if self.low > 0.0:
            return "earns its place"
        return "harmful" if self.high < 0.0 else "undecided"


def difference(having: Solved, lacking: Solved) -> Difference | None:
    """Over the trials that all seeds of both have; None if there is none.

    The interval is that of the pigeonhole bootstrap: seeds and, within each task, worlds are drawn anew, each by
    itself, since all worlds of a seed share its training and all seeds of a world share what it asks. Owen, "The
    pigeonhole bootstrap", Annals of Applied Statistics 2007: rather too wide than too narrow. Of one seed only worlds
    are drawn, and nothing is said of how another training would have turned out.
    """
    seeds = sorted(set(having) & set(lacking))
    if not seeds:
        return None
    common = set.intersection(*(set(solved[seed]) for solved in (having, lacking) for seed in seeds))
    tasks = sorted({key[_TASK] for key in common})
    found = [
        np.array([[float(having[s][key]) - float(lacking[s][key]) for key in keys] for s in seeds])
        for task in tasks
        for keys in [sorted(key for key in common if key[_TASK] == task)]
    ]  # task -> (seeds, worlds)
    if not found:
        return None
    low, high = np.percentile(_drawn_means(found), _LEVELS).tolist()
    every = np.concatenate(found, axis=1)
    return Difference(every.size, float(every.mean()), low, high, int((every > 0).sum()), int((every < 0).sum()))


def _drawn_means(found: list[FloatArray]) -> FloatArray:
    """Means of what is drawn anew. found: of each task (seeds, worlds). -> (draws,)"""
    rng = np.random.default_rng(0)
    count = len(found[0])
    weights = rng.multinomial(count, np.full(count, 1.0 / count), _DRAWS)  # (draws, seeds)
    total = np.zeros(_DRAWS)
    for of_task in found:
        worlds = of_task.shape[1]
        drawn = rng.multinomial(worlds, np.full(worlds, 1.0 / worlds), _DRAWS)  # (draws, worlds)
        total += np.einsum("ds,sw,dw->d", weights, of_task, drawn, optimize=True)
    means: FloatArray = total / sum(of_task.size for of_task in found)
    return means
