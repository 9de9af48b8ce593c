"""A replay is measured while it goes on: where it is cut makes no difference, and little of it is remembered."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_builders import (
    ANSWERED_AFTER,
    ASKED_EVERY,
    START_NS,
    at,
    chunk,
    guard_tick,
    motion,
    perfect,
    policy_tick,
    reply,
    sides,
    with_chunks,
)

from vla_ros.control.chunks import target_at
from vla_ros.errors import ReplayError
from vla_ros.replay.decisions import Decision, GuardDecision, Instructed, PolicyDecision, RecordedCommand
from vla_ros.replay.judging.action_errors import LEAD, row_instants
from vla_ros.replay.judging.chunk_consistency import chunk_distance
from vla_ros.replay.judging.comparison import Answers, side_by_side
from vla_ros.replay.judging.judgement import Judge, Judgement
from vla_ros.replay.judging.samples import Samples
from vla_ros.replay.judging.spool import Spool
from vla_ros.types import NS_PER_S, POSITION, Chunk, Now

TICKS = 480
LATCHED: dict[str, Any] = {
    "source": "nobody",
    "mode": "latched",
    "text": "nobody in command: latched until reset (too far)",
}
STOPPED: dict[str, Any] = {"source": "nobody", "text": "nobody in command: the policy fell silent (for 0.21 s)"}
CONTRACT = perfect(1).contract


def eventful(ticks: int, start: int = 0) -> Iterator[Decision]:
    """A replay in its order, in which all happens that is measured: rests, switches, silence, limits, a takeover."""
    for tick in range(start, start + ticks):
        if tick % 160 == 0:
            yield Instructed(at(tick).ros_ns, "go along x" if tick % 320 == 0 else "go on")
        gripper = 0.0 if tick % 200 >= 100 else 0.5 if tick % 50 < 10 else 1.0
        commanded = motion(tick, gripper, 0.0 if tick % 150 < 20 else 0.1 + 0.01 * (tick % 3))
        asked = at(tick).ros_ns if tick % ASKED_EVERY == 0 else None
        is_answer = tick % ASKED_EVERY == ANSWERED_AFTER
        planned = chunk(tick - ANSWERED_AFTER, (0.0, 0.001 * (tick % 7), 0.0), gripper=gripper)
        spoken = policy_tick(tick, requested_t_obs_ns=asked, replies=(reply(planned, tick),) if is_answer else ())
        if 230 <= tick % 400 < 245:
            spoken = replace(
                spoken, target=None, text="silent: an input is missing (camera/top)", stale=("camera/top",)
            )
        if tick % 200 == 58:
            spoken = replace(spoken, replies=(replace(reply(planned, tick), chunk=None, failed="it raised"),))
        yield spoken
        guarded = guard_tick(tick, command=commanded, clips=("workspace",) if tick % 90 < 5 else ())
        if tick % 400 >= 370:
            guarded = replace(guarded, **LATCHED)
        elif 100 <= tick % 400 < 140:
            guarded = replace(guarded, source="teleop")
        elif tick % 400 in (60, 61):
            guarded = replace(guarded, **STOPPED)
        yield guarded
        recorded = 1.0 - gripper if 320 <= tick % 400 < 330 else 0.0 if tick % TICKS >= 395 else gripper
        yield RecordedCommand(at(tick).ros_ns, motion(tick, recorded))


def timed(decisions: Iterable[Decision], ros_ns: Callable[[int], int]) -> Iterator[Decision]:
    """The same by another ROS clock."""
    for decision in decisions:
        if isinstance(decision, Instructed):
            yield replace(decision, ros_ns=ros_ns(decision.ros_ns))
        elif isinstance(decision, RecordedCommand):
            yield replace(decision, stamp_ns=ros_ns(decision.stamp_ns))
        elif isinstance(decision, GuardDecision):
            yield replace(decision, now=Now(ros_ns(decision.now.ros_ns), decision.now.steady_ns))
        else:
            yield _timed_policy(decision, ros_ns)


def _timed_policy(tick: PolicyDecision, ros_ns: Callable[[int], int]) -> PolicyDecision:
    def moved(instant_ns: int | None) -> int | None:
        return None if instant_ns is None else ros_ns(instant_ns)

    replies = tuple(
        replace(
            one,
            t_obs_ns=moved(one.t_obs_ns),
            chunk=None if one.chunk is None else replace(one.chunk, t_obs_ns=ros_ns(one.chunk.t_obs_ns)),
        )
        for one in tick.replies
    )
    asked_ns, t_obs_ns = moved(tick.requested_t_obs_ns), moved(tick.t_obs_ns)
    now = Now(ros_ns(tick.now.ros_ns), tick.now.steady_ns)
    return replace(tick, now=now, replies=replies, requested_t_obs_ns=asked_ns, t_obs_ns=t_obs_ns)


def measured(decisions: Iterable[Decision], batch: int = 10**9) -> Judgement:
    judging = Judge(CONTRACT, batch=batch)
    for decision in decisions:
        judging.hear(decision)
    return judging.end()


def told(judged: Judgement) -> dict[str, Any]:
    """All that a judgement says, comparable."""
    kept = {name: judged.quantities.samples(name) for name in judged.quantities.names}
    near = kept["near_misses"]  # by cause within a batch
    kept["near_misses"] = Samples(np.sort(near.at_ns), near.values)
    return {
        "quantities": {name: (one.at_ns.tolist(), one.values.tolist()) for name, one in kept.items()},
        "metrics": judged.metrics,
        "horizon": _rounded(judged.horizon),
        "events": judged.events,
        "silences": judged.silences,
        "stale": judged.stale,
        "ticks": judged.ticks,
        "begin_ns": judged.begin_ns,
    }


def _rounded(horizon: Iterable[Any]) -> list[dict[str, float | None]]:
    """Sums of several batches differ in their last bits."""
    return [{name: None if one is None else round(one, 12) for name, one in part.items()} for part in horizon]


def test_the_replay_that_is_cut_has_everything_in_it() -> None:
    whole = told(measured(eventful(TICKS)))
    empty = {name for name, (instants, _) in whole["quantities"].items() if not instants}
    assert empty == {"damaged"}
    assert {event.kind for event in whole["events"]} == {"latch", "stop", "near miss"}


CLOCKS: dict[str, Callable[[int], int]] = {
    "fine": lambda ros_ns: ros_ns,
    "coarse": lambda ros_ns: ros_ns // 40_000_000 * 40_000_000,
    "standing still": lambda ros_ns: min(ros_ns, at(200).ros_ns),
    "set back by a minute": lambda ros_ns: ros_ns if ros_ns < at(250).ros_ns else ros_ns - 60 * NS_PER_S,
    "set back by two seconds": lambda ros_ns: ros_ns if ros_ns < at(250).ros_ns else ros_ns - 2 * NS_PER_S,
    "never set": lambda _ros_ns: 0,
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_where_a_replay_is_cut_makes_no_difference(clock: str) -> None:
    decisions = tuple(timed(eventful(TICKS), CLOCKS[clock]))
    whole = told(measured(decisions))
    for batch in (333, 1000) if clock == "standing still" else (1, 2, 3, 7, 50, 333, 1000):
        assert told(measured(decisions, batch)) == whole, batch


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3000), st.integers(1, 120_000_000), st.integers(1, TICKS - 1), st.integers(0, 4 * NS_PER_S))
def test_nor_by_any_clock(batch: int, step_ns: int, tick: int, back_ns: int) -> None:
    def ros_ns(instant_ns: int) -> int:
        shown_ns = instant_ns // step_ns * step_ns
        return shown_ns if instant_ns < at(tick).ros_ns else shown_ns - back_ns

    decisions = tuple(timed(eventful(TICKS), ros_ns))
    assert told(measured(decisions, batch)) == told(measured(decisions))


@pytest.mark.parametrize("batch", [100, 10_000])
def test_a_clock_that_is_set_back_begins_a_new_time(batch: int) -> None:
    """Two replays one behind the other are measured as each by itself, but for where they meet."""
    once, twice = measured(eventful(TICKS)), measured(chain(eventful(TICKS), eventful(TICKS)), batch)
    for name in ("position_error", "gripper_error", "chunk_error", "gripper_delay", "smoothness"):
        assert twice.quantities.values(name).tolist() == pytest.approx(2 * once.quantities.values(name).tolist()), name
    assert (twice.begin_ns, twice.silences) == (once.begin_ns, {"an input is missing": 30})


def test_the_instruction_goes_on_when_the_clock_is_set_back() -> None:
    told_once: list[Decision] = [Instructed(at(0).ros_ns, "go along x")]
    told_once += [policy_tick(tick) for tick in (*range(40, 80), *range(40))]
    assert len(measured(told_once).quantities.values("silent")) == 80


def test_the_page_begins_with_the_first_tick_whatever_the_clock_does_later() -> None:
    assert measured(timed(eventful(TICKS), CLOCKS["set back by a minute"])).begin_ns == START_NS


def test_a_motion_without_a_rest_is_measured_minute_by_minute() -> None:
    always = [guard_tick(tick) for tick in range(150 * 80)]
    found = measured(always, 700).quantities.samples("smoothness")
    assert ((found.at_ns - START_NS) / NS_PER_S).tolist() == [0.0, 60.0, 120.0]


def moves(ticks: int) -> Iterator[Decision]:
    """Without a rest, and with nothing that is remembered as an event."""
    yield Instructed(at(0).ros_ns, "go along x")
    for tick in range(ticks):
        is_answer = tick % ASKED_EVERY == ANSWERED_AFTER
        asked = at(tick).ros_ns if tick % ASKED_EVERY == 0 else None
        replies = (reply(chunk(tick - ANSWERED_AFTER), tick),) if is_answer else ()
        yield policy_tick(tick, requested_t_obs_ns=asked, replies=replies)
        yield guard_tick(tick)
        yield RecordedCommand(at(tick).ros_ns, motion(tick))


def test_of_a_longer_replay_no_more_is_remembered(tmp_path: Path) -> None:
    """Its decisions would take 20 MB more. A minute of context is kept anyway."""
    short, long = (_kept_bytes(minutes, tmp_path) for minutes in (1.5, 3.0))
    assert long < short + 300_000


def _kept_bytes(minutes: float, folder: Path) -> int:
    judging = Judge(CONTRACT, folder)
    gc.collect()
    tracemalloc.start()
    for decision in moves(round(minutes * 60 * 80)):
        judging.hear(decision)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert judging.end().metrics["compared_rows"]
    return kept


@given(st.integers(-40, 40), st.integers(2, 12), st.integers(1, 9), st.floats(0.01, 0.2), st.floats(0.01, 0.2))
def test_chunks_are_as_far_apart_as_their_targets_are(
    later: int, first_rows: int, second_rows: int, first_dt_s: float, second_dt_s: float
) -> None:
    first, second = chunk(0), chunk(later, (0.0, 0.02, 0.01), direction=-1.0)
    first = replace(first, rows=np.resize(first.rows, (first_rows, 14)), dt_s=first_dt_s)
    second = replace(second, rows=second.rows[:second_rows], dt_s=second_dt_s)
    targets = [target_at(first, instant) for instant in row_instants(second).tolist()]
    pairs = [(row, target) for row, target in zip(second.rows, targets, strict=True) if target is not None]
    expected = [np.linalg.norm(row[POSITION] - target.pose.position) for row, target in pairs]
    assert chunk_distance(first, second) == (pytest.approx(np.mean(expected)) if expected else None)


def answers(chunks: Iterable[Chunk]) -> Answers:
    rows = Spool()
    empty = Samples(np.zeros(0, np.int64), np.zeros(0))
    names = (LEAD, "position_error", "rotation_error", "velocity_error", "gripper_error", "direction_agreement")
    rows.add(dict.fromkeys(names, empty))
    return Answers(rows, chunks)


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ([1, 2, 3], [1, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [2], [2]),
        ([2], [1, 2, 3], [2]),
        ([5, 5, 6], [5, 5, 6], [5, 6]),
        ([5, 6], [5, 5, 6], [5, 6]),
        ([7, 8, 1, 2], [7, 1, 2], [7, 1, 2]),
        ([7, 1, 7], [7, 8, 1, 7], [7, 1, 7]),
        ([], [1], []),
    ],
)
def test_plans_of_one_observation_are_compared(first: list[int], second: list[int], pairs: list[int]) -> None:
    """A number is an observation; one that is less than the one before was made by a clock that was set back."""
    one, other = ([chunk(tick, (0.0, 0.001 * tick, 0.0)) for tick in ticks] for ticks in (first, second))
    shifted = [replace(plan, rows=plan.rows + _SHIFT) for plan in other]
    side = side_by_side(answers(one), answers(shifted))
    assert side.distances_m.tolist() == pytest.approx([0.01] * len(pairs))


_SHIFT = np.eye(14)[2] * 0.01


def test_of_an_observation_that_was_asked_about_again_the_last_answer_counts() -> None:
    first = perfect(800)
    again = with_chunks(first, offset=(0.0, 0.05, 0.0))
    policy = [
        replace(good, replies=(*bad.replies, *good.replies)) if good.replies else good
        for good, bad in zip(first.policy, again.policy, strict=True)
    ]
    side = sides(first, replace(first, policy=tuple(policy)))
    blocks = side.blocks["position_error"]
    assert blocks.second.sum() == pytest.approx(0.0, abs=1e-9) and side.distances_m.max() == 0.0


def test_a_spool_keeps_what_was_not_measured_apart(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(
        {"one": Samples(np.array([1, 2]), np.array([0.5, np.nan])), "none": Samples(np.zeros(0, int), np.zeros(0))}
    )
    spool.add({"one": Samples(np.array([3]), np.array([1.5]))})
    assert spool.at_ns("one").tolist() == [1, 3] and spool.values("one").tolist() == [0.5, 1.5]
    assert spool.row_instants("one").tolist() == [1, 2, 3]
    assert [block.tolist() for (block,) in spool.blocks("one")] == [[0.5, pytest.approx(np.nan, nan_ok=True)], [1.5]]
    assert len(spool.values("none")) == 0 and spool.names == ("one", "none")
    assert not list(tmp_path.iterdir()), "the file has no name"
    with pytest.raises(KeyError):
        spool.values("other")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="absent"):
        Spool(tmp_path / "absent")
