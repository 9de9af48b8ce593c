"""`vla_ros evaluate --ros`: the same worlds and sentences through the live graph and in one process, side by side."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from helpers import own_domain

ROOT = Path(__file__).parents[2]


def test_worlds_are_measured_over_ros_and_compared_with_the_same_in_one_process(tmp_path: Path) -> None:
    words = ["evaluate", "--policy", "oracle", "--ros", "--tasks", "drawer-close-v3", "--episodes", "1"]
    command = [sys.executable, "-m", "vla_ros.cli", *words, "--latency", "0", "--output", str(tmp_path)]
    with own_domain() as environment:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        again = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert re.search(r"^\| drawer-close-v3 \| 1/1 +\| 1/1 +\|$", done.stdout, re.MULTILINE), done.stdout
    suites = json.loads((tmp_path / "evaluation.json").read_text())
    [comparison] = suites["comparisons"]
    assert (comparison["suite"], comparison["beside"], comparison["pairs"]) == ("ros", "seen_phrasings", 1)
    ros = suites["suites"]["ros"]
    assert ros["guard"]["latches"] == 0, ros
    assert ros["realtime_factor"] > 0.0, "how near to 1 is the machine's matter"
    assert "[sim" in (tmp_path / "evaluation" / "nodes.log").read_text()
    assert again.returncode == 0 and "2 episodes, 2 of them measured before" in again.stderr
