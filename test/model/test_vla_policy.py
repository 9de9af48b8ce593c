"""The policy `vla`: a checkpoint in, absolute chunks out, the same again for the same observations."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_builders import model, observation

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control.chunks import target_at, validate_chunk
from vla_ros.errors import VlaRosError
from vla_ros.model.checkpoint import save_checkpoint
from vla_ros.model.chunk_decoder import Prefix
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.relative import to_absolute
from vla_ros.model.vla import Perception, VLAModel
from vla_ros.policy.client import WorkerClient
from vla_ros.policy.registry import create_policy
from vla_ros.policy.vla import VLAPolicy, create
from vla_ros.types import NS_PER_S, POSITION, ChunkReply, Observation, Pose, Request, WorkerReply

CONTRACT_FILE = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
FRAME_NS = NS_PER_S // 10
UPRIGHT = Pose(np.array([0.1, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))
TILTED = Pose(np.array([0.1, 0.6, 0.2]), np.array([0.6, 0.0, 0.8, 0.0]))
METRE = np.array([1.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONTRACT_FILE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    folder = tmp_path_factory.mktemp("vla") / "checkpoint"
    save_checkpoint(folder, model("flow", history=2), contract, is_trained=True)
    return folder


@pytest.fixture
def policy(checkpoint: Path, contract: Contract) -> VLAPolicy:
    return create(contract, {"checkpoint": str(checkpoint)})


def look(index: int, pose: Pose | None = None, instruction: str = "open the drawer") -> Observation:
    """The index-th frame of a run."""
    seen = observation(index, instruction, t_obs_ns=NS_PER_S + index * FRAME_NS)
    return seen if pose is None else replace(seen, ee_pose=pose, commanded_pose=pose)


def test_a_chunk_is_valid_absolute_and_begins_at_the_observation(policy: VLAPolicy) -> None:
    seen = look(0)
    chunk = policy.predict(seen)
    validate_chunk(chunk)
    assert chunk.t_obs_ns == seen.t_obs_ns and policy.needs.views == ("front", "wrist")
    moved = Pose(seen.commanded_pose.position + METRE, seen.commanded_pose.quaternion)
    shifted_state = replace(seen, ee_pose=replace(seen.ee_pose, position=seen.ee_pose.position + METRE))
    relative = model("flow", history=2)
    with torch.inference_mode():
        rows = (
            relative(relative.inputs([seen]), generator=torch.Generator().manual_seed(seen.t_obs_ns))[0]
            .double()
            .numpy()
        )
    assert np.allclose(chunk.rows, to_absolute(rows, seen.commanded_pose), atol=1e-5)
    assert not np.allclose(policy.predict(replace(shifted_state, commanded_pose=moved)).rows, chunk.rows, atol=0.5)


def test_the_same_observations_give_the_same_chunks(checkpoint: Path, contract: Contract) -> None:
    runs = []
    for _ in range(2):
        policy = create(contract, {"checkpoint": str(checkpoint)})
        runs.append([policy.predict(look(index)).rows for index in range(4)])
    assert all(np.array_equal(one, other) for one, other in zip(*runs, strict=True))
    other_seed = create(contract, {"checkpoint": str(checkpoint), "seed": "1"})
    assert not np.allclose(other_seed.predict(look(0)).rows, runs[0][0], atol=1e-3)


@pytest.mark.parametrize("origin", [UPRIGHT, TILTED], ids=["upright", "tilted"])
def test_a_chunk_continues_the_one_before_it_where_the_robot_is_on_course(policy: VLAPolicy, origin: Pose) -> None:
    first = policy.predict(look(0, origin))
    due = target_at(first, NS_PER_S + FRAME_NS)
    assert due is not None
    second = policy.predict(look(1, due.pose))
    for delay_s in (0.0, 0.05, 0.1):
        instant_ns = second.t_obs_ns + round(delay_s * NS_PER_S)
        one, other = target_at(first, instant_ns), target_at(second, instant_ns)
        assert one is not None and other is not None
        assert np.allclose(one.pose.position, other.pose.position, atol=1e-4)
        assert np.allclose(one.twist.linear, other.twist.linear, atol=1e-4)
        assert np.allclose(one.pose.quaternion, other.pose.quaternion, atol=1e-4)
        assert np.allclose(one.twist.angular, other.twist.angular, atol=1e-4)


def test_off_course_nothing_is_committed(policy: VLAPolicy) -> None:
    first = policy.predict(look(0))
    due = target_at(first, NS_PER_S + FRAME_NS)
    assert due is not None
    pushed = Pose(due.pose.position + 0.2 * METRE, due.pose.quaternion)
    second = policy.predict(look(1, pushed))
    assert np.linalg.norm(second.rows[0, POSITION] - due.pose.position) > 0.1


def test_a_robot_at_rest_does_not_follow_a_slow_plan_however_near_it_is(
    policy: VLAPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Prefix | None] = []
    act = VLAModel.act
    rows = torch.zeros(1, 8, 14)
    rows[..., 6] = 1.0
    rows[0, :, 0] = 0.012 * torch.arange(8)  # 1.2 cm per frame of 0.1 s: the next frame finds it near in any case

    def slow(self: VLAModel, perception: Perception, prefix: Prefix | None, generator: torch.Generator) -> torch.Tensor:
        asked.append(prefix)
        act(self, perception, prefix, generator)
        return rows

    monkeypatch.setattr(VLAModel, "act", slow)
    policy.predict(look(0, UPRIGHT))
    policy.predict(look(1, UPRIGHT))
    assert asked == [None, None], "at rest"
    moved = Pose(UPRIGHT.position + 0.012 * METRE, UPRIGHT.quaternion)
    policy.predict(look(2, moved))
    assert asked[-1] is not None, "on its way"


@pytest.mark.parametrize("cause", ["instruction", "gap", "back in time"])
def test_what_was_seen_before_is_forgotten_with_its_task(
    policy: VLAPolicy, checkpoint: Path, contract: Contract, cause: str
) -> None:
    """A policy that saw something else before answers as one that saw nothing."""
    policy.predict(look(3))
    later = {
        "instruction": look(4, instruction="close the window"),
        "gap": look(30),
        "back in time": look(1),
    }[cause]
    fresh = create(contract, {"checkpoint": str(checkpoint)})
    assert np.array_equal(policy.predict(later).rows, fresh.predict(later).rows)


def test_the_past_of_the_same_task_counts(policy: VLAPolicy, checkpoint: Path, contract: Contract) -> None:
    policy.predict(look(0))
    fresh = create(contract, {"checkpoint": str(checkpoint)})
    assert not np.array_equal(policy.predict(look(1)).rows, fresh.predict(look(1)).rows)


def test_who_looks_back_sees_the_instants_that_training_showed_and_nothing_where_none_was_seen(
    policy: VLAPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network with two instants of history, whose camera gives one every tenth of a second."""
    looked: list[tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor]] = []
    perceive = VLAModel.perceive

    def noted(self: VLAModel, inputs: ModelInputs, plan: bool = True) -> Perception:
        perception = perceive(self, inputs, plan)
        looked.append((inputs.history, inputs.history_mask, perception.frame_features))
        return perception

    monkeypatch.setattr(VLAModel, "perceive", noted)
    early = replace(look(6), t_obs_ns=look(6).t_obs_ns - FRAME_NS // 4)  # not quite in time
    for seen in (look(0), look(1), look(2), look(4), early, look(9)):
        policy.predict(seen)
    histories, masks, features = zip(*looked, strict=True)
    assert histories[0] is None
    assert [None if mask is None else mask.tolist()[0] for mask in masks] == [
        None,
        [False, True],
        [True, True],
        [True, False],
        [True, False],
        [False, False],
    ]
    assert torch.equal(histories[2][0], torch.cat(features[:2]))
    assert torch.equal(histories[3][0, 0], features[2][0]) and torch.equal(histories[4][0, 0], features[3][0])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "policy 'vla' needs a checkpoint: give the option checkpoint=FOLDER, or checkpoint=mt10"),
        ({"checkpoint": "/nowhere"}, "'/nowhere' is no folder, and no checkpoint of the package's: mt10"),
        ({"checkpont": "x"}, "policy 'vla' has no option 'checkpont'; it knows checkpoint:"),
        ({"threads": "0"}, "the option threads is '0'; it must be a whole number of at least 1"),
        ({"seed": "-1"}, "the option seed is '-1'; it must be a whole number of at least 0"),
        ({"committed_s": "soon"}, "the option committed_s is 'soon'; it must be a number of at least 0"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"committed_s": "0.5"}, "the option committed_s is 0.5; this network was made for at most 0.2"),
        ({"untrained": "maybe"}, "the option untrained is 'maybe'; choose yes or no"),
    ],
)
def test_wrong_options_are_refused_in_words(
    checkpoint: Path, contract: Contract, options: dict[str, str], complaint: str
) -> None:
    given = (
        options
        if not options or "checkpoint" in options or "checkpont" in options
        else {"checkpoint": str(checkpoint), **options}
    )
    with pytest.raises(VlaRosError) as caught:
        create_policy("vla", contract, given)
    assert complaint in str(caught.value)


