"""Every launch file is read, explains its arguments, and starts what `vla_ros up` starts, with the same arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed (it comes with ROS 2)")

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchService
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.utilities import perform_substitutions
from launch_ros.actions import Node

from vla_ros.bringup import BringUp, node_parameters

try:
    SHARE = Path(get_package_share_directory("vla_ros"))
except PackageNotFoundError:
    pytest.skip(
        "vla_ros is not built and sourced: colcon build, then source install/setup.bash", allow_module_level=True
    )

FILES = sorted((SHARE / "launch").glob("*.launch.py"))
CONTRACT = SHARE / "config" / "sawyer_sim.yaml"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path) -> None:
    context = LaunchService(argv=[]).context
    arguments = PythonLaunchDescriptionSource(str(path)).get_launch_description(context).get_launch_arguments()
    assert arguments
    assert [argument.name for argument in arguments if len(argument.description) < 10] == []


class _Loader(yaml.SafeLoader):
    """launch writes a list as a Python tuple, a tag that ROS ignores."""


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_sequence)


def started(file: str, arguments: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Node name -> parameters of the nodes that a launch file would start."""
    context = LaunchService(argv=[]).context
    context.launch_configurations.update(arguments)
    nodes: dict[str, dict[str, Any]] = {}
    _visit(PythonLaunchDescriptionSource(str(SHARE / "launch" / file)).get_launch_description(context), context, nodes)
    return nodes


def _visit(entity: Any, context: LaunchContext, nodes: dict[str, dict[str, Any]]) -> None:
    if isinstance(entity, Node):
        entity._perform_substitutions(context)
        executable = perform_substitutions(context, [*entity.cmd[0]])
        nodes[Path(executable).name.removesuffix("_node")] = _parameters(entity)
        return
    for child in entity.visit(context) or ():
        _visit(child, context, nodes)


def _parameters(node: Node) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, is_file in node._Node__expanded_parameter_arguments or ():
        assert is_file
        (section,) = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader).values()  # a SafeLoader
        values.update(section["ros__parameters"])
    return values


def test_the_robots_launch_file_and_up_start_the_same() -> None:
    arguments = {"contract": str(CONTRACT), "policy": "oracle", "policy_options": "a=1 b=2", "shadow": "true"}
    launched = started("robot.launch.py", arguments)
    plan = BringUp(CONTRACT, policy="oracle", policy_options=("a=1", "b=2"), shadow=True)
    given = {name: {**values} for name, values in node_parameters(plan).items()}
    given["policy"]["policy_options"] = ["a=1", "b=2"]
    # launch passes the empty text where `up` passes nothing; the node's default is the empty text.
    assert launched["policy"].pop("policy_python") == ""
    assert launched == given
