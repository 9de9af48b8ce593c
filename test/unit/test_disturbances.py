"""What is done to a simulated robot at work is what it says, comes at its instant, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract_file import load_contract
from vla_ros.errors import SimError
from vla_ros.learning.evaluation.performer import Performer
from vla_ros.learning.evaluation.subject import policy_subject
from vla_ros.learning.evaluation.trials import Order, Trial
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.oracle import create
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.disturbances import LEAST_MOVED_M, Disturbance, drawn, intruder_of
from vla_ros.sim.episode import run_episode
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.variations import Variation
from vla_ros.types import FloatArray

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
THING = slice(4, 7)  # of what the simulator knows
FROM_STEP = 20


def thing(robot: SimRobot) -> FloatArray:
    return robot.state().privileged[THING]


@pytest.mark.parametrize("task", ["push-v3", "peg-insert-side-v3", "drawer-open-v3", "window-close-v3"])
def test_a_thing_is_moved_by_a_hands_breadth_in_a_fifth_of_a_second(task: str) -> None:
    robot, intruder = SimRobot(task), intruder_of(Disturbance("moved", FROM_STEP, seed=3))
    places = []
    for step in range(FROM_STEP + 30):
        robot.step(robot.holding(), 0.5)
        intruder.act(robot, step)
        places.append(thing(robot))
    assert intruder.began_step == FROM_STEP
    assert np.linalg.norm(places[FROM_STEP - 1] - places[10]) < 0.01
    moved_m = np.linalg.norm(places[FROM_STEP + 17] - places[FROM_STEP - 1])
    assert LEAST_MOVED_M - 0.01 < moved_m < 0.14
    assert np.linalg.norm(places[-1] - places[FROM_STEP + 20]) < 0.02, "it is let go, and stays"


def test_a_thing_that_cannot_move_far_is_left_alone() -> None:
    robot, intruder = SimRobot("button-press-topdown-v3"), intruder_of(Disturbance("moved", 0, seed=3))
    for step in range(5):
        robot.step(robot.holding(), 0.5)
        intruder.act(robot, step)
    assert intruder.began_step is None


def test_what_is_held_slips_and_the_next_world_can_be_held_again() -> None:
    task, robot = "pick-place-v3", SimRobot("pick-place-v3")
    said = load_sentences().usual(task)
    intruder = intruder_of(Disturbance("slipped", FROM_STEP, seed=0))
    assert not run_episode(robot, create(CONTRACT, {}), CONTRACT, said, 300, intruder=intruder).success
    assert intruder.began_step is not None and intruder.began_step > FROM_STEP, "nothing was held yet"
    assert not robot.held() and thing(robot)[2] < 0.05
    robot.reset(task, robot.variation)
    assert run_episode(robot, create(CONTRACT, {}), CONTRACT, said, 500).success


def test_a_covered_camera_is_dark_from_its_instant_on_and_does_not_look_frozen() -> None:
    intruder = intruder_of(Disturbance("covered", 8, seed=1))
    images = {view: np.full((12, 16, 3), 128, np.uint8) for view in ("front", "wrist")}
    assert intruder.show(images, 0) is images and intruder.began_step is None
    first, second = intruder.show(images, 8), intruder.show(images, 16)
    assert intruder.began_step == 8
    (covered,) = [view for view in images if first[view] is not images[view]]
    assert first[covered].mean() < 20 and first[covered].std() < 10 and first[covered].shape == (12, 16, 3)
    assert second[covered].mean() < 20 and not np.array_equal(first[covered], second[covered])


def test_the_same_seed_is_the_same_disturbance_and_an_unknown_kind_is_refused() -> None:
    assert drawn("moved", 7) == drawn("moved", 7) != drawn("moved", 8)
    assert all(0.3 <= drawn("covered", seed).from_step * CONTROL_DT_S <= 0.91 for seed in range(50))
    with pytest.raises(SimError, match="'stolen' is not a disturbance; choose from moved, slipped, covered"):
        drawn("stolen", 0)


def test_a_disturbed_trial_ends_so_long_after_it_and_an_undisturbed_one_after_success() -> None:
    said = load_sentences().usual("push-v3")
    trials = [
        Trial("moved", "push-v3", "push-v3", Variation("test", 0), "training", said, disturbance=disturbance)
        for disturbance in (None, Disturbance("moved", FROM_STEP, 0))
    ]
    with Performer(policy_subject("oracle")) as performer:
        plain, alone, disturbed = (
            performer.perform(Order(trial, 400, 1, linger_steps))
            for trial, linger_steps in ((trials[0], 0), (trials[0], 40), (trials[1], 40))
        )
    assert plain.success and alone.success and alone.steps == plain.steps + 40
    assert plain.disturbed_s is None and alone.disturbed_s is None
    assert disturbed.disturbed_s == pytest.approx(FROM_STEP * CONTROL_DT_S)
    assert disturbed.steps == FROM_STEP + 40 + 1
