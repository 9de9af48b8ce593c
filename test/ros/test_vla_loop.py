"""The network in the loop: a checkpoint's worker sees three cameras and leads the simulated robot, over DDS."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Probe, Process, own_domain, wait_for
from std_msgs.msg import String

from vla_ros.contract_file import load_contract

pytest.importorskip("torch", reason="torch is not installed")

import torch

from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import save_checkpoint
from vla_ros.model.config import preset
from vla_ros.model.vla import VLAModel
from vla_ros.types import QUATERNION

CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
UP_TIMEOUT_S = 90.0


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with own_domain() as env:
        yield env


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small network that has learned nothing, but whose statistics say that all actions are tiny."""
    mean, std = torch.zeros(14), torch.full((14,), 0.002)
    mean[QUATERNION] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    torch.manual_seed(0)
    model = VLAModel(
        preset("small", ("front", "wrist", "top")),
        ActionStatistics(mean, std, mean - 0.01, mean + 0.01),
        ActionStatistics.identity(),
    )
    save_checkpoint(tmp_path / "small", model, load_contract(CONTRACT), is_trained=False)
    return tmp_path / "small"


def test_a_checkpoint_leads_the_robot(env: dict[str, str], checkpoint: Path) -> None:
    words = (
        "--sim",
        "--policy",
        "vla",
        "--checkpoint",
        str(checkpoint),
        "--option",
        "untrained=yes",
        "--arm",
        "--say",
        "open the drawer",
    )
    with (
        Process([sys.executable, "-m", "vla_ros.cli", "up", "sawyer_sim", *words], env) as process,
        Probe(env) as probe,
    ):
        guard, policy = probe.collect(String, "guard/trace"), probe.collect(String, "policy/trace")

        def led() -> int:
            return sum(json.loads(message.data)["text"] == "policy in command" for message in list(guard)[-200:])

        wait_for(lambda: led() > 100, UP_TIMEOUT_S, f"the policy leads; it said:\n{process.output()}")
        # Chunk upon chunk: each is made from newer frames than the one before.
        wait_for(
            lambda: len({json.loads(message.data)["t_obs_ns"] for message in list(policy)[-400:]} - {None}) > 10,
            UP_TIMEOUT_S,
            "ten chunks in five seconds",
        )
        process.signal(signal.SIGINT)
        assert process.wait(30.0) == 0, process.output()
        assert "Traceback" not in process.output()
