"""A replay is measured while it goes on: where it is cut makes no difference, and little of it is remembered."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_builders import ANSWERED_AFTER, ASKED_EVERY, at, chunk, guard_tick, motion, perfect, policy_tick, reply

from vla_ros.control.chunks import target_at
from vla_ros.errors import ReplayError
from vla_ros.replay.decisions import Decision, Instructed, RecordedCommand, Replayed, by_kind
from vla_ros.replay.judging.action_errors import row_instants
from vla_ros.replay.judging.chunk_consistency import chunk_distance
from vla_ros.replay.judging.judgement import Judge, Judgement, judge
from vla_ros.replay.judging.samples import Samples
from vla_ros.replay.judging.spool import Spool
from vla_ros.types import POSITION

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


def told(judged: Judgement) -> dict[str, Any]:
    """All that a judgement says, comparable."""
    near = judged.quantities["near_misses"]  # by cause within a batch
    quantities = {**judged.quantities, "near_misses": Samples(np.sort(near.at_ns), near.values)}
    return {
        "quantities": {name: (one.at_ns.tolist(), one.values.tolist()) for name, one in quantities.items()},
        "metrics": judged.metrics,
        "horizon": judged.horizon,
        "events": judged.events,
        "silences": judged.silences,
        "stale": judged.stale,
        "ticks": judged.ticks,
        "begin_ns": judged.begin_ns,
    }


def whole(decisions: Sequence[Decision]) -> Replayed:
    kinds = by_kind(decisions)
    return replace(
        perfect(1),
        instructions=kinds.instructions,
        policy=kinds.policy,
        guard=kinds.guard,
        recorded=kinds.recorded,
    )


DECISIONS = tuple(eventful(TICKS))
AT_ONCE = told(judge(whole(DECISIONS)))


def test_the_replay_that_is_cut_has_everything_in_it() -> None:
    counts = {name: len(values) for name, (_, values) in AT_ONCE["quantities"].items()}
    assert all(counts.values()), counts
    assert {event.kind for event in AT_ONCE["events"]} == {"latch", "stop", "near miss"}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, len(DECISIONS)), max_size=12))
def test_where_a_replay_is_cut_makes_no_difference(cuts: list[int]) -> None:
    judging = Judge(CONTRACT)
    for start, end in pairwise([0, *sorted(cuts), len(DECISIONS)]):
        judging.hear_all(by_kind(DECISIONS[start:end]))
    assert told(judging.end()) == AT_ONCE


def test_decision_by_decision_is_as_all_at_once() -> None:
    judging = Judge(CONTRACT)
    for decision in eventful(6 * TICKS):
        judging.hear(decision)
    assert told(judging.end()) == told(judge(whole(tuple(eventful(6 * TICKS)))))


def test_chunks_are_not_compared_across_a_clock_that_is_set_back() -> None:
    judging = Judge(CONTRACT)
    for _ in range(2):
        judging.hear_all(by_kind(eventful(TICKS, start=1)))
    once = judge(whole(tuple(eventful(TICKS, start=1)))).quantities
    twice = judging.end().quantities
    for name in ("position_error", "gripper_error", "chunk_error"):
        assert twice[name].values.tolist() == 2 * once[name].values.tolist()


def test_the_memory_of_ten_minutes_is_that_of_two(tmp_path: Path) -> None:
    """Decisions themselves would take 15 MB a minute here."""
    short, long = (_peak_bytes(minutes, tmp_path) for minutes in (2, 10))
    assert long < short + 2_000_000


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


def test_a_spool_keeps_what_was_not_measured_apart(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(
        {"one": Samples(np.array([1, 2]), np.array([0.5, np.nan])), "none": Samples(np.zeros(0, int), np.zeros(0))}
    )
    spool.add({"one": Samples(np.array([3]), np.array([1.5]))})
    assert spool["one"].at_ns.tolist() == [1, 3] and spool["one"].values.tolist() == [0.5, 1.5]
    assert spool.rows("one").at_ns.tolist() == [1, 2, 3]
    assert len(spool["none"].values) == 0 and list(spool) == ["one", "none"]
    assert not list(tmp_path.iterdir()), "the file has no name"
    with pytest.raises(KeyError):
        spool["other"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="absent"):
        Spool(tmp_path / "absent")


def _peak_bytes(minutes: int, folder: Path) -> int:
    judging = Judge(CONTRACT, folder)
    gc.collect()
    tracemalloc.start()
    for decision in eventful(minutes * 60 * 80):
        judging.hear(decision)
    judged = judging.end()
    assert judged.metrics["compared_rows"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
