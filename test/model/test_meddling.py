"""Somebody meddles with a thing, the robot moves one itself: the first is told from the second once it was taught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.trials import Outcome
from vla_ros.learning.meddled import suspicions, teach
from vla_ros.model.meddling import LOOKS, Meddling, glimpse, looked_back
from vla_ros.types import Observation, Pose

LOOK_S, LONG = 0.1, 24


def at(x_m: float) -> Pose:
    return Pose(np.array([x_m, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))


def outcome(glimpses: np.ndarray, disturbed_s: float | None = None) -> Outcome:  # type: ignore[type-arg]
    told = tuple((LOOK_S * (number + 1), 0.0) for number in range(len(glimpses)))
    return Outcome(
        *("moved", "push-v3", "push-v3", "train:0", "training", "push it"),
        success=True,
        steps=160,
        stops=0,
        latches=0,
        clips={},
        surprises=told,
        glimpses=tuple(map(tuple, glimpses.tolist())),
        disturbed_s=disturbed_s,
    )


def run(rng: np.random.Generator, is_disturbed: bool) -> Outcome:
    """A tool goes to a thing and takes it along; in some the thing is moved before that. Seen with 3 mm of noise."""
    thing, tool, velocity = rng.uniform(-0.2, 0.2, 3), np.zeros(3), np.zeros(3)
    begins = int(rng.integers(4, 8))
    way = rng.normal(size=3)
    way *= 0.1 / np.linalg.norm(way)
    found = []
    for number in range(LONG):
        distance = thing - tool
        is_held = np.linalg.norm(distance) < 0.02
        velocity = np.array([0.0, 0.0, 0.02]) if is_held else 0.2 * distance
        velocity *= min(1.0, 0.02 / (np.linalg.norm(velocity) + 1e-9))
        tool = tool + velocity
        thing = thing + velocity if is_held else thing
        if is_disturbed and number in (begins, begins + 1):
            thing = thing + way / 2
        seen = thing + 0.003 * rng.normal(size=3)
        found.append(np.concatenate([seen - tool, seen, velocity, np.zeros(3), [1.0]]))
    return outcome(np.array(found), LOOK_S * begins if is_disturbed else None)


@pytest.mark.timeout(120)
def test_what_it_was_taught_it_tells_in_other_runs() -> None:
    rng = np.random.default_rng(0)
    meddling = Meddling(places=1)
    teach(meddling, [run(rng, is_disturbed=number % 3 == 0) for number in range(120)])
    calm = max(suspicions(meddling, run(rng, is_disturbed=False)).max() for _ in range(100))
    disturbed = [run(rng, is_disturbed=True) for _ in range(50)]
    caught = np.mean([_peak(meddling, one) > calm for one in disturbed])
    print(f"{caught:.0%} above everything in 100 undisturbed runs")
    assert caught >= 0.8


def _peak(meddling: Meddling, one: Outcome) -> float:
    assert one.disturbed_s is not None
    since = np.array([at_s - one.disturbed_s for at_s, _ in one.surprises])
    return float(suspicions(meddling, one)[(since > 0.0) & (since <= 0.95)].max())


def test_teaching_is_the_same_twice_and_leaves_nothing_to_what_was_learned_before() -> None:
    rng = np.random.default_rng(1)
    runs = [run(rng, is_disturbed=number % 3 == 0) for number in range(6)]
    first, second = Meddling(places=1), Meddling(places=1)
    teach(first, runs)
    teach(second, runs[:3])
    teach(second, runs)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name]), name


def test_who_was_taught_nothing_suspects_nobody() -> None:
    rng = np.random.default_rng(2)
    one, meddling = run(rng, is_disturbed=True), Meddling(places=1).eval()
    assert suspicions(meddling, one).max() < 1e-9
    teach(meddling, [one, run(rng, is_disturbed=False)])
    assert suspicions(meddling, one).max() > 0.1
    meddling.forget()
    assert suspicions(meddling, one).max() < 1e-9


def test_without_runs_of_both_kinds_nothing_can_be_learned() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(LearningError, match="some of both"):
        teach(Meddling(places=1), [run(rng, is_disturbed=False)])
    with pytest.raises(LearningError, match="looked at twice"):
        teach(Meddling(places=1), [replace(run(rng, is_disturbed=True), surprises=(), glimpses=())])


def test_the_first_look_stands_for_those_before_it() -> None:
    looks = torch.arange(3.0).reshape(3, 1)
    assert looked_back(looks).flatten().tolist() == [0.0] * (LOOKS - 3) + [0.0, 1.0, 2.0]
    many = torch.arange(9.0).reshape(9, 1)
    assert looked_back(many).flatten().tolist() == list(map(float, range(9 - LOOKS, 9)))


def test_a_glimpse_tells_of_the_things_from_both_sides_and_of_the_robot() -> None:
    now = Observation(
        t_obs_ns=0,
        instruction="push it",
        images={},
        ee_pose=at(0.1),
        commanded_pose=at(0.12),
        joint_positions=None,
        gripper=0.5,
    )
    seen = glimpse(np.array([[0.3, 0.0, -0.1]]), at(0.11), now)
    places, motion, lag, gripper = seen[:6], seen[6:9], seen[9:12], seen[12]
    np.testing.assert_allclose(places[:3], [0.3, 0.0, -0.1])
    np.testing.assert_allclose(places[3:] - now.ee_pose.position, [0.3, 0.0, -0.1])
    np.testing.assert_allclose(motion, [0.01, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(lag, [0.02, 0.0, 0.0], atol=1e-12)
    assert gripper == 0.5
