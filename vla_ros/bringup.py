"""Which processes make up a graph, and with which arguments: what launch/*.launch.py say, for `vla_ros up`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_ros.supervise import Process

Value = str | bool | float | Sequence[str]


@dataclass(frozen=True)
class BringUp:
    """What the user asked for. Empty texts and None: not asked for."""

    contract: Path
    policy: str = "hold"
    policy_options: tuple[str, ...] = ()
    policy_python: str = ""
    autostart: bool = True
    namespace: str = ""
    sim: bool = False
    task: str = ""
    variation: str = ""
    realtime_factor: float | None = None
    teleop: str = ""
    record: str = ""
    shadow: bool = False
    use_sim_time: bool = False


def node_parameters(plan: BringUp) -> dict[str, dict[str, Value]]:
    """Node name -> its ROS parameters, in the order of their start."""
    contract: dict[str, Value] = {"contract": str(plan.contract)}
    on_clock: dict[str, Value] = {**contract, "use_sim_time": plan.use_sim_time}
    nodes: dict[str, dict[str, Value]] = {}
    if plan.sim:
        given = _given(task=plan.task, variation=plan.variation, realtime_factor=plan.realtime_factor)
        nodes["sim"] = {**contract, **given}
    nodes["guard"] = {**on_clock, "shadow": plan.shadow}
    nodes["policy"] = {
        **on_clock,
        "policy": plan.policy,
        "autostart": plan.autostart,
        **_given(policy_options=plan.policy_options, policy_python=plan.policy_python),
    }
    if plan.teleop:
        nodes["teleop"] = {**on_clock, "device": plan.teleop}
    if plan.record:
        nodes["record"] = {"output": plan.record, "use_sim_time": plan.use_sim_time}
    return nodes


def node_processes(plan: BringUp) -> tuple[Process, ...]:
    """The processes to start, in this order."""
    return tuple(
        Process(name, (*_program(name), *ros_arguments(parameters, plan.namespace)), _reads_keyboard(name, plan))
        for name, parameters in node_parameters(plan).items()
    )


def ros_arguments(parameters: Mapping[str, Value], namespace: str) -> tuple[str, ...]:
    """--ros-args ...: JSON is YAML, and keeps a text that looks like a number or a truth a text."""
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    where = ("-r", f"__ns:=/{namespace.strip('/')}") if namespace else ()
    return ("--ros-args", *where, *words)


def _program(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "vla_ros.cli", name)


def _reads_keyboard(name: str, plan: BringUp) -> bool:
    return name == "teleop" and plan.teleop == "keyboard"


def _given(**values: Value | None) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None and value not in ("", ())}
