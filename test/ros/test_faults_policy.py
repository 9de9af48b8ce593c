"""Policies that answer nonsense, nothing, too late or never: the robot rests in time, and says whose fault it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults import (
    Bound,
    Table,
    expect_recovery,
    expect_stop,
    frame_s,
    rig_of_module,
    until_the_last_good_plan_ends,
)
from helpers import wait_for
from rig import SENTENCE, Rig

from vla_ros.types import NS_PER_S

GUARD, POLICY, POLICY_TRACE = "guard/status", "policy/status", "policy/trace"
REFUSED, FAILED = "the policy's chunk was refused", "the policy failed"


@pytest.fixture(scope="module")
def module(request: pytest.FixtureRequest) -> Iterator[tuple[Rig, Table]]:
    yield from rig_of_module(request)


@pytest.fixture
def rig(module: tuple[Rig, Table]) -> Rig:
    module[0].get_going()
    return module[0]


@pytest.fixture
def table(module: tuple[Rig, Table]) -> Table:
    return module[1]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", f"{REFUSED} (row 0 of the chunk is not finite"),
        ("past", f"{REFUSED} (the chunk is for another instant"),
        ("late", f"{REFUSED} (all of the chunk's rows lie in the past"),
        ("empty", f"{REFUSED} (the chunk's rows have shape (0, 14)"),
        ("narrow", f"{REFUSED} (the chunk's rows have shape"),
        ("nothing", FAILED),
        ("raise", "raised RuntimeError: the policy lost its mind"),
    ],
)
def test_unusable_answer(rig: Rig, table: Table, fault: str, words: str) -> None:
    fault_ns = rig.mislead(fault)
    table.add(expect_stop(rig, f"policy: {fault}", fault_ns, until_the_last_good_plan_ends(rig), (POLICY, words)))
    expect_recovery(rig, fault_ns, rig.mislead(""))


def test_jump_of_one_metre_latches(rig: Rig, table: Table) -> None:
    fault_ns = rig.mislead("jump")
    # The next frame's answer is the first with the jump; it has a frame period to be asked for and one to arrive.
    bound = Bound(0.0, 2.0 * frame_s(rig))
    table.add(expect_stop(rig, "policy: 1 m jump", fault_ns, bound, (GUARD, "latched until reset (target ")))
    rig.mislead("")
    assert "latched" in rig.arm().message, "arming does not release a latch"
    assert rig.reset().success
    wait_for(lambda: "nobody in command: disarmed" in rig.records.newest(GUARD), what="a reset leaves it disarmed")
    rig.get_going()


def test_hanging_policy(rig: Rig, table: Table) -> None:
    fault_ns = rig.mislead("hang")
    says = (POLICY, "the worker does not answer")
    table.add(expect_stop(rig, "policy: hangs", fault_ns, until_the_last_good_plan_ends(rig), says))
    expect_recovery(rig, fault_ns, rig.mislead(""))


def test_told_to_stop_while_the_policy_hangs(rig: Rig, table: Table) -> None:
    hung_ns = rig.mislead("hang")
    asked = wait_for(lambda: _request_in_flight(rig, hung_ns), 5.0, "a request that hangs")
    fault_ns = rig.say("  Stop ")
    assert rig.records.newest("policy/status").startswith("commanding"), "there is something left to stop"
    says = (GUARD, "told to stop")
    one_tick = Bound(1.0 / rig.contract.rates.guard_hz)
    table.add(expect_stop(rig, '"stop" while the policy hangs', fault_ns, one_tick, says))
    rig.mislead("")
    wait_for(lambda: _answered(rig, asked, hung_ns), 10.0, "the late answer")
    assert rig.records.zero_since(fault_ns) is not None, "a late answer does not undo a stop"
    again_ns = rig.say(SENTENCE)
    expect_recovery(rig, fault_ns, again_ns)


def _request_in_flight(rig: Rig, hung_ns: int) -> int | None:
    """The request that has been in flight for the last 50 ms or more and was made after the policy began to hang."""
    ticks = rig.records.traces(POLICY_TRACE, hung_ns)
    sent = [tick["request"]["id"] for tick in ticks if tick["request"]]
    in_flight = ticks[-1]["in_flight"] if ticks else None
    began = [tick["steady_ns"] for tick in ticks if tick["in_flight"] == in_flight]
    hangs = in_flight in sent and ticks[-1]["steady_ns"] - began[0] > 0.05 * NS_PER_S
    return int(in_flight) if hangs else None


def _answered(rig: Rig, request_id: int, from_ns: int) -> bool:
    ticks = rig.records.traces(POLICY_TRACE, from_ns)
    return any(reply.get("id") == request_id for tick in ticks for reply in tick["replies"])
