"""Killed and stopped processes: the robot comes to rest in time, says why, and comes back as it should."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scripted_teleop
from faults import (
    Bound,
    Outcome,
    Table,
    expect_driver_stop,
    expect_recovery,
    expect_reobservation,
    expect_standstill,
    expect_stop,
    rig_of_module,
    speed,
    stop_ticks,
)
from helpers import wait_for
from rig import CONTINUE, KILL, STOP, Rig, is_alive

from vla_ros.policy.hold import MIN_HORIZON_S
from vla_ros.types import NS_PER_S

GUARD, POLICY = "guard/status", "policy/status"
SILENT = (GUARD, "the policy fell silent")


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


def test_stopped_worker(rig: Rig, table: Table) -> None:
    policy_s = rig.contract.timeouts.policy_s
    fault_ns = rig.signal("worker", STOP)
    table.add(expect_stop(rig, "worker SIGSTOP", fault_ns, Bound(policy_s, MIN_HORIZON_S), SILENT))
    wait_for(lambda: "the worker does not answer" in rig.records.newest(POLICY), what="the policy node says so")
    lifted_ns = rig.signal("worker", CONTINUE)
    expect_recovery(rig, fault_ns, lifted_ns)


def test_killed_worker_stays_dead_until_reconfigured(rig: Rig, table: Table) -> None:
    fault_ns = rig.signal("worker", KILL)
    bound = Bound(rig.contract.timeouts.policy_s)
    table.add(expect_stop(rig, "worker kill -9", fault_ns, bound, (POLICY, "the worker died")))
    assert "SIGKILL" in rig.records.newest(POLICY)
    rig.say("another sentence")
    assert rig.rests(0.5)
    rig.reconfigure_policy()
    assert rig.rests(0.5), "a policy that is loaded anew waits to be told"
    again_ns = rig.say("go round and round")
    expect_recovery(rig, fault_ns, again_ns)


def test_stopped_policy_node(rig: Rig, table: Table) -> None:
    fault_ns = rig.signal("policy", STOP)
    table.add(expect_stop(rig, "policy node SIGSTOP", fault_ns, Bound(rig.contract.timeouts.policy_s), SILENT))
    lifted_ns = rig.signal("policy", CONTINUE)
    expect_recovery(rig, fault_ns, lifted_ns)


def test_killed_policy_node(rig: Rig, table: Table) -> None:
    worker = rig.pid("worker")
    fault_ns = rig.signal("policy", KILL)
    table.add(expect_stop(rig, "policy node kill -9", fault_ns, Bound(rig.contract.timeouts.policy_s), SILENT))
    wait_for(lambda: not is_alive(worker), 5.0, "the worker ends with its node")
    rig.start("policy")
    again_ns = time.monotonic_ns()
    wait_for(lambda: rig.records.words(POLICY, again_ns), 60.0, "the new policy node is active")
    assert rig.rests(0.5), "a policy that is loaded anew waits to be told"
    again_ns = rig.say("go round and round")
    expect_recovery(rig, fault_ns, again_ns)


def driver_says(rig: Rig, words: str, from_ns: int) -> bool:
    diagnoses = [entry.value for entry in rig.records.since("/diagnostics", from_ns)]
    return any(name == "/sim" and words in values["driver"] for name, values in diagnoses)


def test_stopped_guard(rig: Rig, table: Table) -> None:
    fault_ns = rig.signal("guard", STOP)
    try:
        said = "driver holding: commands have ceased"
        bound = Bound(rig.contract.timeouts.driver_s)
        table.add(expect_driver_stop(rig, "guard SIGSTOP", fault_ns, bound, said))
        wait_for(lambda: driver_says(rig, "commands have ceased", fault_ns), what=said)
        stopped_ros_ns = rig.records.ros_ns(rig.records.still_since(fault_ns))
    finally:
        lifted_ns = rig.signal("guard", CONTINUE)
    lifted_ros_ns = rig.records.ros_ns(lifted_ns)
    present = wait_for(lambda: ticks_since(rig, lifted_ns, lifted_ros_ns), what="the guard lives in the present")
    # Its socket kept the oldest of what came meanwhile, /clock included: beside that, a set from then looks fresh.
    past = [tick for tick in rig.records.traces("guard/trace", lifted_ns) if tick["ros_ns"] < lifted_ros_ns]
    assert all(speed(tick) == 0.0 for tick in past), "nothing is obeyed that was said in its sleep"
    before = expect_reobservation(rig, stopped_ros_ns, present[0]["steady_ns"])
    assert all(speed(tick) == 0.0 for tick in before), "from rest"
    rig.await_motion()


def ticks_since(rig: Rig, from_ns: int, ros_ns: int) -> list[dict[str, Any]]:
    """The guard's ticks after a steady instant whose ROS time has come that far."""
    return [tick for tick in rig.records.traces("guard/trace", from_ns) if tick["ros_ns"] >= ros_ns]


