"""The exact gate on a network, the one that ships: its own weights pass, those with 1 % of noise do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from live_runs import LiveRun
from replay_policies import write_small_contract
from safetensors.torch import load_file, save_file

from vla_ros import cli
from vla_ros.resources import checkpoint_path

SENTENCE = "open the drawer"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live run's bag and contract, and a golden of what the network decides on it."""
    folder = tmp_path_factory.mktemp("place")
    write_small_contract(folder / "robot.yaml")
    LiveRun().run(1.2, {0.1: lambda run: run.say(SENTENCE), 0.2: LiveRun.arm}).write(folder / "lived")
    assert replay(folder, "mt10", "first", "--update-golden") == 0
    return folder


def replay(place: Path, checkpoint: str, output: str, *words: str) -> int:
    given = ("--contract", str(place / "robot.yaml"), "--output", str(place / output), "--threads", "1")
    golden = ("--golden", str(place / "golden.jsonl"))
    return cli.main(("replay", str(place / "lived"), "--checkpoint", checkpoint, *given, *golden, *words))


def with_noise(folder: Path, share: float) -> Path:
    """A copy of the network, each weight moved by a share of how far its tensor's weights are spread."""
    shutil.copytree(checkpoint_path("mt10"), folder, ignore=shutil.ignore_patterns("evaluation*", "*.png"))
    weights = load_file(folder / "model.safetensors")
    random = torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.numel() > 1:
            noise = torch.randn(tensor.shape, generator=random).to(tensor.dtype)
            weights[name] = tensor + share * tensor.float().std().to(tensor.dtype) * noise
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_the_same_network_decides_the_same_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(place, "mt10", "second") == 0
    assert "lived: PASSED, 2 of 2 checks passed" in capsys.readouterr().out


def test_one_percent_of_noise_on_the_weights_is_caught(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(place, str(with_noise(tmp_path / "noisy", 0.01)), "noisy") == 1
    text = capsys.readouterr().out
    assert "FAILED  golden: same conditions: checkpoint is " in text
    assert "FAILED  golden: same decisions: " in text and "replies[0].chunk" in text


def test_two_networks_side_by_side(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy = with_noise(tmp_path / "noisy", 0.05)
    assert replay(place, "mt10", "both", "--against", str(noisy), "--json") == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert found["observations"] > 3
    assert found["apart_p95_m"] > 0.0
    assert found["differences"]["position_error"]["rows"] > 10
