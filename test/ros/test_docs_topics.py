"""docs/topics.md lists the topics and parameters that the nodes really have."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from vla_ros.contract_file import load_contract
from vla_ros.ros.inputs import InputSpec, guard_inputs, policy_inputs
from vla_ros.ros.parameters import Parameter
from vla_ros.types import Needs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "topics.md").read_text(encoding="utf-8")
CONTRACT = load_contract(ROOT / "config" / "sawyer_sim.yaml")


def parameters_listed(node: str) -> dict[str, str]:
    """Name -> default, as the page says."""
    section = PAGE.partition(f"### {node}\n")[2].partition("###")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| `?([^|`]+?)`? \|", section, flags=re.MULTILINE))


def default_of(parameter: Parameter) -> str:
    """As a person writes it."""
    if parameter.required:
        return "required"
    if isinstance(parameter.default, tuple):
        return f"[{', '.join(parameter.default)}]"
    if isinstance(parameter.default, bool):
        return str(parameter.default).lower()
    return str(parameter.default) if parameter.default != "" else "''"


@pytest.mark.parametrize("node", ["guard_node", "policy_node", "teleop_node", "sim_node", "record_node", "play_node"])
def test_parameters_and_defaults(node: str) -> None:
    table: tuple[Parameter, ...] = importlib.import_module(f"vla_ros.ros.{node}").PARAMETERS
    assert parameters_listed(node) == {parameter.name: default_of(parameter) for parameter in table}


@pytest.mark.parametrize(
    "spec",
    [*guard_inputs(CONTRACT), *policy_inputs(CONTRACT, Needs(views=("front",), privileged=True))],
    ids=lambda spec: spec.topic,
)
def test_inputs_are_listed_with_their_type(spec: InputSpec) -> None:
    topic = re.sub(r"camera/\w+/", "camera/<view>/", spec.topic)
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{topic}`" in line.split("|")[1]]
    assert len(rows) == 1
    assert spec.message_type.__name__ in rows[0]
