"""Recorded frames as chunks to learn from: which rows follow a frame, and which of them count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learning_builders import experience

from vla_ros.errors import LearningError
from vla_ros.geometry import integrate, normalise
from vla_ros.learning.experience import chunks_at, difficulty, joined, model_states, places_of, stride_of
from vla_ros.model.relative import state_of, to_absolute, to_relative
from vla_ros.types import ANGULAR_VELOCITY, GRIPPER, LINEAR_VELOCITY, POSITION, QUATERNION, Observation, Pose, Twist

FPS = 20


def at(*frames: int) -> np.ndarray:
    return np.array(frames, np.int64)


def forward(*speeds: float) -> np.ndarray:
    """Velocities along x [m/s]."""
    velocities = np.zeros((len(speeds), 3))
    velocities[:, 0] = speeds
    return velocities


def test_positions_are_the_integral_of_the_velocities_before_them() -> None:
    data = experience([6], forward(0.2, 0.4, 0.1, 0.3, 0.0, 0.0))
    rows = chunks_at(data, at(0, 1), 4, 1).rows
    assert rows[0, :, POSITION][:, 0] == pytest.approx([0.0, 0.01, 0.03, 0.035])
    assert rows[1, :, POSITION][:, 0] == pytest.approx([0.0, 0.02, 0.025, 0.04])
    assert rows[0, :, LINEAR_VELOCITY][:, 0] == pytest.approx([0.2, 0.4, 0.1, 0.3])
    assert (rows[..., QUATERNION] == (0.0, 0.0, 0.0, 1.0)).all()
    assert rows[0, :, GRIPPER] == pytest.approx(data.actions[:4, GRIPPER])


def test_a_row_of_two_frames_moves_as_far_as_both() -> None:
    data = experience([6], forward(0.2, 0.4, 0.1, 0.3, 0.6, 0.0))
    rows = chunks_at(data, at(0), 3, 2).rows[0]
    assert rows[:, POSITION][:, 0] == pytest.approx([0.0, 0.03, 0.05])
    assert rows[:, LINEAR_VELOCITY][:, 0] == pytest.approx([0.3, 0.2, 0.3])
    assert np.diff(rows[:, POSITION][:, 0]) == pytest.approx(rows[:-1, LINEAR_VELOCITY][:, 0] * 2 / FPS)
    assert rows[:, GRIPPER] == pytest.approx(data.actions[[0, 2, 4], GRIPPER])


def test_rows_count_up_to_the_end_of_the_episode() -> None:
    data = experience([4, 3], forward(*[0.1] * 7))
    weights = chunks_at(data, at(0, 2, 3, 4, 6), 4, 1).weights
    assert weights.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]


def test_rows_count_until_somebody_pushed_the_robot() -> None:
    data = experience([6], pushed=[2])
    weights = chunks_at(data, at(0, 2, 3), 4, 1).weights
    # The pushed frame itself counts: the expert's clean action there is what should be done.
    assert weights.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]]


def test_a_row_of_several_frames_counts_only_if_all_of_them_do() -> None:
    data = experience([5, 5], forward(*[0.1] * 5, *[0.5] * 5))
    chunks = chunks_at(data, at(0), 4, 2)
    assert chunks.weights.tolist() == [[1, 1, 0, 0]]  # the third would take its second frame from the next episode
    pushed = experience([8], pushed=[2])
    assert chunks_at(pushed, at(0), 4, 2).weights.tolist() == [[1, 0, 0, 0]]


def test_rotations_are_the_running_integral_of_the_angular_velocities_in_the_base_frame() -> None:
    rng = np.random.default_rng(0)
    data = experience([9])
    data.actions[:, ANGULAR_VELOCITY] = rng.uniform(-4.0, 4.0, (9, 3))
    start = Pose(np.zeros(3), normalise(rng.normal(size=4)))
    poses = [start]
    for angular in data.actions[:, ANGULAR_VELOCITY].astype(np.float64):
        poses.append(integrate(poses[-1], Twist(np.zeros(3), angular), 1.0 / FPS))
    absolute = np.zeros((4, 14))
    absolute[:, QUATERNION] = [pose.quaternion for pose in poses[:8:2]]
    rows = chunks_at(data, at(0), 4, 2).rows[0]
    np.testing.assert_allclose(rows[:, QUATERNION], to_relative(absolute, start)[:, QUATERNION], atol=1e-6)


def test_along_the_tools_axes_rows_are_what_a_policy_would_make_of_them_again() -> None:
    rng = np.random.default_rng(0)
    data = experience([9], rng.uniform(-0.4, 0.4, (9, 3)))
    data.actions[:, ANGULAR_VELOCITY] = rng.uniform(-4.0, 4.0, (9, 3))
    commanded = Pose(rng.normal(size=3), normalise(rng.normal(size=4)))
    measured = Pose(rng.normal(size=3), normalise(rng.normal(size=4)))
    data.states[0] = state_of(Observation(0, "", {}, measured, commanded, None, 0.5))
    along_base, along_tool = (chunks_at(data, at(0), 4, 1, axes).rows[0].astype(float) for axes in ("base", "tool"))
    np.testing.assert_allclose(
        to_absolute(along_tool, commanded, "tool"), to_absolute(along_base, commanded), atol=1e-5
    )
    assert np.abs(along_base - along_tool).max() > 0.01


@pytest.mark.parametrize(("dt_s", "frames"), [(0.05, 1), (0.1, 2), (0.5, 10)])
def test_a_row_is_a_whole_number_of_frames(dt_s: float, frames: int) -> None:
    assert stride_of(FPS, dt_s) == frames


@pytest.mark.parametrize("dt_s", [0.01, 0.07, 0.025])
def test_a_row_that_is_no_whole_number_of_frames_is_refused(dt_s: float) -> None:
    with pytest.raises(LearningError, match=r"model\.decoder\.dt_s is .* multiple of the data's 0\.05 s"):
        stride_of(FPS, dt_s)


def test_places_are_known_where_there_is_a_thing_and_its_goal_is_shown() -> None:
    privileged = np.zeros((2, 39), np.float32)
    privileged[:, 4:7], privileged[:, 36:39] = (0.1, 0.2, 0.3), (0.7, 0.8, 0.9)
    privileged[1, 11:14] = (0.4, 0.0, 0.6)
    places, known = places_of(privileged, np.array([True, False]))
    assert places[0] == pytest.approx([0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 0.7, 0.8, 0.9])
    assert known.tolist() == [[True] * 3 + [False] * 3 + [True] * 3, [True] * 6 + [False] * 3]


def test_what_took_long_or_was_pushed_often_is_hard() -> None:
    data = experience([5, 9, 4, 5], pushed=[19, 20])
    assert difficulty(data) == pytest.approx([1 / 3, 1.0, 0.0, 2 / 3])
    assert difficulty(experience([3])) == pytest.approx([0.0])


def test_datasets_are_joined_with_their_episodes_apart() -> None:
    one, two = experience([3, 2], tasks=("push-v3", "reach-v3")), experience([4], tasks=("door-open-v3",))
    both = joined([one, two])
    assert both.episodes.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert [both.task_of(frame) for frame in (0, 4, 8)] == ["push-v3", "reach-v3", "door-open-v3"]
    assert len(both) == 9
    assert len(both.images["front"]) == 9


def test_datasets_of_other_rates_or_cameras_are_not_joined() -> None:
    one = experience([3])
    with pytest.raises(LearningError, match=r"10 frames/s with front and of 20 frames/s with front"):
        joined([one, experience([3], fps=10)])
    with pytest.raises(LearningError, match="with top and of 20 frames/s with front"):
        joined([one, replace(one, images={"top": one.images["front"]})])


def test_the_networks_state_is_what_the_policy_gives_it() -> None:
    row = np.zeros((1, 17), np.float32)
    row[0, :3], row[0, 3:7] = (0.1, 0.6, 0.2), (0.0, 1.0, 0.0, 0.0)
    row[0, 7:10], row[0, 10:14], row[0, 14] = (0.12, 0.6, 0.2), (0.0, 1.0, 0.0, 0.0), 0.25
    (state,) = model_states(row)
    assert state[POSITION] == pytest.approx([0.1, 0.6, 0.2])
    assert state[LINEAR_VELOCITY] == pytest.approx([0.02, 0.0, 0.0], abs=1e-6)
    assert state[GRIPPER] == pytest.approx(0.25)
