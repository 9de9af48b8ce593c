"""When the gripper was told to open and to close, replayed beside recorded."""

from __future__ import annotations

from collections.abc import Sequence

from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.commands import Track, recorded_track, replayed_track
from vla_ros.replay.judging.samples import Quantities, samples
from vla_ros.types import GRIPPER, NS_PER_S

# An opening counts as closed from below a third on, and as open from above two thirds on: half open is neither.
_CLOSED, _OPEN = 1.0 / 3.0, 2.0 / 3.0
# Switches further apart are different ones.
_MATCH_S = 1.0

Switch = tuple[int, bool]


def gripper_quantities(replayed: Replayed) -> Quantities:
    """Delay of each switch that both made, and those that only one of them made. Both after the guard."""
    recorded = switches(recorded_track(replayed.recorded))
    decided = switches(replayed_track(replayed.guard))
    pairs, missed, extra = matched(recorded, decided)
    delays = [(late_ns - on_ns) / NS_PER_S for on_ns, late_ns in pairs]
    at_ns = [on_ns for on_ns, _ in pairs]
    return {
        "gripper_delay": samples(at_ns, delays),
        "gripper_delay_size": samples(at_ns, map(abs, delays)),
        "gripper_missed": samples(missed, [1.0] * len(missed)),
        "gripper_extra": samples(extra, [1.0] * len(extra)),
    }


def switches(track: Track) -> tuple[Switch, ...]:
    """(instant [ROS ns], whether it opened) of each change from closed to open or back; the first opening is none."""
    found: list[Switch] = []
    is_open: bool | None = None
    for at_ns, opening in zip(track.at_ns.tolist(), track.rows[:, GRIPPER].tolist(), strict=True):
        now_open = True if opening > _OPEN else False if opening < _CLOSED else is_open
        if is_open is not None and now_open is not None and now_open is not is_open:
            found.append((at_ns, now_open))
        is_open = now_open
    return tuple(found)


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
