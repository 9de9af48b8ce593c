"""The oracle: sentences to tasks, and experts to chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.control.chunks import validate_chunk
from vla_ros.errors import PolicyError
from vla_ros.policy.metaworld_action import PRIVILEGED_WIDTH, REACH_MAX, REACH_MIN
from vla_ros.policy.oracle import OraclePolicy, create
from vla_ros.policy.oracle_tasks import TABLE_PATH, load_tasks
from vla_ros.types import GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, FloatArray, Observation, Pose

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
UPRIGHT = np.array([0.0, np.sqrt(0.5), 0.0, np.sqrt(0.5)])
HAND = np.array([0.0, 0.6, 0.2])


@pytest.fixture(scope="module")
def oracle() -> OraclePolicy:
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


def test_the_table_covers_every_task_with_sentences_of_its_own(oracle: OraclePolicy) -> None:
    from metaworld.policies import ENV_POLICY_MAP

    table = load_tasks()
    assert set(table.sentences) == set(ENV_POLICY_MAP)
    assert min(len(sentences) for sentences in table.sentences.values()) >= 3
    assert all(table.task(sentence) == task for task, sentences in table.sentences.items() for sentence in sentences)
    assert table.task(table.instruction("drawer-open-v3")) == "drawer-open-v3"


@pytest.mark.parametrize("task", sorted(load_tasks().sentences))
def test_no_expert_writes_into_what_it_observes(oracle: OraclePolicy, task: str) -> None:
    """Over a wire it comes read-only, and everywhere it is somebody else's."""
    seen = observe(load_tasks().instruction(task))
    assert seen.privileged is not None
    before = seen.privileged.copy()
    seen.privileged.flags.writeable = False
    validate_chunk(oracle.predict(seen))
    assert np.array_equal(seen.privileged, before)


@pytest.mark.parametrize(
    "spelling", ["Open the drawer", "  open  the drawer. ", "OPEN THE DRAWER!", "open the\tdrawer"]
)
def test_case_spaces_and_final_punctuation_do_not_matter(spelling: str) -> None:
    assert load_tasks().task(spelling) == "drawer-open-v3"


@pytest.mark.parametrize("sentence", ["open the drawers", "open drawer", "please open the drawer", "drawer-open-v3"])
def test_a_similar_sentence_is_not_good_enough(sentence: str) -> None:
    with pytest.raises(PolicyError, match=rf"'{sentence}'.*'put the ring on the peg'.*oracle_tasks.yaml"):
        load_tasks().task(sentence)


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(PolicyError, match=r"'fold-v3'.*assembly-v3"):
        load_tasks().instruction("fold-v3")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a-v3: [go]\nb-v3: ['Go.']", "under both a-v3 and b-v3"),
        ("a-v3: []", "at least one sentence"),
        ("a-v3: go", "at least one sentence"),
        ("a-v3: [1]", "in words"),
        ("a-v3: [Stop.]", "means to stop"),
        ("[a, b]", "must map"),
        ("", "must map"),
        ("a: [", "cannot read"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=complaint):
        load_tasks(path)


def test_a_plan_holds_the_experts_action_from_the_commanded_pose_on(oracle: OraclePolicy) -> None:
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


def test_a_plan_ends_at_the_side_of_the_robots_box(oracle: OraclePolicy) -> None:
    chunk = oracle.predict(observe(goal=(0.0, 1.2, 0.2), commanded=np.array([0.0, 0.985, 0.2])))
    assert chunk.rows[:4, 1] == pytest.approx([0.985, 0.995, 1.0, 1.0])
    assert chunk.rows[:4, 8] == pytest.approx([0.8, 0.8, 0.0, 0.0])


def test_experts_do_not_warn(oracle: OraclePolicy, recwarn: pytest.WarningsRecorder) -> None:
    oracle.predict(observe("open the drawer"))
    assert not recwarn.list


def test_without_privileged_state_it_says_so(oracle: OraclePolicy) -> None:
    observation = observe(privileged=np.zeros(39))
    with pytest.raises(PolicyError, match="39 numbers instead of 45"):
        oracle.predict(observation)


def test_it_takes_no_options() -> None:
    with pytest.raises(PolicyError, match=r"no options.*speed"):
        create(CONTRACT, {"speed": "2"})


def test_the_table_lies_beside_its_code() -> None:
    assert TABLE_PATH.is_file()
