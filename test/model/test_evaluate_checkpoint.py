"""`vla_ros evaluate` with a checkpoint: a tiny network that looks through cameras."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_builders import config, model

from vla_ros import cli
from vla_ros.contract_file import load_contract
from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.metaworld_protocol import differences
from vla_ros.learning.evaluation.performer import Performer
from vla_ros.learning.evaluation.run import evaluate_quickly
from vla_ros.learning.evaluation.subject import checkpoint_subject, trained_tasks
from vla_ros.learning.evaluation.suites import trials
from vla_ros.learning.evaluation.trials import Order, Outcome
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import save_checkpoint
from vla_ros.model.vla import VLAModel
from vla_ros.policy.sentences import load_sentences

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
VIEW = replace(CONTRACT.cameras["front"], topic="camera/corner2/image_raw", frame="camera_corner2")
STEPS = 48
# Whatever a network without training says, within a few centimetres: the guard refuses further targets.
_MEAN = [0.0] * 6 + [1.0] + [0.0] * 6 + [0.5]
_STD = [0.02] * 3 + [0.001] * 4 + [0.05] * 3 + [0.001] * 3 + [0.1]
GENTLE = ActionStatistics(_MEAN, _STD, [-2.0] * 14, [2.0] * 14)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "tiny"
    torch.manual_seed(0)
    network = VLAModel(config("flow", history=2), GENTLE, ActionStatistics.identity()).eval()
    save_checkpoint(folder, network, CONTRACT, is_trained=True)
    return folder


@pytest.fixture
def performer(checkpoint: Path) -> Performer:
    return Performer(checkpoint_subject(checkpoint))


def perform(performer: Performer, suite: str, task: str = "reach-v3") -> Outcome:
    [trial] = trials(suite, [task], load_sentences(), 1)
    return replace(performer.perform(Order(trial, STEPS, 4)), suite="", inference_ms=())


def test_a_network_does_the_same_whatever_it_did_before(performer: Performer, checkpoint: Path) -> None:
    with performer:
        first = perform(performer, "seen_phrasings")
        perform(performer, "seen_phrasings")  # the same instruction again, so that its past could go on
        perform(performer, "light", "push-v3")
        assert perform(performer, "seen_phrasings") == first
    with Performer(checkpoint_subject(checkpoint)) as other:
        assert perform(other, "seen_phrasings") == first
    assert first.path_m is not None and first.path_m > 0.005 and first.latches == 0


def test_the_command_measures_a_checkpoint_on_its_own_tasks(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "learned"
    shutil.copytree(checkpoint, folder)
    (folder / "training.json").write_text('{"tasks": ["reach-v3"]}')
    words = ["evaluate", str(folder), "--suite", "seen_phrasings", "--episodes", "1", "--horizon", str(STEPS)]
    assert cli.main([*words, "--workers", "1"]) == 0
    assert "| reach-v3 " in capsys.readouterr().out
    written = json.loads((folder / "evaluation.json").read_text())
    assert list(written["suites"]["seen_phrasings"]["tasks"]) == ["reach-v3"]
    measured_ms = written["latency"]["p50_ms"]
    assert written["latency"]["inference_ticks"] == pytest.approx(measured_ms / 12.5, abs=1.0)
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert checkpoint_subject(folder).identity() != checkpoint_subject(checkpoint).identity()


def test_a_checkpoint_in_the_making_is_measured_from_its_folder(checkpoint: Path) -> None:
    [(successes, episodes)] = evaluate_quickly(checkpoint, ["reach-v3"], 1, 1, latency_s=0.05).values()
    assert (successes, episodes) in ((0, 1), (1, 1))


def test_the_published_camera_is_one_that_a_network_can_look_through(tmp_path: Path) -> None:
    contract = replace(CONTRACT, cameras={"corner2": VIEW})
    save_checkpoint(tmp_path / "corner2", model(views=("corner2",)), contract, is_trained=True)
    subject = checkpoint_subject(tmp_path / "corner2")
    with Performer(subject) as performer:
        assert perform(performer, "metaworld_mt50").steps == STEPS
    said = differences(subject, contract, {"inference_ticks": 4})
    assert not any("instead of corner2 alone" in sentence for sentence in said)
    assert "pictures of 128 x 128 instead of 480 x 480 pixels" in said


def test_other_cameras_are_said_to_differ(checkpoint: Path) -> None:
    said = differences(checkpoint_subject(checkpoint), CONTRACT, {"inference_ticks": 4})
    assert said[0] == "cameras front, wrist instead of corner2 alone"
    assert "inference takes 4 steps of 12.5 ms" in " ".join(said)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tasks": "all"}'])
def test_a_broken_record_of_training_is_refused_by_name(tmp_path: Path, text: str) -> None:
    assert trained_tasks(tmp_path) == ()
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(LearningError, match=r"training\.json"):
        trained_tasks(tmp_path)
