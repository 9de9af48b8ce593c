"""The loop on another robot and in another world: one view as jpeg, joints with limits, a simulation put back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from faults import (
    Bound,
    Table,
    expect_recovery,
    expect_reobservation,
    expect_stop,
    rig_of_module,
    speed,
    until_the_last_good_plan_ends,
)
from helpers import wait_for
from rig import CONTRACT, SENTENCE, Rig
from std_srvs.srv import Trigger

from vla_ros.types import NS_PER_S

GUARD, POLICY = "guard/status", "policy/status"
JPEG = "camera/wrist/image_raw/compressed"


def variant() -> dict[str, object]:
    """The simulated robot's contract with a jpeg view and with wide limits for its joints."""
    mapping = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    mapping["cameras"]["wrist"] |= {"transport": "compressed", "encoding": "jpeg", "topic": JPEG}
    names = mapping["feedback"]["joint_states"]["joints"]
    mapping["limits"] |= {"joints": {name: {"min": -7.0, "max": 7.0} for name in names}, "joint_margin": 0.01}
    return dict(mapping)


@pytest.fixture(scope="module")
def module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Table]]:
    contract: Path = tmp_path_factory.mktemp("contract") / "variant.yaml"
    contract.write_text(yaml.safe_dump(variant()), encoding="utf-8")
    yield from rig_of_module(request, contract)


@pytest.fixture
def rig(module: tuple[Rig, Table]) -> Rig:
    module[0].get_going()
    return module[0]


@pytest.fixture
def table(module: tuple[Rig, Table]) -> Table:
    return module[1]


def test_jpeg_cut_in_half_is_no_frame(rig: Rig, table: Table) -> None:
    fault_ns = rig.spoil(f"{JPEG} corrupt")
    bound = Bound(rig.contract.cameras["wrist"].max_age_s + rig.contract.timeouts.policy_s)
    says = (POLICY, "an input is missing or stale (camera/wrist")
    table.add(expect_stop(rig, "jpeg cut in half (wrist)", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


def test_jpeg_that_does_not_decode_ends_with_the_plan_before_it(rig: Rig, table: Table) -> None:
    fault_ns = rig.spoil(f"{JPEG} undecodable")
    says = (POLICY, "an input is missing or stale (the jpeg frame of 128x128 pixels does not decode)")
    bound = until_the_last_good_plan_ends(rig)
    table.add(expect_stop(rig, "jpeg that does not decode (wrist)", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


@pytest.mark.parametrize("fault", ["drop", "delay", "duplicate", "torn"])
def test_joints_with_limits_are_missed_by_the_guard(rig: Rig, table: Table, fault: str) -> None:
    fault_ns = rig.spoil(f"joint_states {fault}")
    bound = Bound(rig.contract.feedback.joint_states.max_age_s)
    says = (GUARD, "a joint is near its limit, or not heard (joint_states")
    table.add(expect_stop(rig, f"joint_states {fault} (limits given)", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


def test_frozen_joints_with_fresh_stamps_latch_where_limits_rely_on_them(rig: Rig, table: Table) -> None:
    fault_ns = rig.spoil("joint_states freeze")
    bound = Bound(0.0, rig.contract.feedback.joint_states.max_age_s)  # by stamps
    says = (GUARD, "the joint states are frozen")
    table.add(expect_stop(rig, "joint_states freeze (limits given)", fault_ns, bound, says))
    rig.spoil("")
    assert rig.reset().success
    wait_for(lambda: "nobody in command: disarmed" in rig.records.newest(GUARD), what="a reset leaves it disarmed")
    rig.get_going()


def test_reset_of_the_simulation_disarms_and_voids_all_that_was_for_the_last_world(rig: Rig) -> None:
    """The last test here: it leaves another task behind."""
    rig.set_parameter("sim", "task", "push-v3")
    reset_ns = time.monotonic_ns()
    answer = rig.probe.call(Trigger, "sim/reset", Trigger.Request())
    assert answer.success and answer.message.startswith("push-v3"), answer
    reset_ros_ns = rig.records.ros_ns(time.monotonic_ns())
    wait_for(lambda: "disarmed" in rig.records.newest(GUARD), what="the guard is disarmed")
    assert rig.rests(0.5), "a disarmed guard commands nothing"
    wait_for(lambda: task(rig, reset_ns) == "push-v3", what="the simulation tells its task")

    wait_for(lambda: rig.records.ros_ns(time.monotonic_ns()) > reset_ros_ns + NS_PER_S // 2, what="time goes on")
    clock = rig.records.since("/clock", reset_ns - NS_PER_S)
    assert all(before.stamp_ns < after.stamp_ns for before, after in pairwise(clock)), "and never back"

    assert rig.arm().success
    wait_for(lambda: rig.records.newest(GUARD).endswith("no instruction yet"), what="the sentence is forgotten")
    assert rig.records.newest(POLICY).endswith("no instruction yet")
    assert rig.rests(0.5), "so are all plans"
    before = expect_reobservation(rig, reset_ros_ns, rig.say(SENTENCE))
    assert all(speed(tick) == 0.0 for tick in before), "from rest"
    rig.await_motion()


def task(rig: Rig, from_ns: int) -> str:
    """As the simulation's diagnostics say."""
    told = [
        values
        for name, values in (entry.value for entry in rig.records.since("/diagnostics", from_ns))
        if name == "/sim"
    ]
    return told[-1]["task"] if told else ""
