"""Who commands the robot, from tick to tick: policy, human, instruction, silence, clocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import INSTRUCTION, GuardBench, pose, twist, twist_contract, with_limits

from vla_ros.contract import JointLimit
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_state import Mode, stops_in
from vla_ros.control.safety import is_at_rest
from vla_ros.types import NS_PER_S, JointState, Pose

S = NS_PER_S


def test_the_policy_reaches_its_target_and_stays():
    bench = GuardBench().armed()
    bench.policy_target = pose(x=0.1)
    bench.run(1.5)
    assert bench.source is Source.POLICY
    assert np.allclose(bench.measured.position, pose(x=0.1).position, atol=1e-4)


def test_an_incomplete_set_is_ignored_while_the_old_one_ages():
    bench = GuardBench().moving()
    bench.policy_target = None
    reasons = []
    for _ in range(30):
        bench.hear_policy(pose(x=-0.2), without=channels.POLICY_TWIST)
        bench.tick()
        reasons.append(bench.text)
        assert not (bench.source is Source.POLICY and bench.result.command.twist.linear[0] < -1e-6)
    in_command = sum(text == "policy in command" for text in reasons)
    assert in_command == round(bench.config.contract.timeouts.policy_s / bench.period_s)
    assert "fell silent" in bench.text and bench.result.status.is_fault


@pytest.mark.parametrize("missing", [channels.POLICY_POSE, channels.POLICY_GRIPPER, channels.POLICY_PROVENANCE])
def test_no_part_of_a_set_may_be_missing(missing):
    bench = GuardBench().armed()
    bench.hear_policy(pose(x=0.1), without=missing).tick()
    assert bench.source is Source.NOBODY


def test_a_part_that_arrives_a_tick_later_completes_its_set():
    bench = GuardBench().armed()
    bench.tick()
    stamp_ns = bench.ros_ns + 1
    bench.hear_policy(pose(x=0.1), without=channels.POLICY_GRIPPER).tick()
    assert bench.source is Source.NOBODY
    bench.hear(channels.POLICY_GRIPPER, 0.5, stamp_ns).tick()
    assert bench.source is Source.POLICY


def test_a_silent_policy_stops_within_its_timeout_and_stop_time():
    bench = GuardBench().moving()
    bench.policy_target = None
    contract = bench.config.contract
    bench.run(contract.timeouts.policy_s + contract.stop_time_s)
    assert bench.speed == 0.0 and "fell silent" in bench.text and bench.result.status.is_fault


def test_after_silence_the_policy_must_observe_again():
    bench = GuardBench().moving()
    old_ns, target = bench.ros_ns, bench.policy_target
    bench.policy_target = None
    bench.run(0.5)
    bench.policy_target, bench.policy_t_obs_ns = target, old_ns
    bench.run(0.5)
    assert bench.speed == 0.0 and "observe again" in bench.text
    bench.policy_t_obs_ns = bench.ros_ns
    bench.run(0.1)
    assert bench.source is Source.POLICY


def test_an_observation_from_the_future_is_none():
    bench = GuardBench().armed()
    bench.policy_target, bench.policy_t_obs_ns = pose(x=0.1), bench.ros_ns + 3600 * S
    bench.run(0.2)
    assert bench.source is Source.NOBODY


def test_a_set_for_another_instruction_is_refused():
    bench = GuardBench().armed()
    bench.hear_policy(pose(x=0.1), instruction="close the drawer").tick()
    assert bench.source is Source.NOBODY and bench.speed == 0.0


def test_a_new_instruction_makes_the_old_set_void_at_once():
    bench = GuardBench().moving()
    was = bench.speed
    bench.say("push the button").tick()
    assert bench.source is Source.NOBODY and bench.speed < was


def test_white_space_around_an_instruction_changes_nothing():
    bench = GuardBench().moving()
    bench.say(f"  {INSTRUCTION}\n").tick()
    assert bench.source is Source.POLICY


@pytest.mark.parametrize("words", ["", "  ", "stop", " STOP\n"])
def test_stop_or_nothing_holds_until_a_new_instruction_and_observation(words):
    bench = GuardBench().moving()
    bench.say(words).tick()
    bench.run(bench.config.contract.stop_time_s)
    assert bench.speed == 0.0 and bench.text == "nobody in command: told to stop"
    bench.policy_t_obs_ns = bench.ros_ns
    bench.say().run(0.1)
    assert bench.speed == 0.0 and "observe again" in bench.text
    bench.policy_t_obs_ns = None
    bench.run(0.1)
    assert bench.source is Source.POLICY


def test_stop_counts_even_if_the_old_instruction_follows_in_the_same_tick():
    bench = GuardBench().moving()
    bench.policy_t_obs_ns = bench.ros_ns
    bench.say("stop").say().tick()
    assert bench.source is Source.NOBODY


def test_teleop_takes_over_within_one_tick_and_without_a_jump():
    bench = GuardBench().moving()
    before = bench.result.command
    bench.held_deadman, bench.teleop_twist = True, twist(x=-0.3)
    after = bench.tick().command
    assert bench.source is Source.TELEOP
    assert np.linalg.norm(after.twist.linear - before.twist.linear) <= 5.0 * bench.period_s + 1e-9
    bench.run(0.4)
    assert bench.result.command.twist.linear[0] == pytest.approx(-0.3)


def test_a_held_deadman_alone_keeps_the_policy_out_and_the_robot_still():
    bench = GuardBench().moving()
    bench.held_deadman = True
    bench.run(0.3)
    assert bench.source is Source.TELEOP and bench.speed == 0.0


def test_a_released_deadman_hands_back_only_after_reobservation():
    bench = GuardBench().moving()
    bench.held_deadman = True
    bench.run(0.3)
    bench.held_deadman, bench.policy_t_obs_ns = False, bench.ros_ns
    bench.hear(channels.TELEOP_DEADMAN, False).run(0.2)
    assert bench.source is Source.NOBODY and bench.speed == 0.0 and "observe again" in bench.text
    bench.policy_t_obs_ns = None
    bench.tick()
    assert bench.source is Source.POLICY


def test_teleop_that_falls_silent_while_held_stops_and_does_not_resume():
    bench = GuardBench().moving()
    bench.held_deadman, bench.teleop_twist = True, twist(y=0.3)
    bench.run(0.2)
    bench.held_deadman, bench.teleop_twist = False, None
    timeouts = bench.config.contract.timeouts
    bench.run(timeouts.deadman_s + bench.config.contract.stop_time_s)
    assert bench.speed == 0.0 and "teleop fell silent" in bench.text and bench.result.status.is_fault
    bench.run(5.0)
    assert bench.speed == 0.0
    bench.hear(channels.TELEOP_DEADMAN, False).tick()
    bench.tick()
    assert bench.source is Source.POLICY


def test_a_teleop_twist_that_falls_silent_is_a_stop_while_the_deadman_speaks():
    bench = GuardBench().armed()
    bench.held_deadman, bench.teleop_twist = True, twist(y=0.3)
    bench.run(0.3)
    assert bench.speed == pytest.approx(0.3)
    bench.teleop_twist = None
    bench.run(bench.config.contract.timeouts.teleop_s + bench.config.contract.stop_time_s)
    assert bench.source is Source.TELEOP and bench.speed == 0.0


def test_teleop_without_its_deadman_moves_nothing():
    bench = GuardBench().armed()
    bench.teleop_twist = twist(x=0.3)
    bench.hear(channels.TELEOP_DEADMAN, False).run(0.3)
    assert bench.source is Source.NOBODY and bench.speed == 0.0


def test_a_teleop_pose_is_followed_and_a_far_one_stops():
    bench = GuardBench().armed()
    bench.held_deadman = True
    for _ in range(120):
        bench.hear(channels.TELEOP_POSE, pose(z=0.05), bench.ros_ns).tick()
    assert np.allclose(bench.measured.position, pose(z=0.05).position, atol=1e-4)
    bench.hear(channels.TELEOP_POSE, pose(x=0.45), bench.ros_ns).tick()
    assert bench.source is Source.NOBODY and "too far" in bench.text and bench.state.mode is Mode.ARMED


def test_the_human_moves_the_gripper_alone():
    bench = GuardBench().armed()
    bench.policy_target, bench.held_deadman = pose(), True
    bench.tick()
    bench.hear(channels.TELEOP_GRIPPER, 0.0, bench.ros_ns).tick()
    bench.tick()
    assert bench.result.command.gripper == pytest.approx(0.0)


def test_stale_feedback_stops_everybody_the_human_included():
    bench = GuardBench().armed()
    bench.held_deadman, bench.teleop_twist = True, twist(x=0.2)
    bench.run(0.2)
    bench.has_feedback = False
    contract = bench.config.contract
    bench.run(contract.feedback.ee_pose.max_age_s + contract.stop_time_s)
    assert bench.speed == 0.0 and "measured pose is missing or stale" in bench.text
    bench.has_feedback = True
    bench.run(0.1)
    assert bench.source is Source.TELEOP


def test_feedback_whose_stamps_are_old_is_stale_however_recently_received():
    bench = GuardBench().moving()
    bench.has_feedback = False
    frozen_ns = bench.ros_ns
    for tick in range(40):
        bench.hear(channels.EE_POSE, bench.measured, frozen_ns + tick).tick()
    assert "stale" in bench.text and bench.speed == 0.0


def test_a_stopped_clock_is_told_within_its_timeout_and_needs_reobservation():
    bench = GuardBench().moving()
    stopped_ns = bench.ros_ns
    bench.has_feedback, target = False, bench.policy_target
    bench.policy_target = None
    for _ in range(round(bench.config.contract.timeouts.clock_s / bench.period_s) + 2):
        bench.tick(ros_s=0.0)
    assert bench.text.startswith("nobody in command: ROS time stands still") and bench.speed == 0.0
    bench.has_feedback, bench.policy_target, bench.policy_t_obs_ns = True, target, stopped_ns
    bench.run(0.2)
    assert bench.speed == 0.0 and "observe again" in bench.text
    bench.policy_t_obs_ns = None
    bench.run(0.1)
    assert bench.source is Source.POLICY


def test_a_backward_clock_voids_what_was_heard_and_stops():
    bench = GuardBench().moving()
    bench.tick(ros_s=-5.0)
    assert bench.source is Source.NOBODY
    assert bench.result.status.values["clock jumped back"] == "1"
    bench.run(0.3)
    assert bench.speed == 0.0


def test_a_backward_clock_does_not_forget_a_human_who_fell_silent():
    bench = GuardBench().moving()
    bench.held_deadman = True
    bench.run(0.1)
    bench.held_deadman = False
    bench.tick(ros_s=-5.0)
    bench.say().run(1.0)
    assert bench.source is Source.NOBODY and "teleop fell silent" in bench.text


def test_a_late_tick_moves_the_robot_by_at_most_two_periods():
    bench = GuardBench().moving()
    before = bench.result.command
    bench.hear_policy(pose(x=0.25))
    after = bench.tick(steady_s=0.1).command
    moved = np.linalg.norm(after.pose.position - before.pose.position)
    assert moved <= 0.5 * 2 * bench.period_s + 1e-9
    assert bench.result.trace["dt_s"] == pytest.approx(2 * bench.period_s)


def test_a_guard_that_slept_longer_than_the_driver_waits_starts_from_rest_and_reobserves():
    bench = GuardBench(twist_contract()).moving()
    old_ns = bench.ros_ns
    bench.tick(steady_s=bench.config.contract.timeouts.driver_s + 0.05)
    assert bench.speed <= 5.0 * 2 * bench.period_s + 1e-9
    bench.policy_t_obs_ns = old_ns
    bench.run(0.3)
    assert bench.source is Source.NOBODY and bench.speed == 0.0


def test_a_guard_that_wakes_up_does_not_obey_what_its_socket_kept_from_its_sleep():
    """Under a simulated clock ROS time is of then as well, and an old set looks fresh beside it."""
    bench = GuardBench().moving()
    bench.policy_target = None
    bench.tick(ros_s=0.01, steady_s=bench.config.contract.timeouts.driver_s + 0.7)
    for _ in range(5):
        bench.hear_policy(pose(x=0.25)).tick(ros_s=0.01)
        assert bench.source is Source.NOBODY and bench.speed == 0.0
    bench.tick(ros_s=0.65)  # the clock has caught up
    bench.policy_target = pose(x=0.25)
    bench.run(bench.config.contract.timeouts.policy_s + 2 * bench.period_s)
    assert bench.source is Source.POLICY


@pytest.mark.parametrize("is_policy_asleep_too", [False, True])
def test_a_sleep_in_the_middle_of_a_motion_is_one_stop(is_policy_asleep_too):
    bench = GuardBench().moving()
    if is_policy_asleep_too:
        bench.policy_target = None
    else:
        bench.policy_t_obs_ns = bench.ros_ns
    bench.tick(steady_s=bench.config.contract.timeouts.driver_s + 0.05)
    bench.run(0.1)
    assert bench.source is Source.NOBODY
    assert (stops_in(bench.state.counts), bench.state.counts["slept"]) == (1, 1)


def test_a_sleep_while_nobody_is_in_command_is_no_stop():
    bench = GuardBench().armed()
    bench.tick(steady_s=bench.config.contract.timeouts.driver_s + 0.05)
    assert (stops_in(bench.state.counts), bench.state.counts["slept"]) == (0, 1)


def test_being_told_to_stop_or_to_do_something_else_is_no_stop():
    bench = GuardBench().moving()
    bench.say("stop").run(0.3)
    bench.say().run(0.3)
    assert bench.source is Source.POLICY
    bench.say("close the drawer").run(0.3)
    assert stops_in(bench.state.counts) == 0
    bench.say().run(0.1)
    bench.policy_target = None
    bench.run(0.5)
    assert stops_in(bench.state.counts) == 1


def _joint_bench() -> GuardBench:
    contract = with_limits(joints={"right_j1": JointLimit(-1.0, 1.0)}, joint_margin=0.1)
    bench = GuardBench(contract)
    bench.hear(channels.JOINT_STATES, JointState(("right_j1",), np.array([0.5])), bench.ros_ns)
    return bench.moving()


def test_a_joint_near_its_limit_stops_the_policy_and_not_the_human():
    bench = _joint_bench()
    for _ in range(20):
        bench.hear(channels.JOINT_STATES, JointState(("right_j1",), np.array([0.95])), bench.ros_ns).tick()
    assert bench.speed == 0.0 and "right_j1 at 0.950" in bench.text and bench.result.status.is_fault
    bench.held_deadman, bench.teleop_twist = True, twist(x=-0.2)
    bench.hear(channels.JOINT_STATES, JointState(("right_j1",), np.array([0.95])), bench.ros_ns).tick()
    assert bench.source is Source.TELEOP


def test_joints_that_are_not_heard_are_not_taken_to_be_within_their_limits():
    bench = _joint_bench()
    bench.run(0.5)
    assert bench.source is Source.NOBODY and bench.speed == 0.0 and "joint_states" in bench.text


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["position", "quaternion", "twist", "gripper", "measured", "teleop"])
def test_what_is_not_finite_moves_nothing(part, value):
    bench = GuardBench().armed()
    bench.tick()
    bad = np.array([0.0, value, 0.0])
    target, moving, gripper = pose(), twist(), 0.5
    if part == "position":
        target = Pose(bad, target.quaternion)
    elif part == "quaternion":
        target = Pose(target.position, np.array([0.0, value, 0.0, 0.0]))
    elif part == "twist":
        moving = twist(x=value)
    elif part == "gripper":
        gripper = value
    elif part == "measured":
        bench.has_feedback = False
        bench.hear(channels.EE_POSE, Pose(bad, target.quaternion), bench.ros_ns + 1)
    else:
        bench.held_deadman, bench.teleop_twist = True, twist(x=value)
    bench.hear_policy(target, moving, gripper).tick()
    command = bench.result.command
    assert is_at_rest(command.twist) and np.isfinite(command.pose.position).all()
    assert command.gripper is None or math.isfinite(command.gripper)
    assert any("not finite" in name for name in bench.result.status.values)


def test_a_sentence_given_again_after_another_needs_a_new_answer():
    bench = GuardBench().moving()
    bench.policy_target = None
    bench.say("another task").say().tick()
    assert bench.source is Source.NOBODY
    bench.run(0.05)
    assert bench.source is Source.NOBODY
    bench.hear_policy(pose(x=0.05)).tick()
    assert bench.source is Source.POLICY
