"""The oracle: sentences to tasks, and experts to chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.control.chunks import validate_chunk
from vla_ros.errors import PolicyError
from vla_ros.policy.metaworld_action import PRIVILEGED_WIDTH, REACH_MAX, REACH_MIN
from vla_ros.policy.oracle import create
from vla_ros.policy.protocol import Policy
from vla_ros.policy.sentences import TABLE_PATH, load_sentences, load_table
from vla_ros.types import GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, FloatArray, Observation, Pose

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
UPRIGHT = np.array([0.0, np.sqrt(0.5), 0.0, np.sqrt(0.5)])
HAND = np.array([0.0, 0.6, 0.2])


@pytest.fixture(scope="module")
def oracle() -> Policy:
    return create(CONTRACT, {})


def observe(
    instruction: str = "reach the goal",
    goal: tuple[float, float, float] = (0.0, 0.8, 0.2),
    commanded: FloatArray = HAND,
    privileged: FloatArray | None = None,
) -> Observation:
    if privileged is None:
        privileged = np.zeros(PRIVILEGED_WIDTH)
        privileged[:3], privileged[36:39] = HAND, goal
        privileged[REACH_MIN], privileged[REACH_MAX] = (-0.5, 0.4, 0.05), (0.5, 1.0, 0.5)
    pose = Pose(commanded, UPRIGHT)
    return Observation(7, instruction, {}, pose, pose, np.zeros(9), 0.5, privileged)


@pytest.mark.parametrize("task", load_table(TABLE_PATH).tasks)
def test_no_expert_writes_into_what_it_observes(oracle: Policy, task: str) -> None:
    """Over a wire it comes read-only, and everywhere it is somebody else's."""
    seen = observe(load_sentences().usual(task))
    assert seen.privileged is not None
    before = seen.privileged.copy()
    seen.privileged.flags.writeable = False
    validate_chunk(oracle.predict(seen))
    assert np.array_equal(seen.privileged, before)


def test_training_and_held_out_sentences_ask_the_same_expert(oracle: Policy) -> None:
    table = load_sentences()
    usual, training, held_out = (
        oracle.predict(observe(sentence)).rows
        for sentence in (
            table.usual("drawer-open-v3"),
            table.training("drawer-open-v3")[-1].upper(),
            table.held_out("drawer-open-v3")[0],
        )
    )
    assert np.array_equal(usual, training)
    assert np.array_equal(usual, held_out)
    assert not np.array_equal(usual, oracle.predict(observe(table.usual("drawer-close-v3"))).rows)


def test_it_refuses_a_sentence_that_is_not_in_the_table(oracle: Policy) -> None:
    with pytest.raises(PolicyError, match=r"'fold the towel'.*'put the ring on the peg'.*sentences\.yaml"):
        oracle.predict(observe("fold the towel"))


def test_a_plan_holds_the_experts_action_from_the_commanded_pose_on(oracle: Policy) -> None:
    commanded = np.array([0.0, 0.65, 0.2])  # leads the hand, as it does in motion
    chunk = oracle.predict(observe(commanded=commanded))
    validate_chunk(chunk)
    assert chunk.t_obs_ns == 7
    assert chunk.dt_s == pytest.approx(0.0125)
    assert (len(chunk.rows) - 1) * chunk.dt_s >= 10 * 0.0125  # outlasts a hiccup of ten ticks
    assert chunk.rows[0, POSITION] == pytest.approx(commanded)
    assert np.diff(chunk.rows[:, POSITION], axis=0) == pytest.approx(
        np.tile([0.0, 0.01, 0.0], (len(chunk.rows) - 1, 1))
    )
    assert chunk.rows[:, LINEAR_VELOCITY] == pytest.approx(np.tile([0.0, 0.8, 0.0], (len(chunk.rows), 1)))
    assert chunk.rows[:, QUATERNION] == pytest.approx(np.tile(UPRIGHT, (len(chunk.rows), 1)))
    assert (chunk.rows[:, GRIPPER] == 0.5).all()


def test_a_plan_ends_at_the_side_of_the_robots_box(oracle: Policy) -> None:
    chunk = oracle.predict(observe(goal=(0.0, 1.2, 0.2), commanded=np.array([0.0, 0.985, 0.2])))
    assert chunk.rows[:4, 1] == pytest.approx([0.985, 0.995, 1.0, 1.0])
    assert chunk.rows[:4, 8] == pytest.approx([0.8, 0.8, 0.0, 0.0])


def test_experts_do_not_warn(oracle: Policy, recwarn: pytest.WarningsRecorder) -> None:
    oracle.predict(observe("open the drawer"))
    assert not recwarn.list


def test_without_privileged_state_it_says_so(oracle: Policy) -> None:
    observation = observe(privileged=np.zeros(39))
    with pytest.raises(PolicyError, match="39 numbers instead of 45"):
        oracle.predict(observation)


def test_it_takes_no_options() -> None:
    with pytest.raises(PolicyError, match=r"no options.*speed"):
        create(CONTRACT, {"speed": "2"})
