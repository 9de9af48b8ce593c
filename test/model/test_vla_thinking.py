"""The policy `vla` of a network that reasons: what its options change, and what it says besides rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import config, observation

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control.chunks import target_at
from vla_ros.errors import PolicyError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.checkpoint import save_checkpoint
from vla_ros.model.surprise import Calibration
from vla_ros.model.vla import Perception, VLAModel
from vla_ros.policy import vla
from vla_ros.policy.messages import Plan, decode_answer, encode_answer
from vla_ros.policy.vla import VLAPolicy, create
from vla_ros.policy.vla_plan import Course, planned
from vla_ros.policy.vla_thinking import PATIENCE_S
from vla_ros.types import NS_PER_S, Chunk, Observation, Pose

SUBTASKS = ("move above the puck", "lower to the puck")
FRAME_NS = NS_PER_S // 10
HERE = Pose(np.array([0.1, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))


@cache
def contract() -> Contract:
    return load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that expects nothing ever to change, and always plans to move above the puck."""
    torch.manual_seed(0)
    made_of = replace(config("flow"), reasoning="all", subtasks=SUBTASKS, places=3)
    model = VLAModel(made_of, ActionStatistics.identity(), ActionStatistics.identity())
    assert model.reasoning.planner is not None
    with torch.no_grad():
        model.reasoning.planner.next_subtask.bias.copy_(torch.tensor([1e3, 0.0, 0.0]))
    model.reasoning.calibration = Calibration(scales=(1e-3, 1e9, 1.0), threshold=5.0)
    path = tmp_path_factory.mktemp("thinking") / "checkpoint"
    save_checkpoint(path, model, contract(), is_trained=True)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("plain") / "checkpoint"
    model = VLAModel(config("flow"), ActionStatistics.identity(), ActionStatistics.identity())
    save_checkpoint(path, model, contract(), is_trained=True)
    return path


def policy(folder: Path, **options: str) -> VLAPolicy:
    return create(contract(), {"checkpoint": str(folder), **options})


def look(index: int, scene: int) -> Observation:
    """The index-th frame of a run in which the robot rests; scenes differ."""
    seen = observation(scene, t_obs_ns=NS_PER_S + index * FRAME_NS)
    return replace(seen, ee_pose=HERE, commanded_pose=HERE, gripper=0.5)


def test_a_plan_is_told_by_its_first_step_unless_it_is_switched_off(folder: Path) -> None:
    assert policy(folder).predict(look(0, 0)).subtask == "move above the puck"
    silent = policy(folder, plan="no").predict(look(0, 0))
    assert silent.said == {}
    assert not np.array_equal(silent.rows, policy(folder).predict(look(0, 0)).rows)


def test_what_goes_without_reasoning_says_nothing_else(plain: Path) -> None:
    assert policy(plain).predict(look(0, 0)).said == {}


def test_a_scene_that_stays_is_expected_and_one_that_changes_by_itself_is_a_surprise(folder: Path) -> None:
    watching = policy(folder, surprise="tell")
    chunks = [watching.predict(look(index, scene)) for index, scene in enumerate((0, 0, 1))]
    assert chunks[0].surprise is None, "there was nothing to expect"
    assert chunks[1].surprise == pytest.approx(0.0, abs=1e-2)
    assert chunks[2].surprise is not None and chunks[2].surprise > 5.0
    assert {chunk.stop_because for chunk in chunks} == {""}, "only told"


def test_a_surprise_plans_anew_and_asks_for_a_stop_only_where_it_lasts(folder: Path) -> None:
    watching, careless = policy(folder, surprise="stop"), policy(folder)
    frames = round(PATIENCE_S * NS_PER_S / FRAME_NS) + 3
    scenes = [0, 0, *(index % 2 for index in range(1, frames)), 0, 0]
    chunks = [watching.predict(look(index, scene)) for index, scene in enumerate(scenes)]
    stops = [bool(chunk.stop_because) for chunk in chunks]
    first = stops.index(True)
    assert (first - 2) * FRAME_NS == round(PATIENCE_S * NS_PER_S)
    assert "times as far from what was expected, or from all known, as is allowed" in chunks[first].stop_because
    assert not stops[-1], "the scene stays: it is as expected again"
    assert all(chunk.surprise is not None and chunk.surprise > 5.0 for chunk in chunks[2:-2])
    # What was planned before the surprise is dropped, where it would else be continued.
    first_chunk = careless.predict(look(0, 0))
    due = target_at(first_chunk, NS_PER_S + FRAME_NS)
    assert due is not None
    on_course = replace(look(1, 1), commanded_pose=due.pose, ee_pose=due.pose)
    anew = policy(folder, surprise="stop")
    anew.predict(look(0, 0))
    assert not np.allclose(anew.predict(on_course).rows[0], careless.predict(on_course).rows[0], atol=1e-3)


