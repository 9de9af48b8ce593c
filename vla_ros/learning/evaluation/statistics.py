"""How sure a count of successes is, and whether two runs over the same worlds differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

_Z_95 = 1.96


@dataclass(frozen=True)
class Rate:
    """Successes among episodes."""

    successes: int
    episodes: int

    @property
    def share(self) -> float:
        """NaN of no episodes."""
        return self.successes / self.episodes if self.episodes else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; all of 0 to 1 of no episodes."""
        if not self.episodes:
            return 0.0, 1.0
        n, z2 = self.episodes, _Z_95**2
        centre = (self.share + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z_95 / (1 + z2 / n) * math.sqrt(self.share * (1 - self.share) / n + z2 / (4 * n**2))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        return f"{self.successes}/{self.episodes}"


def most_expected(count: int, confidence: float = 0.95) -> float:
    """The most events that may be expected where so many were counted: Poisson's exact upper bound.

    Source: Garwood, "Fiducial limits for the Poisson distribution", 1936; the bound is one-sided.
    """
    low, high = float(count), 2.0 * count + 20.0
    for _ in range(100):  # halves what is between
        middle = (low + high) / 2.0
        at_most = sum(math.exp(k * math.log(middle) - middle - math.lgamma(k + 1)) for k in range(count + 1))
        low, high = (middle, high) if at_most > 1.0 - confidence else (low, middle)
    return high


@dataclass(frozen=True)
class Paired:
    """Two runs over the same worlds: how many there are, and how many only one of the runs solved."""

    pairs: int
    only_first: int
    only_second: int

    @property
    def p(self) -> float:
        """How likely so uneven a split of the discordant pairs is by chance: McNemar's exact test, two-sided."""
        count = self.only_first + self.only_second
        tail = sum(math.comb(count, k) for k in range(min(self.only_first, self.only_second) + 1)) / 2.0**count
        return min(1.0, 2.0 * tail)


def paired(first: Mapping[Hashable, bool], second: Mapping[Hashable, bool]) -> Paired:
    """World -> whether it was solved, of two runs. What only one of them tried does not count."""
    both = [(first[world], second[world]) for world in first if world in second]
    return Paired(
        len(both), sum(one and not other for one, other in both), sum(other and not one for one, other in both)
    )
