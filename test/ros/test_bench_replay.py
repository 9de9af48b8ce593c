"""The benchmark of the replay measures bags that are what they claim to be, and prints and writes its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.replay_bag import write_bags
from vla_ros.contract_file import load_contract
from vla_ros.policy.registry import create_policy
from vla_ros.replay.run import Replay, Terms
from vla_ros.resources import config_path

ROOT = Path(__file__).parents[2]


def test_a_made_bag_is_a_lived_one_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    contract = load_contract(config_path("sawyer_sim"))
    write_bags(tmp_path, contract, {"short": 2, "long": 6}, 2, with_traces=True)
    for name, seconds in (("short", 2), ("long", 6)):
        replay = Replay(Terms(tmp_path / name, contract), "hold", create_policy("hold", contract, {}))
        commands = [one for one in replay.decisions() if getattr(one, "text", "") == "policy in command"]
        assert replay.agreement is not None
        policy, guard = replay.agreement.policy, replay.agreement.guard
        assert policy.ticks == guard.ticks == policy.complete == guard.complete == 80 * seconds
        assert len(commands) > 70 * seconds
        if name == "short":
            assert (policy.agreeing, guard.agreeing) == (160, 160)


def test_quick_run_prints_a_table_and_bars_and_writes_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "replay", "--quick", "--seconds", "2", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    for row in ("traces, short, read", "no traces, long, replay", "memory of replay and judging", "x real time"):
        assert row in done.stdout, done.stdout
    record = json.loads((tmp_path / "replay.json").read_text())
    assert len(record["numbers"]) == 12 and len(record["bars"]) == 8
    assert record["numbers"]["traces, short, replay"]["decisions"] >= 2 * 480
    assert not list(tmp_path.glob("tmp*")), "the bags are gone"
