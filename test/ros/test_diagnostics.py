"""What guard, policy and teleop say of themselves on /diagnostics."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from helpers import Probe, own_domain, spawn_node, wait_for
from rig import CONTRACT

from vla_ros.interface import reading
from vla_ros.interface.reading import Status

OK, ERROR = 0, 2
NODES = ("/guard", "/policy", "/teleop")


def test_every_node_tells_its_state_once_a_second() -> None:
    contract = {"contract": CONTRACT}
    heard: dict[str, list[Status]] = {name: [] for name in NODES}

    def store(msg: Any) -> None:
        for status in reading.from_diagnostics(msg):
            heard[status.name].append(status)

    with (
        own_domain() as env,
        Probe(env) as probe,
        spawn_node("guard_node", env, contract),
        spawn_node("policy_node", env, {**contract, "autostart": True}),
        spawn_node("teleop_node", env, {**contract, "device": "joy"}),
    ):
        probe.node.create_subscription(DiagnosticArray, "/diagnostics", store, 10)

        def newest(name: str) -> tuple[int, str]:
            return (heard[name][-1].level, heard[name][-1].message) if heard[name] else (-1, "")

        wait_for(lambda: newest("/guard") == (OK, "nobody in command: disarmed"), what="the guard's state")
        wait_for(lambda: newest("/policy") == (OK, "silent: no instruction yet"), 60.0, "the policy's state")
        wait_for(lambda: newest("/teleop") == (OK, "deadman released"), what="teleop's state")
        guard = "disarmed: nobody in command: disarmed"
        wait_for(lambda: heard["/teleop"][-1].values == {"guard": guard}, what="what teleop knows of the guard")
        assert heard["/guard"][-1].values["mode"] == "disarmed"
        assert heard["/guard"][-1].values["age of ee_pose"] == "never heard"
        assert heard["/policy"][-1].values["age of ee_pose"] == "never heard"
        counts = {name: len(heard[name]) for name in NODES}
        wait_for(lambda: all(len(heard[name]) >= counts[name] + 2 for name in NODES), 10.0, "two more of each")
