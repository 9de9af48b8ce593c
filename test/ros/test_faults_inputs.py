"""Cameras and feedback that fail in every way that a relay can arrange: the robot rests in time, and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults import Bound, Table, expect_recovery, expect_stop, rig_of_module
from helpers import wait_for
from rig import Rig

GUARD, POLICY = "guard/status", "policy/status"
STALE = "an input is missing or stale"


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
    ("view", "kind"),
    [
        ("front", "drop"),
        ("wrist", "delay"),
        ("top", "duplicate"),
        ("front", "corrupt"),
        ("wrist", "future"),
        ("top", "torn"),
    ],
)
def test_camera_without_fresh_frames(rig: Rig, table: Table, view: str, kind: str) -> None:
    bound = Bound(rig.contract.cameras[view].max_age_s + rig.contract.timeouts.policy_s)
    fault_ns = rig.spoil(f"camera/{view}/image_raw {kind}")
    says = (POLICY, f"{STALE} (camera/{view}")
    table.add(expect_stop(rig, f"camera {kind} ({view})", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


@pytest.mark.parametrize("view", ["front", "wrist"])
def test_frozen_camera_with_fresh_stamps(rig: Rig, table: Table, view: str) -> None:
    timeouts = rig.contract.timeouts
    fault_ns = rig.spoil(f"camera/{view}/image_raw freeze")
    bound = Bound(timeouts.frozen_camera_s + timeouts.policy_s)
    says = (POLICY, f"a camera is frozen ({view})")
    table.add(expect_stop(rig, f"camera freeze ({view})", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


@pytest.mark.parametrize("kind", ["drop", "delay", "duplicate", "corrupt", "future", "torn"])
def test_feedback_without_fresh_poses(rig: Rig, table: Table, kind: str) -> None:
    fault_ns = rig.spoil(f"ee_pose {kind}")
    bound = Bound(rig.contract.feedback.ee_pose.max_age_s)
    says = (GUARD, "the measured pose is missing or stale")
    table.add(expect_stop(rig, f"ee_pose {kind}", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


def test_joints_without_limits_are_missed_by_the_policy_alone(rig: Rig, table: Table) -> None:
    fault_ns = rig.spoil("joint_states drop")
    bound = Bound(rig.contract.feedback.joint_states.max_age_s + rig.contract.timeouts.policy_s)
    says = (POLICY, f"{STALE} (joint_states")
    table.add(expect_stop(rig, "joint_states drop", fault_ns, bound, says))
    expect_recovery(rig, fault_ns, rig.spoil(""))


def test_frozen_feedback_with_fresh_stamps_latches(rig: Rig, table: Table) -> None:
    fault_ns = rig.spoil("ee_pose freeze")
    bound = Bound(0.0, rig.contract.feedback.ee_pose.max_age_s)  # by stamps
    says = (GUARD, "the measured pose is frozen")
    table.add(expect_stop(rig, "ee_pose freeze", fault_ns, bound, says))
    assert not rig.arm().success, "latched until reset"
    assert rig.reset().success
    wait_for(lambda: "nobody in command: disarmed" in rig.records.newest(GUARD), what="a reset leaves it disarmed")
    rig.get_going()
