"""Ticks in time: the measured period, a ROS clock that stands still, one that jumps back."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.types import NS_PER_S, Now

MAX_PERIODS = 2.0


@dataclass(frozen=True)
class Clock:
    """The last tick's instant, the steady time at which ROS time last moved, and how many ticks there have been."""

    last: Now
    ros_moved_ns: int
    ticks: int = 1


@dataclass(frozen=True)
class Tick:
    """elapsed_s: steady time since the last tick; dt_s: the same, capped; jumped_back: ROS time went backwards;
    stalled_s: it has stood for so long."""

    clock: Clock
    elapsed_s: float
    dt_s: float
    jumped_back: bool
    stalled_s: float


def advance(clock: Clock | None, now: Now, period_s: float) -> Tick:
    """One tick later. A late tick moves the robot by at most two periods: it may not catch up with a leap."""
    if clock is None:
        return Tick(Clock(now, now.steady_ns), period_s, period_s, False, 0.0)
    elapsed_s = (now.steady_ns - clock.last.steady_ns) / NS_PER_S
    moved_ns = now.steady_ns if now.ros_ns != clock.last.ros_ns else clock.ros_moved_ns
    return Tick(
        Clock(now, moved_ns, clock.ticks + 1),
        elapsed_s,
        min(max(elapsed_s, 0.0), MAX_PERIODS * period_s),
        now.ros_ns < clock.last.ros_ns,
        (now.steady_ns - moved_ns) / NS_PER_S,
    )
