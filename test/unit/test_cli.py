"""The `vla_ros` command without a running graph: help, wrong arguments, and what it would start."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vla_ros import cli
from vla_ros.bringup import BringUp, Value, node_parameters, node_processes, ros_arguments
from vla_ros.commands import where
from vla_ros.commands.nodes import NODES

(_SUBPARSERS,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
COMMANDS = tuple(name for name in _SUBPARSERS.choices if name not in NODES)
SIM_CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"


def exit_status(*words: str) -> int:
    try:
        return cli.main(words)
    except SystemExit as end:  # argparse's own
        return int(end.code or 0)


def test_help_names_every_command_and_needs_no_ros() -> None:
    loaded = "print({'rclpy', 'numpy'} & set(sys.modules))"
    code = f"import sys; from vla_ros.cli import main\ntry: main(['--help'])\nfinally: {loaded}"
    words = [sys.executable, "-c", code]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
    for name in (*COMMANDS, *NODES):
        assert re.search(rf"^ .*\b{name}\b", printed, re.MULTILINE), name
    assert printed.splitlines()[-1] == "set()"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(name, "--help") == 0
    assert f"usage: vla_ros {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fly",), "invalid choice: 'fly'"),
        (("arm", "--domain-id", "233"), "'233' is not a ROS domain: a whole number from 0 to 232"),
        (("arm", "--namespace", "7 arms"), "'7 arms' is not a namespace such as arm1"),
        (("arm", "--timeout", "soon"), "'soon' is not a time"),
        (("check", "sawyer_sim", "--duration", "nan"), "'nan' is not a time: seconds from 0 to 86400"),
        (("check", "sawyer_sim", "--duration", "-1"), "'-1' is not a time"),
        (("up", "no_such_robot"), "there is no config file 'no_such_robot'; choose one of"),
        (("up", "./no_such_robot.yaml"), "no_such_robot.yaml"),
        (("up", "sawyer_sim", "--task", "push-v3"), "are for the simulated robot: add --sim"),
        (("up", "sawyer_sim", "--realtime-factor", "0.5"), "are for the simulated robot: add --sim"),
        (("up", "sawyer_sim", "--no-autostart", "--say", "go"), "--say is for a policy that is active"),
        (("up", "sawyer_sim", "--option", "speed"), "policy option 'speed' is not of the form key=value"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(*words) == 2
    printed = capsys.readouterr().err
    assert said in printed.splitlines()[-1]
    assert "Traceback" not in printed


def test_check_finds_a_contract_by_its_name_in_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("check", "sawyer_sim") == 0
    assert "sawyer_sim: valid" in capsys.readouterr().out


def test_policies_lists_the_built_in_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("policies") == 0
    assert {"hold", "oracle"} <= set(capsys.readouterr().out.split())


def test_a_simulation_is_a_graph_of_its_own_and_a_robot_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "VLA_ROS_SIM_DOMAIN_ID"):
        monkeypatch.delenv(name, raising=False)

    def domain(*words: str) -> tuple[str | None, str | None]:
        environ = where.environment(cli.parser().parse_args(["disarm", *words]))
        return environ.get("ROS_DOMAIN_ID"), environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE")

    assert domain() == (None, None)
    assert domain("--domain-id", "5") == ("5", None)
    assert domain("--sim") == ("77", "LOCALHOST")
    assert domain("--sim", "--domain-id", "5") == ("5", "LOCALHOST")


def test_the_options_that_lead_to_a_graph_lead_there_again() -> None:
    args = cli.parser().parse_args(["disarm", "--namespace", "arm1", "--sim", "--domain-id", "5"])
    again = cli.parser().parse_args(["status", *where.options(args)])
    assert (again.namespace, again.sim, again.domain_id) == ("arm1", True, 5)


def test_parameters_keep_their_type_through_ros_arguments() -> None:
    parameters: dict[str, Value] = {
        "text": "on",
        "number": "12",
        "flag": True,
        "path": "/a b/c: d",
        "list": ("a=1", "b=true"),
    }
    words = ros_arguments(parameters, "/arm1/")
    assert words[:3] == ("--ros-args", "-r", "__ns:=/arm1")
    pairs = [word.split(":=", 1) for word in words[4::2]]
    assert {name: yaml.safe_load(value) for name, value in pairs} == {**parameters, "list": ["a=1", "b=true"]}


def test_up_starts_the_simulated_robot_only_when_asked() -> None:
    assert list(node_parameters(BringUp(SIM_CONTRACT))) == ["guard", "policy"]
    everything = BringUp(
        SIM_CONTRACT,
        sim=True,
        task="push-v3",
        realtime_factor=0.5,
        teleop="keyboard",
        record="runs/bag",
        use_sim_time=True,
    )
    nodes = node_parameters(everything)
    assert list(nodes) == ["sim", "guard", "policy", "teleop", "record"]
    assert nodes["sim"] == {"contract": str(SIM_CONTRACT), "task": "push-v3", "realtime_factor": 0.5}
    assert [process.name for process in node_processes(everything) if process.owns_terminal] == ["teleop"]


def test_the_guard_is_told_of_shadow_and_the_policy_of_its_options() -> None:
    nodes = node_parameters(BringUp(SIM_CONTRACT, policy="oracle", policy_options=("a=1",), shadow=True))
    assert nodes["guard"]["shadow"] is True
    assert (nodes["policy"]["policy"], nodes["policy"]["policy_options"]) == ("oracle", ("a=1",))
    assert nodes["policy"]["autostart"] is True
    assert node_parameters(BringUp(SIM_CONTRACT, autostart=False))["policy"]["autostart"] is False
