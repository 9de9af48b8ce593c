"""NumPy 1.26, which apt and ROS bring, does as well as NumPy 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMPY = "1.26.4"
PASSED = re.compile(r"(\d+) passed")


def pip_install(python: Path, *arguments: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "install", "-qq", "--no-build-isolation", *arguments], cwd=ROOT, check=True)


@pytest.fixture
def python() -> Iterator[Path]:
    """An interpreter with NumPy 1.26, ROS, the simulator and the test tools; without torch."""
    if sys.version_info >= (3, 13):
        pytest.skip(f"NumPy {NUMPY} has no wheel for this Python")
    with tempfile.TemporaryDirectory() as directory:
        yield make_environment(Path(directory))


def make_environment(directory: Path) -> Path:
    """A virtual environment with every pin but NumPy's. Returns its interpreter."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    constraints = directory / "constraints.txt"
    constraints.write_text(re.sub(r"^numpy==.*$", f"numpy=={NUMPY}", pins, flags=re.MULTILINE), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    interpreter = directory / "venv" / "bin" / "python"
    pip_install(interpreter, "-c", constraints, "pip", "setuptools", "wheel")
    pip_install(interpreter, "-c", constraints, "-e", ".[ros,sim,bag,data,video,dev]")
    return interpreter


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_unit_tests_and_the_message_tests_pass(python: Path) -> None:
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    versions = "import numpy, importlib.util as u; print(numpy.__version__, u.find_spec('torch'))"
    seen = subprocess.run([python, "-c", versions], cwd=ROOT, capture_output=True, text=True, check=True)
    assert seen.stdout.split() == [NUMPY, "None"]
    tests = ["test/unit", *sorted(str(path) for path in (ROOT / "test/ros").glob("test_*messages*.py"))]
    done = subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-20000:]
    assert int(PASSED.findall(done.stdout)[-1]) > 0
