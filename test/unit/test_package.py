"""The tree is a package for colcon and for pip, and both find its files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

import vla_ros
from vla_ros.errors import VlaRosError
from vla_ros.resources import CHECKPOINT_PARTS, checkpoint_path, config_path, named_file

ROOT = Path(__file__).parents[2]
SCRIPTS = {"vla_ros", "policy_node", "guard_node", "teleop_node", "sim_node", "record_node", "play_node"}
PACKAGED = ("vla_ros", "config", "checkpoints", "launch", "resource", "package.xml", "setup.py", "setup.cfg", "LICENSE")
DATA = (
    "vla_ros/policy/sentences.yaml",
    "vla_ros/learning/subtasks.yaml",
    "vla_ros/replay/report/page.css",
    "vla_ros/replay/report/page.js",
)
ENTRY_POINTS = [
    entry
    for entry in metadata.distribution("vla_ros").entry_points
    if entry.group in ("console_scripts", "vla_ros.policies")
]


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """A command's output; the test fails, with all of it, if the command does."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", "AMENT_PREFIX_PATH": "", **(env or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that building leaves nothing in the tree."""
    copy = tmp_path_factory.mktemp("workspace") / "src" / "vla_ros"
    copy.mkdir(parents=True)
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def prefix(source: Path) -> Path:
    """Where colcon installed the copy."""
    workspace = source.parents[1]
    run(sys.executable, "-m", "colcon", "build", cwd=workspace)
    return workspace / "install" / "vla_ros"


def config_names() -> set[str]:
    """sawyer_sim.yaml, training/mt10.yaml, ..."""
    config = ROOT / "config"
    return {path.relative_to(config).as_posix() for path in config.rglob("*.yaml")}


def launch_names() -> set[str]:
    return {path.name for path in (ROOT / "launch").glob("*.launch.py")}


def test_colcon_installs_what_ros_looks_for(prefix: Path) -> None:
    share = prefix / "share"
    assert (share / "ament_index/resource_index/packages/vla_ros").is_file()
    assert (share / "vla_ros/package.xml").is_file()
    config = share / "vla_ros/config"
    installed = {path.relative_to(config).as_posix() for path in config.rglob("*") if not path.is_dir()}
    assert installed == config_names() >= {"sawyer_sim.yaml", "training/mt10.yaml", "collection/mt10.yaml"}
    assert {path.name for path in (share / "vla_ros/launch").glob("*")} == launch_names()
    executables = {path.name for path in (prefix / "lib/vla_ros").iterdir() if os.access(path, os.X_OK)}
    assert executables == SCRIPTS


def test_an_installed_package_finds_its_own_config_and_data(prefix: Path) -> None:
    (site_packages,) = prefix.glob("lib/python3.*/site-packages")
    found = run(
        sys.executable,
        "-c",
        "import vla_ros; from vla_ros.resources import config_path, named_file;"
        "print(vla_ros.__file__, config_path('sawyer_sim'), named_file('mt10', 'training'))",
        cwd=prefix,
        env={"PYTHONPATH": str(site_packages), "AMENT_PREFIX_PATH": str(prefix)},
    )
    assert found.split() == [
        str(site_packages / "vla_ros/__init__.py"),
        str(prefix / "share/vla_ros/config/sawyer_sim.yaml"),
        str(prefix / "share/vla_ros/config/training/mt10.yaml"),
    ]
    assert all((site_packages / name).is_file() for name in DATA)


def test_the_wheel_carries_config_launch_and_types(source: Path, tmp_path: Path) -> None:
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        source,
        cwd=source,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {re.sub(r"^vla_ros-[^/]+\.data/data/", "", name) for name in zipfile.ZipFile(wheel).namelist()}
    expected = {"vla_ros/py.typed", "share/vla_ros/package.xml", *DATA}
    expected |= {f"share/vla_ros/config/{name}" for name in config_names()}
    expected |= {f"share/vla_ros/launch/{name}" for name in launch_names()}
    for name, evaluation in (("mt10", "evaluation.json"), ("mt50", "evaluation-metaworld-mt50.json")):
        expected |= {f"share/vla_ros/checkpoints/{name}/{part}" for part in (*CHECKPOINT_PARTS, evaluation)}
    assert expected <= names
    assert not [name for name in names if name.startswith(("test/", "bench/"))]


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda entry: entry.name)
def test_every_entry_point_loads(entry: metadata.EntryPoint) -> None:
    if entry.name == "vla":
        pytest.importorskip("torch")
    assert callable(entry.load())


def test_the_scripts_are_those_of_the_readme() -> None:
    assert {entry.name for entry in ENTRY_POINTS if entry.group == "console_scripts"} == SCRIPTS


def test_version_is_the_same_everywhere() -> None:
    declared = re.search(r"<version>(.+?)</version>", (ROOT / "package.xml").read_text(encoding="utf-8"))
    assert declared is not None
    assert declared.group(1) == vla_ros.__version__ == metadata.version("vla_ros")


def test_every_dependency_is_pinned() -> None:
    pins = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    names = [re.split(r"[\[=<>; ]", requirement)[0] for requirement in metadata.requires("vla_ros") or []]
    assert {name.lower() for name in names} <= pins


def test_a_config_file_is_found_by_name() -> None:
    assert config_path("sawyer_sim") == config_path("sawyer_sim.yaml") == ROOT / "config/sawyer_sim.yaml"


def test_an_unknown_config_file_names_the_known_ones() -> None:
    with pytest.raises(VlaRosError, match=r"no config file 'sawyer'; choose one of .*sawyer_sim\.yaml"):
        config_path("sawyer")


def test_an_unknown_file_in_a_folder_of_config_names_those_in_that_folder() -> None:
    with pytest.raises(VlaRosError, match=r"no config file 'mt11' in config/training; choose one of .*mt10\.yaml"):
        config_path("training/mt11")
    with pytest.raises(VlaRosError, match="'mt10' in config/cooking; choose one of none: the folder is missing"):
        config_path("cooking/mt10")


def test_users_name_a_file_by_its_path_or_as_one_in_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mt10").mkdir()
    assert named_file("mine.yaml", "training") == tmp_path / "mine.yaml"
    assert named_file("mt10", "training") == ROOT / "config/training/mt10.yaml"
    assert named_file("sawyer_sim") == ROOT / "config/sawyer_sim.yaml"
    assert named_file("folder/none.yaml", "training") == tmp_path / "folder/none.yaml"


def test_a_checkpoint_is_a_folder_or_the_name_of_one_that_comes_with_the_package(tmp_path: Path) -> None:
    assert checkpoint_path("mt10") == ROOT / "checkpoints/mt10"
    assert checkpoint_path(str(tmp_path)) == tmp_path
    with pytest.raises(VlaRosError, match=r"'mt11' is no folder, and no checkpoint of the package's: mt10, mt50"):
        checkpoint_path("mt11")
