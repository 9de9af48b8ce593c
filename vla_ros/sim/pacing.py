"""How many steps are due, so that simulated time keeps a constant ratio to wall time."""

from __future__ import annotations

from collections import deque

from vla_ros.types import NS_PER_S

# After a longer hold-up the simulation goes on from there: a burst of missed steps would be no robot's behaviour.
_MAX_CATCH_UP = 4
# The real-time factor is that of the last few seconds: one hold-up must not taint it for ever.
WINDOW_S = 5.0


class Pace:
    """Steady time in, steps out."""

    def __init__(self, step_s: float, realtime_factor: float) -> None:
        """step_s: simulated length of a step; realtime_factor: simulated seconds per second."""
        self._step_s = step_s
        self._realtime_factor = realtime_factor
        self._began_ns: int | None = None
        self._next_ns = 0.0
        self._taken: deque[tuple[int, int]] = deque()

    @property
    def period_s(self) -> float:
        """Wall time per step."""
        return self._step_s / self._realtime_factor

    def restarted(self) -> Pace:
        """The same pace from now on, with nothing overdue."""
        return Pace(self._step_s, self._realtime_factor)

    def steps_due(self, steady_ns: int) -> int:
        """Steps to take now. At most a few: what a longer hold-up missed is not made up for."""
        if self._began_ns is None:
            self._began_ns, self._next_ns = steady_ns, steady_ns
        period_ns = self.period_s * NS_PER_S
        due = max(0, int((steady_ns - self._next_ns) / period_ns + 1.5))
        if due > _MAX_CATCH_UP:
            self._next_ns, due = steady_ns, 1
        self._next_ns += due * period_ns
        self._taken.append((steady_ns, due))
        while self._taken[0][0] <= steady_ns - WINDOW_S * NS_PER_S:
            self._taken.popleft()
        return due

    def factor(self, steady_ns: int) -> float:
        """Simulated seconds per second over the last WINDOW_S; what was asked for, until a step could be due."""
        if self._began_ns is None or steady_ns - self._began_ns < self.period_s * NS_PER_S:
            return self._realtime_factor
        from_ns = max(self._began_ns, steady_ns - round(WINDOW_S * NS_PER_S))
        steps = sum(due for taken_ns, due in self._taken if taken_ns > from_ns)
        return steps * self._step_s * NS_PER_S / (steady_ns - from_ns)
