"""What is not installed is said in one sentence, with the command that brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: what was imported before would hide what is missing.
PROGRAM = "import sys; sys.modules[sys.argv[1]] = None; from vla_ros import cli; sys.exit(cli.main(sys.argv[2:]))"


@pytest.mark.parametrize(
    ("command", "library", "said"),
    [
        (("collect", "two"), "tqdm", "collecting needs tqdm, which is not installed: pip install metaworld"),
        (("train", "two"), "accelerate", "training needs accelerate, which is not installed: pip install torch"),
        (("evaluate", "--policy", "hold"), "metaworld", "the simulated robot needs Meta-World: pip install"),
        (
            ("replay", "bag", "--policy", "hold"),
            "tqdm",
            "replay needs tqdm, which is not installed: pip install rosbags",
        ),
        (("replay", "bag", "--policy", "hold"), "mcap", "bags need"),
    ],
)
def test_a_command_names_the_library_that_it_lacks(
    command: tuple[str, ...], library: str, said: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", PROGRAM, library, *command, "--output", str(tmp_path / "output")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120.0)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {said}")
