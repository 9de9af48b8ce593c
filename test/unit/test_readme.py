"""What README and docs/ promise is there: files, commands, keys, words of the status, and the policy to copy."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros import cli
from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control import guard, guard_rules
from vla_ros.control.chunks import target_at, validate_chunk
from vla_ros.control.intents import Reason
from vla_ros.control.policy_state import PolicyReason
from vla_ros.policy.registry import create_policy
from vla_ros.types import NS_PER_S, Observation, Pose

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Quoted in the table, but not as words of the status.
NOT_A_STATUS = {"stop", "refused ..."}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert targets and not missing


def below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The commands of a parser, by name."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: command for group in groups for name, command in group.choices.items()}


def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """Every command of `vla_ros`."""
    return below(cli.parser())


def commands() -> dict[str, set[str]]:
    """Every command of `vla_ros`, with its options and those of its actions; nodes take ROS's as well."""
    return {
        name: {
            option
            for one in (parser, *below(parser).values())
            for action in one._actions
            for option in action.option_strings
        }
        for name, parser in parsers().items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    known = commands()
    nodes = {"--ros-args", "--sim", "--domain-id", "--namespace", "--help"}
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"(?:^    |`|vla_ros )vla_ros ([a-z]+)\b([^`\n]*)", text, flags=re.MULTILINE)
    assert lines
    for name, rest in lines:
        assert name in known, f"vla_ros {name}"
        options = set(re.findall(r"--[a-z-]+", rest))
        assert options <= known[name] | (nodes if not known[name] else set()), f"vla_ros {name} {rest}"


def test_every_command_is_listed() -> None:
    assert {name for name in commands() if f"`{name}`" not in README} == set()


def safety_rows() -> list[list[str]]:
    table = README.partition("<!-- table: safety -->")[2].partition("<!-- /table: safety -->")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.strip().splitlines()[2:]]


def test_words_of_the_safety_table_are_those_of_the_status() -> None:
    spoken = {reason.value for reason in (*Reason, *PolicyReason)}
    sources = inspect.getsource(guard_rules) + inspect.getsource(guard)
    rows = safety_rows()
    assert len(rows) > 20
    for row in rows:
        quoted = set(re.findall(r'"([^"]+)"', " ".join(row))) - NOT_A_STATUS
        unknown = {words for words in quoted if words not in spoken and words not in sources}
        assert not unknown, row


@pytest.mark.parametrize("reason", [r for r in (*Reason, *PolicyReason) if r.is_fault], ids=lambda r: r.name)
def test_every_fault_is_in_the_safety_table(reason: Reason | PolicyReason) -> None:
    assert any(f'"{reason.value}"' in cell for row in safety_rows() for cell in row)


def test_times_of_the_safety_table_are_keys_of_the_contract() -> None:
    keys = {path.rpartition(".")[2] for path in contract_keys(Contract)}
    for row in safety_rows():
        named = {name.rpartition(".")[2] for name in re.findall(r"`([a-z_.]+_s)`", " ".join(row))}
        assert named <= keys, row


def contract_keys(kind: Any, path: str = "") -> Iterator[str]:
    """Every key of the contract, such as limits.workspace_m; of mappings, the keys of an entry."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"{path}{field.name}"
        inner = [part for part in _parts(hints[field.name]) if dataclasses.is_dataclass(part)]
        if inner:
            yield from contract_keys(inner[0], f"{name}.")
        else:
            yield name


def _parts(hint: Any) -> list[Any]:
    return [hint, *(part for argument in typing.get_args(hint) for part in _parts(argument))]


def test_every_key_of_the_contract_is_explained() -> None:
    page = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    names = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", page))))
    assert {key for key in contract_keys(Contract) if key.rpartition(".")[2] not in names} == set()


def tables(page: Path) -> Mapping[str, set[str]]:
    """Heading -> first cells of the tables below it."""
    sections = re.split(r"^### ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {section.split()[0]: set(re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)) for section in sections}


def launch_arguments(path: Path) -> set[str]:
    """The arguments that a launch file declares, read without `launch`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return {
        str(node.args[0].value)
        for node in calls
        if isinstance(node.func, ast.Name)
        and node.func.id == "DeclareLaunchArgument"
        and isinstance(node.args[0], ast.Constant)
    }


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda path: path.name)
def test_launch_arguments_are_listed(path: Path) -> None:
    declared = launch_arguments(path)
    assert declared and tables(ROOT / "docs" / "topics.md")[path.name] == declared


def test_up_takes_the_arguments_of_the_launch_files() -> None:
    declared = launch_arguments(ROOT / "launch/robot.launch.py") | launch_arguments(ROOT / "launch/sim.launch.py")
    of_another_name = {"contract": "contract", "policy_options": "--option"}
    same = {of_another_name.get(name, f"--{name.replace('_', '-')}") for name in declared}
    up = [action for action in parsers()["up"]._actions if action.dest != "help"]
    taken = {(action.option_strings or [action.dest])[0] for action in up}
    of_up_alone = {"--sim", "--teleop", "--record", "--say"}  # each stands for a launch file or a command of its own
    assert taken == same | of_up_alone


def test_the_policy_to_copy_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [source] = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "policy_of_the_readme.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    policy = create_policy("policy_of_the_readme:create", load_contract(ROOT / "config" / "sawyer_sim.yaml"), {})
    here = Pose(np.array([0.1, 0.6, 0.25]), np.array([0.0, 0.0, 0.0, 1.0]))
    views = {view: np.zeros((128, 128, 3), np.uint8) for view in policy.needs.views}
    chunk = policy.predict(Observation(NS_PER_S, "go there", views, here, here, None, 0.5))
    validate_chunk(chunk)
    halfway = target_at(chunk, NS_PER_S + NS_PER_S // 2)
    assert halfway is not None
    np.testing.assert_allclose(halfway.pose.position, [0.05, 0.6, 0.25], atol=1e-9)
    np.testing.assert_allclose(halfway.twist.linear, [-0.1, 0.0, 0.0], atol=1e-9)
