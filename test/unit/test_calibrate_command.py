"""vla_ros calibrate: recordings become a threshold in the checkpoint, or one sentence that says why they cannot."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from live_runs import LiveRun
from replay_policies import write_small_contract

from vla_ros import cli
from vla_ros.contract_file import load_contract
from vla_ros.learning.trained import ReasoningAlone
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.surprise import Calibration
from vla_ros.resources import checkpoint_path

MANY = "15000"  # alarms an hour: a recording of a second cannot promise few


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of a live run, and a checkpoint for its robot that foresees, but has learned nothing of that."""
    folder = tmp_path_factory.mktemp("place")
    write_small_contract(folder / "robot.yaml")
    for name, said_s, seconds in (("lived", 0.1, 1.6), ("short", 0.22, 0.25)):
        run = LiveRun().run(seconds, {said_s: lambda run: run.say("open the drawer"), 0.2: LiveRun.arm})
        run.write(folder / "bags" / name)
    shipped = load_checkpoint(checkpoint_path("mt10")).model
    model = ReasoningAlone().fitting(shipped, replace(shipped.config, reasoning="foresee"))
    save_checkpoint(folder / "network", model, load_contract(folder / "robot.yaml"), is_trained=True)
    return folder


def calibrate(place: Path, network: Path, *words: str) -> int:
    return cli.main(("calibrate", str(network), "--output", str(place / "runs"), *words))


def calibration(folder: Path) -> Calibration:
    return load_checkpoint(folder).model.reasoning.calibration


@pytest.mark.timeout(600)
def test_recordings_give_a_threshold_and_runs_that_are_too_short_say_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, bags = place / "network", ("--bags", str(place / "bags"))
    assert calibrate(place, network, *bags, "--per-hour", "2") == 2
    told = capsys.readouterr().err
    assert "of undisturbed runs cannot promise 2 false alarms an hour: 1.9 h are needed" in told
    assert f"{place / 'bags' / 'short'} is left out: nothing was foretold in it" in told
    assert calibration(network).threshold == math.inf, "nothing was written"
    kept = json.loads((place / "runs" / "bags" / "lived.json").read_text(encoding="utf-8"))
    assert calibrate(place, network, *bags, "--per-hour", MANY) == 0
    told = capsys.readouterr().out
    assert "unforeseen" in told and "unfamiliar" in told and "meddled" in told
    found = calibration(network)
    assert f"threshold {found.threshold:.3f}, " in told
    errors = [errors for _, errors in kept["looks"]]
    assert 0.0 < found.threshold <= max(map(found.surprise, errors))
    # What was replayed is not replayed again, and a calibration does not change what the next one finds.
    assert json.loads((place / "runs" / "bags" / "lived.json").read_text(encoding="utf-8")) == kept
    assert calibrate(place, network, *bags, "--per-hour", MANY) == 0
    assert calibration(network) == found


def test_what_cannot_be_calibrated_is_refused_in_a_sentence(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tmp_path, checkpoint_path("mt10"), "--hours", "0.01") == 2
    assert "foresees nothing: surprise is for networks whose reasoning is foresee or all" in capsys.readouterr().err
    assert calibrate(tmp_path, tmp_path, "--hours", "0.01") == 2
    assert "is not a checkpoint: it has no config.json" in capsys.readouterr().err
    assert calibrate(tmp_path, place / "network", "--hours", "0.01", "--tasks", "dance") == 2
    assert "'dance' is not a task" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        calibrate(tmp_path, place / "network", "--hours", "0")
    assert "'0' is not a number above 0" in capsys.readouterr().err
