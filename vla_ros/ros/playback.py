"""The arithmetic of playing a bag: what is due when, at any rate, with pauses. No clock is read here."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Playhead:
    """Ties bag time to steady time: at steady `anchor_ns` the bag is at `position_ns`; it moves on unless paused."""

    position_ns: int
    anchor_ns: int
    rate: float
    paused: bool

    def at(self, steady_ns: int) -> int:
        """Bag time [ns] at an instant."""
        if self.paused:
            return self.position_ns
        return self.position_ns + round((steady_ns - self.anchor_ns) * self.rate)

    def due_ns(self, stamp_ns: int) -> int:
        """Steady instant at which a running bag reaches a stamp [ns]."""
        return self.anchor_ns + round((stamp_ns - self.position_ns) / self.rate)

    def set_paused(self, paused: bool, steady_ns: int) -> Playhead:
        """Pause or go on, from where it is."""
        return replace(self, position_ns=self.at(steady_ns), anchor_ns=steady_ns, paused=paused)
