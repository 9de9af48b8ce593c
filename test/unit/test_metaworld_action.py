"""Meta-World's four numbers and our fourteen."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.policy.metaworld_action import CONTROL_DT_S, FULL_SPEED_M_S, to_effort, to_gripper, to_rows
from vla_ros.types import GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, Pose

START = Pose(np.array([0.1, 0.6, 0.2]), np.array([0.0, np.sqrt(0.5), 0.0, np.sqrt(0.5)]))


def test_no_action_loses_anything_in_a_row() -> None:
    generator = np.random.default_rng(0)
    actions = np.vstack([generator.uniform(-1.0, 1.0, (1000, 4)), np.eye(4), -np.eye(4), np.zeros(4)])
    actions = actions.astype(np.float32).astype(np.float64)  # Meta-World's actions are single precision
    rows = np.array([to_rows(action, START, CONTROL_DT_S, 2)[0] for action in actions])
    efforts = [to_effort(opening) for opening in rows[:, GRIPPER]]
    back = np.column_stack([rows[:, LINEAR_VELOCITY] / FULL_SPEED_M_S, efforts])
    assert np.array_equal(back[:, :3].astype(np.float32), actions[:, :3].astype(np.float32))
    assert np.abs(back - actions).max() < 1e-15


@pytest.mark.parametrize(("effort", "gripper"), [(-1.0, 1.0), (0.0, 0.5), (1.0, 0.0), (0.5, 0.25)])
def test_effort_is_an_opening(effort: float, gripper: float) -> None:
    assert to_gripper(np.array([0.0, 0.0, 0.0, effort])) == gripper
    assert to_effort(gripper) == effort


def test_full_action_is_one_centimetre_a_step() -> None:
    rows = to_rows(np.array([1.0, -1.0, 0.5, 0.0]), START, CONTROL_DT_S, 5)
    steps = np.diff(rows[:, POSITION], axis=0)
    assert rows[0, POSITION] == pytest.approx(START.position)
    assert steps == pytest.approx(np.tile([0.01, -0.01, 0.005], (4, 1)))
    assert rows[:, LINEAR_VELOCITY] == pytest.approx(np.tile([0.8, -0.8, 0.4], (5, 1)))
    assert rows[:, QUATERNION] == pytest.approx(np.tile(START.quaternion, (5, 1)))
    assert (rows[:, GRIPPER] == 0.5).all()


def test_actions_beyond_one_are_clipped_as_the_environment_does() -> None:
    beyond = to_rows(np.array([25.0, -25.0, 1.0, 7.0]), START, CONTROL_DT_S, 3)
    at_limit = to_rows(np.array([1.0, -1.0, 1.0, 1.0]), START, CONTROL_DT_S, 3)
    assert np.array_equal(beyond, at_limit)
