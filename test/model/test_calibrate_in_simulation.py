"""`vla_ros calibrate` in simulation: what meddling looks like is learned, then the threshold is found."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla_ros import cli
from vla_ros.learning.trained import ReasoningAlone
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.resources import checkpoint_path

QUICKLY = ("--tasks", "drawer-open-v3", "--lessons", "2", "--hours", "0.0015", "--per-hour", "15000")


@pytest.mark.timeout(600)
def test_it_learns_what_meddling_looks_like_and_what_was_run_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = load_checkpoint(checkpoint_path("mt10"))
    model = ReasoningAlone().fitting(shipped.model, replace(shipped.model.config, reasoning="foresee"))
    save_checkpoint(tmp_path / "network", model, shipped.contract, is_trained=True)
    command = ("calibrate", str(tmp_path / "network"), "--output", str(tmp_path / "runs"), *QUICKLY)
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "2 disturbed runs to learn from, 0 done before" in said.err
    assert "2 undisturbed runs to learn from, 0 done before" in said.err
    assert "meddled" in said.out and "written into" in said.out
    first = load_checkpoint(tmp_path / "network").model.reasoning
    assert math.isfinite(first.calibration.threshold)
    assert first.meddling is not None and all(weights.any() for weights in first.meddling.parameters())
    # All of it is written down, and gives the same network again.
    assert cli.main(command) == 0
    assert "2 disturbed runs to learn from, 2 done before" in capsys.readouterr().err
    second = load_checkpoint(tmp_path / "network").model.reasoning
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
