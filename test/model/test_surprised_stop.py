"""Over the whole loop in one process: who is surprised for long asks for a stop, and the guard stops the robot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla_ros.learning.evaluation.performer import Performer
from vla_ros.learning.evaluation.subject import checkpoint_subject
from vla_ros.learning.evaluation.trials import Order, Outcome, Trial
from vla_ros.learning.trained import ReasoningAlone
from vla_ros.model.calibration_file import write_calibration
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.surprise import Calibration
from vla_ros.model.vla import Perception, VLAModel
from vla_ros.policy.sentences import load_sentences
from vla_ros.policy.vla import VLAPolicy
from vla_ros.policy.vla_thinking import Unwatched, Verdict
from vla_ros.resources import checkpoint_path
from vla_ros.sim.disturbances import Disturbance
from vla_ros.sim.variations import Variation
from vla_ros.types import Observation

TASK = "drawer-open-v3"
NEVER = 1e9


class Spectator(Unwatched):
    """Remembers what the views show."""

    def __init__(self) -> None:
        self.views: list[torch.Tensor] = []

    def look(self, model: VLAModel, perception: Perception, observation: Observation) -> Verdict:
        """See Unwatched."""
        self.views.append(model.sight(perception).features[0, model.reasoning.layout.seen])
        return Verdict()


def order(disturbance: Disturbance | None) -> Order:
    said = load_sentences().usual(TASK)
    trial = Trial("covered", TASK, TASK, Variation("train", 400_000), "training", said, disturbance=disturbance)
    return Order(trial, horizon=240, inference_ticks=4, linger_steps=130 if disturbance else 0)


def performed(folder: Path, disturbance: Disturbance | None, surprise: str) -> Outcome:
    with Performer(checkpoint_subject(folder, {"surprise": surprise})) as performer:
        return performer.perform(order(disturbance))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mt10 with parts that foresee and have learned nothing, which knows what one undisturbed episode looks like."""
    shipped = load_checkpoint(checkpoint_path("mt10"))
    model = ReasoningAlone().fitting(shipped.model, replace(shipped.model.config, reasoning="foresee")).eval()
    path = tmp_path_factory.mktemp("stop") / "checkpoint"
    save_checkpoint(path.with_name("draft"), model, shipped.contract, is_trained=True)
    spectator = Spectator()
    with Performer(checkpoint_subject(path.with_name("draft"))) as performer:
        policy = performer._policy._policy
        assert isinstance(policy, VLAPolicy)
        policy._watch = spectator
        assert performer.perform(order(None)).success
    assert model.reasoning.usual_view is not None
    seen = torch.stack(spectator.views)
    model.reasoning.usual_view.measure(seen)
    farthest = float(model.reasoning.usual_view.distance(seen).max())
    model.reasoning.calibration = Calibration((NEVER, farthest, NEVER), threshold=1.5)
    save_checkpoint(path, model, shipped.contract, is_trained=True)
    return path


@pytest.mark.timeout(600)
def test_a_covered_camera_leads_to_a_stop_and_an_undisturbed_episode_does_not(folder: Path) -> None:
    alone = performed(folder, None, "stop")
    assert alone.success and (alone.stops, alone.latches) == (0, 0)
    assert max(surprise for _, surprise in alone.surprises) <= 1.01
    for seed in (0, 1, 2):
        covered = performed(folder, Disturbance("covered", 40, seed), "stop")
        told = [surprise for at_s, surprise in covered.surprises if at_s >= 0.5]
        print(f"seed {seed}: surprise {min(told):.1f} to {max(told):.1f}, stops {covered.stops}")
        assert min(told) > 1.5, "for as long as it is covered"
        assert (covered.stops, covered.latches) == (1, 0)
        assert covered.disturbed_s is not None
        assert [at_s > covered.disturbed_s for at_s in covered.stopped_s] == [True]


@pytest.mark.timeout(600)
def test_who_only_tells_stops_nobody_and_commands_what_the_shipped_network_does(folder: Path) -> None:
    covered = performed(folder, Disturbance("covered", 40, 0), "tell")
    assert covered.stops == 0
    with Performer(checkpoint_subject(checkpoint_path("mt10"))) as performer:
        shipped = performer.perform(order(None))
    told = performed(folder, None, "tell")
    assert (told.steps, told.path_m, told.clips) == (shipped.steps, shipped.path_m, shipped.clips)
    assert told.surprises and not shipped.surprises


def test_a_calibration_is_written_into_the_checkpoint_and_nothing_else_changes(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file

    from vla_ros.errors import ModelError

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    write_calibration(copy, Calibration((1.0, 2.0, 3.0), 2.5))
    before, after = (load_file(path / "model.safetensors") for path in (folder, copy))
    others = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert others == ["reasoning.surprise_scales", "reasoning.surprise_threshold"]
    assert load_checkpoint(copy).model.reasoning.calibration == Calibration((1.0, 2.0, 3.0), 2.5)
    assert sorted(path.name for path in copy.iterdir()) == sorted(path.name for path in folder.iterdir())
    shutil.copytree(checkpoint_path("mt10"), tmp_path / "mt10")
    with pytest.raises(
        ModelError, match="foresees nothing: surprise is for networks whose reasoning is foresee or all"
    ):
        write_calibration(tmp_path / "mt10", Calibration())