def test_a_network_that_has_learned_nothing_runs_only_on_demand(tmp_path: Path, contract: Contract) -> None:
    save_checkpoint(tmp_path / "new", model("flow"), contract, is_trained=False)
    options = {"checkpoint": str(tmp_path / "new")}
    with pytest.raises(VlaRosError, match="new has learned nothing yet; to run it all the same: untrained=yes"):
        create_policy("vla", contract, options)
    assert create_policy("vla", contract, {**options, "untrained": "yes"}).needs.views == ("front", "wrist")


@pytest.mark.parametrize("what", ["robot", "frames"])
def test_another_robot_is_refused_unless_it_is_meant(checkpoint: Path, contract: Contract, what: str) -> None:
    other = {
        "robot": replace(contract, name="other_arm"),
        "frames": replace(contract, frames=replace(contract.frames, tool="flange")),
    }[what]
    options = {"checkpoint": str(checkpoint)}
    with pytest.raises(VlaRosError, match=rf"the checkpoint is for another robot \({what}: .*other_robot=yes"):
        create_policy("vla", other, options)
    create_policy("vla", other, {**options, "other_robot": "yes"})


def test_a_robot_without_its_cameras_is_refused(checkpoint: Path, contract: Contract) -> None:
    blind = replace(contract, cameras={"front": contract.cameras["front"], "side": contract.cameras["wrist"]})
    with pytest.raises(VlaRosError, match="looks through camera 'wrist'; the robot has: front, side"):
        create_policy("vla", blind, {"checkpoint": str(checkpoint)})


def test_the_worker_serves_it_from_a_process_of_its_own(checkpoint: Path, policy: VLAPolicy) -> None:
    lines: list[str] = []
    client = WorkerClient(sys.executable, "vla", CONTRACT_FILE, {"checkpoint": str(checkpoint)}, lines.append)
    try:
        needs = client.start(60.0)
        assert needs.views == ("front", "wrist"), lines
        client.submit(Request(1, look(0)))
        deadline_s = time.monotonic() + 30.0
        replies: list[WorkerReply] = []
        while not replies:
            assert time.monotonic() < deadline_s, lines
            replies = list(client.poll())
            time.sleep(0.002)
        assert isinstance(replies[0], ChunkReply), (replies, lines)
        # One thread more or less may change the last bits.
        assert np.allclose(replies[0].chunk.rows, policy.predict(look(0)).rows, atol=1e-4)
    finally:
        client.close(0.0)
