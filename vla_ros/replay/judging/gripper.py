"""When the gripper was told to open and to close, replayed beside recorded."""

from __future__ import annotations

from collections.abc import Sequence

from vla_ros.control.arbiter import Source
from vla_ros.replay.decisions import Batch
from vla_ros.replay.judging.commands import InOrder, Track, as_recorded, as_replayed
from vla_ros.replay.judging.samples import Measured, counted, samples
from vla_ros.types import GRIPPER, NS_PER_S

# An opening counts as closed from below a third on, and as open from above two thirds on: half open is neither.
_CLOSED, _OPEN = 1.0 / 3.0, 2.0 / 3.0
# Switches further apart are different ones.
_MATCH_S = 1.0

Switch = tuple[int, bool]


class GripperTiming:
    """Delay of each switch that both made, and those that only one of them made. Both after the guard."""

    def __init__(self) -> None:
        self._recorded, self._decided = _Switches(), _Switches()
        self._had_a_say = False

    def hear(self, batch: Batch) -> Measured:
        """Nothing: whether a switch has its like is known at the end."""
        self._recorded.hear(as_recorded(batch.recorded))
        self._decided.hear(as_replayed(batch.guard))
        self._had_a_say = self._had_a_say or any(tick.source == Source.POLICY.value for tick in batch.guard)
        return {}

    def clock_set_back(self) -> Measured:
        """Of the switches of the time that ends."""
        return self.end()

    def end(self) -> Measured:
        """Of all switches; nothing where the policy was not in command."""
        found, had_a_say = (self._recorded.end(), self._decided.end()), self._had_a_say
        self._had_a_say = False
        return _measured(*found) if had_a_say else {}


class _Switches:
    """(instant [ROS ns], whether it opened) of each change from closed to open or back; the first opening is none."""

    def __init__(self) -> None:
        self._commands = InOrder()
        self._found: list[Switch] = []
        self._is_open: bool | None = None

    def hear(self, track: Track) -> None:
        """What was commanded next."""
        self._look_at(self._commands.hear(track))

    def end(self) -> Sequence[Switch]:
        """All of them, once."""
        self._look_at(self._commands.end())
        found, self._found = self._found, []
        return found

    def _look_at(self, track: Track) -> None:
        for at_ns, opening in zip(track.at_ns.tolist(), track.rows[:, GRIPPER].tolist(), strict=True):
            now_open = True if opening > _OPEN else False if opening < _CLOSED else self._is_open
            if self._is_open is not None and now_open is not None and now_open is not self._is_open:
                self._found.append((at_ns, now_open))
            self._is_open = now_open


def _measured(recorded: Sequence[Switch], decided: Sequence[Switch]) -> Measured:
    pairs, missed, extra = matched(recorded, decided)
    delays = [(late_ns - on_ns) / NS_PER_S for on_ns, late_ns in pairs]
    at_ns = [on_ns for on_ns, _ in pairs]
    return {
        "gripper_delay": samples(at_ns, delays),
        "gripper_delay_size": samples(at_ns, map(abs, delays)),
        "gripper_missed": counted(missed),
        "gripper_extra": counted(extra),
    }


def matched(
    recorded: Sequence[Switch], decided: Sequence[Switch]
) -> tuple[Sequence[tuple[int, int]], Sequence[int], Sequence[int]]:
    """Pairs (recorded, decided) of the same direction within a second, nearest first; what is left of either."""
    candidates = sorted(
        (abs(one[0] - other[0]), i, j)
        for i, one in enumerate(recorded)
        for j, other in enumerate(decided)
        if one[1] is other[1] and abs(one[0] - other[0]) <= _MATCH_S * NS_PER_S
    )
    taken: dict[int, int] = {}
    for _, i, j in candidates:
        if i not in taken and j not in taken.values():
            taken[i] = j
    pairs = [(recorded[i][0], decided[j][0]) for i, j in sorted(taken.items())]
    missed = [switch[0] for i, switch in enumerate(recorded) if i not in taken]
    extra = [switch[0] for j, switch in enumerate(decided) if j not in taken.values()]
    return pairs, missed, extra