def test_what_was_done_of_a_plan_is_forgotten_with_a_surprise_and_with_the_instruction(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_anew: list[bool] = []

    def noted(model: VLAModel, perception: Perception, course: Course | None) -> tuple[Perception, Course | None]:
        is_anew.append(course is None)
        return planned(model, perception, course)

    monkeypatch.setattr(vla, "planned", noted)
    watching = policy(folder, surprise="stop")
    for index, scene in enumerate((0, 0, 1, 1)):
        watching.predict(look(index, scene))
    watching.predict(replace(look(4, 1), instruction="close the window"))
    assert is_anew == [True, False, True, False, True]


def suspicious(folder: Path) -> VLAPolicy:
    """Of anything, since what it has learned of meddling is noise."""
    watching = policy(folder, surprise="tell")
    meddling = watching._model.reasoning.meddling
    assert meddling is not None
    torch.manual_seed(0)
    meddling.load_state_dict(meddling.novice().state_dict())
    return watching


def test_what_was_seen_before_a_gap_does_not_count_as_motion_after_it(folder: Path) -> None:
    blind = replace(look(2, 0), images={"front": look(2, 0).images["front"]})
    errors: list[tuple[float, ...] | None] = []
    for scenes in ((0, 1), (1, 1)):
        watching = suspicious(folder)
        for index, scene in enumerate(scenes):
            watching.predict(look(index, scene))
        assert watching.predict(blind).surprise is None and watching.errors is None
        assert watching.predict(look(3, 1)).surprise is None, "nothing was expected of a look behind a gap"
        watching.predict(look(4, 1))
        errors.append(watching.errors)
    assert errors[0] == errors[1], "whatever was seen before"
    watching.predict(look(5, 0))
    assert watching.errors is not None and errors[0] is not None and watching.errors[-1] != errors[0][-1]


def test_a_new_instruction_expects_nothing(folder: Path) -> None:
    watching = policy(folder, surprise="tell")
    watching.predict(look(0, 0))
    assert watching.predict(replace(look(1, 1), instruction="close the window")).surprise is None


def test_thinking_is_the_same_again(folder: Path) -> None:
    options = {"candidates": "4", "refine": "yes", "surprise": "tell"}
    runs = [
        [one.predict(look(index, index)) for index in range(3)] for one in (policy(folder, **options) for _ in range(2))
    ]
    for mine, again in zip(*runs, strict=True):
        assert np.array_equal(mine.rows, again.rows) and mine.said == again.said


def test_what_is_said_crosses_the_wire(folder: Path) -> None:
    chunk = Chunk(5, 0.1, np.zeros((2, 14)), "lower to the puck", 3.5, "surprised")
    answer = decode_answer(encode_answer(Plan(chunk, 0.1)))
    assert isinstance(answer, Plan) and answer.chunk.said == chunk.said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"candidates": "0"}, "the option candidates is '0'; it must be a whole number from 1 to 64"),
        ({"candidates": "65"}, "the option candidates is '65'; it must be a whole number from 1 to 64"),
        ({"refine": "maybe"}, "the option refine is 'maybe'; choose no or yes"),
        ({"surprise": "yes"}, "the option surprise is 'yes'; choose no, tell or stop"),
        ({"candidates": "4"}, "for networks that foresee; this one's reasoning is none"),
        ({"refine": "yes"}, "for networks that foresee; this one's reasoning is none"),
        ({"surprise": "tell"}, "surprise is for networks that foresee; this one's reasoning is none"),
    ],
)
def test_what_the_network_cannot_do_is_refused(plain: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        policy(plain, **options)


def test_a_stop_needs_a_calibration_and_candidates_a_flow(tmp_path: Path) -> None:
    made_of = replace(config("regression"), reasoning="foresee")
    model = VLAModel(made_of, ActionStatistics.identity(), ActionStatistics.identity())
    assert model.reasoning.calibration.threshold == Calibration().threshold
    save_checkpoint(tmp_path / "saved", model, contract(), is_trained=True)
    with pytest.raises(PolicyError, match="surprise=stop needs a network whose surprise has been calibrated"):
        policy(tmp_path / "saved", surprise="stop")
    with pytest.raises(
        PolicyError, match="candidates are for a flow decoder; all of a regression decoder's are the same"
    ):
        policy(tmp_path / "saved", candidates="2")
