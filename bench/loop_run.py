"""The loop on synthetic cameras: guard, policy node and worker as processes of their own, the robot in this one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from bench.synthetic_robot import SyntheticRobot
from vla_ros.bringup import BringUp, node_processes
from vla_ros.contract_file import load_contract
from vla_ros.interface import reading
from vla_ros.ros.inputs import NEWEST
from vla_ros.ros.talk import Graph, GraphError
from vla_ros.supervise import running
from vla_ros.types import Json

_UP_TIMEOUT_S = 60.0
_ARM_TIMEOUT_S = 15.0
WARM_UP_S = 1.0
# Traces are looked at afterwards; none may be lost while this process is busy.
_ALL = QoSProfile(depth=1000)


@dataclass(frozen=True)
class LoopRun:
    """What one run of the loop left. All instants are steady time [ns], of one clock, since it is one machine's.

    sent: frames' stamp -> just before the last view was published; commanded: a command's stamp -> when it was here;
    policy, guard: the nodes' traces, oldest first.
    """

    sent: dict[int, int]
    commanded: dict[int, int]
    policy: list[Json]
    guard: list[Json]


def run_loop(contract_path: Path, seconds: float, log_path: Path) -> LoopRun:
    """Start, arm, tell the policy to go, listen for so long, and end. Raises VlaRosError if something does not work."""
    contract = load_contract(contract_path)
    commanded: dict[int, int] = {}
    policy: list[bytes] = []
    guard: list[bytes] = []

    def on_command(msg: Any) -> None:
        commanded[reading.from_stamp(msg.header.stamp)] = time.monotonic_ns()

    processes = node_processes(BringUp(contract=contract_path, policy="hold"))
    with (
        running(processes, log_path) as supervisor,
        Graph("", _UP_TIMEOUT_S, supervisor.require_alive) as graph,
    ):
        robot = SyntheticRobot(graph.node, contract)
        graph.wait_until_up()
        graph.node.create_subscription(PoseStamped, contract.outputs.pose, on_command, NEWEST)
        graph.node.create_subscription(String, "policy/trace", policy.append, _ALL, raw=True)
        graph.node.create_subscription(String, "guard/trace", guard.append, _ALL, raw=True)
        _arm(graph)
        graph.say("keep still")
        if not graph.wait(lambda: commanded, _UP_TIMEOUT_S):
            raise GraphError("the guard commands nothing")
        graph.wait(_never, WARM_UP_S)
        for record in (robot.sent, commanded, policy, guard):
            record.clear()
        graph.wait(_never, seconds)
    return LoopRun(robot.sent, commanded, [_trace(raw) for raw in policy], [_trace(raw) for raw in guard])


def _arm(graph: Graph) -> None:
    deadline = time.monotonic() + _ARM_TIMEOUT_S
    while not (answer := graph.arm(True)).accepted:
        if time.monotonic() > deadline:
            raise GraphError(answer.text)
        graph.wait(_never, 0.1)


def _trace(raw: bytes) -> Json:
    return reading.from_trace(deserialize_message(raw, String))


_never: Callable[[], bool] = lambda: False  # noqa: E731
