"""Killed and stopped processes: the robot comes to rest in time, says why, and comes back as it should."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from faults import (
    ALLOWANCE_S,
    Bound,
    Outcome,
    Table,
    expect_driver_stop,
    expect_recovery,
    expect_reobservation,
    expect_stop,
    rig_of_module,
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


def rests(rig: Rig, for_s: float) -> bool:
    """Whether nothing is commanded for a while from now on: a wait that ends early if something is."""
    from_ns = time.monotonic_ns()
    end_ns = from_ns + round(for_s * NS_PER_S)

    def moved() -> bool:
        return any(entry.value != 0.0 for entry in rig.records.since("target_twist", from_ns))

    wait_for(lambda: moved() or time.monotonic_ns() > end_ns, for_s + 5.0)
    return not moved()


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
    assert rests(rig, 0.5)
    rig.reconfigure_policy()
    assert rests(rig, 0.5), "a policy that is loaded anew waits to be told"
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
    assert rests(rig, 0.5), "a policy that is loaded anew waits to be told"
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
    expect_reobservation(rig, stopped_ros_ns, lifted_ns)
    rig.await_motion()


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
    assert rests(rig, 0.5), "a new guard waits to be armed"
    rig.get_going()


@pytest.mark.parametrize(("name", "number"), [("kill -9", KILL), ("SIGSTOP", STOP)])
def test_silent_teleop(rig: Rig, table: Table, name: str, number: int) -> None:
    rig.start("teleop")
    wait_for(lambda: _last_source(rig) == "teleop", what="the human in command")
    wait_for(lambda: rig.records.newest("target_twist") > 0.05, what="the human moves the robot")
    fault_ns = rig.signal("teleop", number)
    says = (GUARD, "teleop fell silent while its deadman was held")
    table.add(expect_stop(rig, f"teleop {name} (deadman held)", fault_ns, Bound(rig.contract.timeouts.deadman_s), says))
    assert rests(rig, 0.5), "the policy does not take over from a human who fell silent"
    rig.stop("teleop")
    rig.start("teleop", "release")
    lifted_ns = time.monotonic_ns()
    expect_recovery(rig, fault_ns, lifted_ns)
    rig.stop("teleop")


def _last_source(rig: Rig) -> str:
    ticks = list(rig.records.traces("guard/trace", time.monotonic_ns() - NS_PER_S // 4))
    return str(ticks[-1]["source"]) if ticks else ""


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
        assert zero_s <= bound_s + rig.contract.stop_time_s + ALLOWANCE_S
        assert rests(rig, 0.5)
        stopped_ros_ns = int(stop_ticks(rig, fault_ns)[-1]["ros_ns"])
    finally:
        lifted_ns = rig.signal("sim", CONTINUE)
    before = expect_reobservation(rig, stopped_ros_ns, lifted_ns)
    assert not any(tick["command"] and any(tick["command"]["linear"]) for tick in before), "from rest"
    resting = np.array(before[0]["command"]["position"])
    arrived_ns = before[-1]["ros_ns"]
    told = [entry.value for entry in rig.records.since("sim/commanded_pose", lifted_ns) if entry.stamp_ns <= arrived_ns]
    # The driver may still go where the guard had come to rest while nobody simulated the robot, and no further.
    assert all(np.linalg.norm(place - resting) <= np.linalg.norm(told[0] - resting) + 1e-6 for place in told)
    table.add(Outcome("sim SIGSTOP", bound_s, zero_s, 0.0, 0.0, words))
    rig.await_motion()