def test_killed_guard(rig: Rig, table: Table) -> None:
    fault_ns = rig.signal("guard", KILL)
    bound = Bound(rig.contract.timeouts.driver_s)
    said = "driver holding: commands have ceased"
    table.add(expect_driver_stop(rig, "guard kill -9", fault_ns, bound, said))
    wait_for(lambda: driver_says(rig, "commands have ceased", fault_ns), what=said)
    started_ns = time.monotonic_ns()
    rig.start("guard")
    wait_for(lambda: rig.records.words(GUARD, started_ns), what="the new guard speaks")
    assert "disarmed" in rig.records.newest(GUARD)
    rig.say("go round and round")
    assert rig.rests(0.5), "a new guard waits to be armed"
    rig.get_going()


def test_killed_teleop(rig: Rig, table: Table) -> None:
    fault_ns = silence_teleop(rig, table, "kill -9", KILL)
    rig.start("teleop", "release")
    lifted_ns = time.monotonic_ns()
    expect_recovery(rig, fault_ns, lifted_ns)
    rig.stop("teleop")


def test_stopped_teleop_that_continues_goes_on_from_rest(rig: Rig, table: Table) -> None:
    silence_teleop(rig, table, "SIGSTOP", STOP)
    lifted_ns = rig.signal("teleop", CONTINUE)
    wait_for(lambda: is_pushed_by_teleop(rig), what="the human moves the robot again")
    ticks = rig.records.traces("guard/trace", lifted_ns)
    first = next(index for index, tick in enumerate(ticks) if tick["source"] == "teleop")
    assert all(tick["source"] == "nobody" and speed(tick) == 0.0 for tick in ticks[:first]), "nobody in between"
    moving = next(tick for tick in ticks[first:] if speed(tick) > 0.0)
    assert speed(moving) <= rig.contract.limits.max_linear_acceleration_m_s2 * moving["dt_s"] + 1e-9, "from rest"
    rig.stop("teleop")


def silence_teleop(rig: Rig, table: Table, name: str, number: int) -> int:
    """A human moves the robot, and falls silent in mid-motion: it stops, and stays where it is."""
    rig.start("teleop")
    wait_for(lambda: is_pushed_by_teleop(rig), what="the human moves the robot")
    fault_ns = rig.signal("teleop", number)
    bound = Bound(rig.contract.timeouts.deadman_s)
    says = (GUARD, "teleop fell silent while its deadman was held")
    table.add(expect_stop(rig, f"teleop {name} (deadman held)", fault_ns, bound, says, scripted_teleop.SPEED_M_S))
    assert rig.rests(0.5), "the policy does not take over from a human who fell silent"
    return fault_ns


def is_pushed_by_teleop(rig: Rig) -> bool:
    """At the speed that the human wants, and no longer at the policy's."""
    ticks = rig.records.traces("guard/trace", time.monotonic_ns() - NS_PER_S // 10)
    wanted = scripted_teleop.SPEED_M_S
    return bool(ticks) and ticks[-1]["source"] == "teleop" and abs(speed(ticks[-1]) - wanted) < 0.01 * wanted


def test_stopped_simulation_stops_the_clock(rig: Rig, table: Table) -> None:
    """Its hand stops and goes on with it, so the command alone is judged while it is stopped."""
    fault_ns = rig.signal("sim", STOP)
    try:
        words = "ROS time stands still"
        wait_for(lambda: any(words in text for text in rig.records.words(GUARD, fault_ns)), 1.0, words)
        bound_s = rig.contract.feedback.ee_pose.max_age_s
        zero_ns = rig.records.zero_since(fault_ns)
        assert zero_ns is not None, "at rest before anybody says so"
        zero_s = (zero_ns - fault_ns) / NS_PER_S
        expect_standstill(rig, bound_s, zero_s)
        assert rig.rests(0.5)
        stopped_ros_ns = int(stop_ticks(rig, fault_ns)[-1]["ros_ns"])
    finally:
        lifted_ns = rig.signal("sim", CONTINUE)
    before = expect_reobservation(rig, stopped_ros_ns, lifted_ns)
    assert all(speed(tick) == 0.0 for tick in before), "from rest"
    resting = np.array(before[0]["command"]["position"])
    arrived_ns = before[-1]["ros_ns"]
    told = [entry.value for entry in rig.records.since("sim/commanded_pose", lifted_ns) if entry.stamp_ns <= arrived_ns]
    # The driver may still go where the guard had come to rest while nobody simulated the robot, and no further.
    assert all(np.linalg.norm(place - resting) <= np.linalg.norm(told[0] - resting) + 1e-6 for place in told)
    table.add(Outcome("sim SIGSTOP", bound_s, zero_s, 0.0, 0.0, words))
    rig.await_motion()
