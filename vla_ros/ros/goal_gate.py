"""When an action server is asked for an opening, and when again."""

from __future__ import annotations

from vla_ros.types import NS_PER_S

SMALLEST_CHANGE = 1e-3
# A ramp is a few goals a second and then its end, not one goal per tick.
SPACING_S = 0.1
# A server that refuses is asked again, without drowning it.
RETRY_S = 1.0
# A server that does not answer within this has been restarted, or is not going to; so has one during such a pause.
FORGET_S = 2.0


class GoalGate:
    """At most one goal waits for its answer, and an opening is asked for until it was accepted. Steady times [ns]."""

    def __init__(self) -> None:
        self._asked: float | None = None
        self._is_waiting = False
        self._goal_id = 0
        self._not_before_ns = 0
        self._asked_ns = 0
        self._called_ns = 0

    def ask(self, opening: float, is_there: bool, now_ns: int) -> int | None:
        """Called with every opening that is wanted. Returns the id of a goal that is to be sent now, or None."""
        silent, self._called_ns = now_ns - self._called_ns > FORGET_S * NS_PER_S, now_ns
        unanswered = self._is_waiting and now_ns - self._asked_ns > FORGET_S * NS_PER_S
        if not is_there or silent or unanswered:
            self._asked, self._is_waiting = None, False
        is_known = self._asked is not None and abs(opening - self._asked) < SMALLEST_CHANGE
        if not is_there or self._is_waiting or is_known or now_ns < self._not_before_ns:
            return None
        self._asked, self._is_waiting, self._asked_ns = opening, True, now_ns
        self._not_before_ns = now_ns + round(SPACING_S * NS_PER_S)
        self._goal_id += 1
        return self._goal_id

    def answered(self, goal_id: int, accepted: bool, now_ns: int) -> None:
        """The server's answer to a goal. An answer to an older one than the last says nothing."""
        if goal_id != self._goal_id:
            return
        self._is_waiting = False
        if not accepted:
            self._asked = None
            self._not_before_ns = now_ns + round(RETRY_S * NS_PER_S)
