"""The policy as a lifecycle node: a configure that fails, silence while inactive, and a deactivate in mid-motion."""

from __future__ import annotations

import time
from typing import Any

import psutil
from diagnostic_msgs.msg import DiagnosticArray
from faults import Bound, expect_recovery, expect_stop
from geometry_msgs.msg import PoseStamped, TwistStamped
from helpers import Probe, own_domain, spawn_node, wait_for
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rig import CONTRACT, PLUGINS, Rig, running_rig
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from vla_ros.ros.inputs import NEWEST

COMMANDS = {
    "policy/target_pose": PoseStamped,
    "policy/target_twist": TwistStamped,
    "policy/gripper": JointState,
    "policy/instruction": Header,
}


def change(probe: Probe, transition: str) -> bool:
    """Whether the policy node did it."""
    wanted = Transition(id=getattr(Transition, f"TRANSITION_{transition}"))
    return bool(probe.call(ChangeState, "policy/change_state", ChangeState.Request(transition=wanted), 60.0).success)


def state(probe: Probe) -> int:
    return int(probe.call(GetState, "policy/get_state", GetState.Request()).current_state.id)


def test_a_configure_that_fails_leaves_nothing_behind() -> None:
    with own_domain() as env, Probe(env) as probe:
        parameters = {"contract": CONTRACT, "policy": "faulty_policy:create", "policy_options": ["load=raise"]}
        with spawn_node("policy_node", {**env, "PYTHONPATH": str(PLUGINS)}, parameters) as policy:
            for _ in range(2):
                assert not change(probe, "CONFIGURE")
                assert state(probe) == State.PRIMARY_STATE_UNCONFIGURED
                assert psutil.Process(policy.pid).children() == [], "no worker is left"
                assert not probe.node.count_publishers("policy/target_pose")
            diagnoses = probe.collect(DiagnosticArray, "/diagnostics")
            wait_for(lambda: diagnoses, what="it lives")
            assert diagnoses[-1].status[0].message == "not configured"
            assert "no weights at all" in policy.output()
            assert policy.stop() == 0


def test_a_deactivate_in_mid_motion_ends_in_a_stop_and_in_silence() -> None:
    with running_rig() as rig:
        heard = {topic: rig.probe.collect(kind, topic, NEWEST) for topic, kind in COMMANDS.items()}
        wait_for(lambda: all(heard.values()), what="an active policy's commands")
        assert change(rig.probe, "DEACTIVATE")
        assert state(rig.probe) == State.PRIMARY_STATE_INACTIVE
        fault_ns = rig.records.last("policy/trace", 10.0)[-1].received_ns
        silent = ("guard/status", "the policy fell silent")
        expect_stop(rig, "policy deactivated", fault_ns, Bound(rig.contract.timeouts.policy_s), silent)
        expect_silence(rig, heard)
        lifted_ns = time.monotonic_ns()
        assert change(rig.probe, "ACTIVATE")
        expect_recovery(rig, fault_ns, lifted_ns)


def expect_silence(rig: Rig, heard: dict[str, list[Any]]) -> None:
    """Cameras, feedback and instruction go on, and it commands nothing."""
    counts = [len(messages) for messages in heard.values()]
    diagnoses = rig.probe.collect(DiagnosticArray, "/diagnostics")
    assert rig.rests(1.5)
    assert [len(messages) for messages in heard.values()] == counts
    assert rig.records.last("policy/trace", 1.0) == rig.records.last("policy/status", 1.0) == []
    assert {s.message for message in diagnoses for s in message.status if s.name == "/policy"} == {"inactive"}
