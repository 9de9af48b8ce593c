"""Arming, latches, the emergency stop, shadow, another world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import GuardBench, pose, twist, twist_contract, with_limits, with_required_emergency_stop

from vla_ros.contract import JointLimit
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_rules import why_not_arm, why_not_reset
from vla_ros.control.guard_state import Mode
from vla_ros.control.safety import is_at_rest
from vla_ros.types import JointState


def test_nothing_moves_before_arming_teleop_included():
    bench = GuardBench().say()
    bench.policy_target, bench.held_deadman, bench.teleop_twist = pose(x=0.1), True, twist(x=0.3)
    assert all(result.command is None for result in bench.run(0.5))
    assert bench.text == "nobody in command: disarmed"
    assert np.array_equal(bench.result.commanded_pose.position, bench.measured.position)


def test_the_policy_must_observe_after_arming():
    bench = GuardBench().say()
    bench.policy_target, bench.policy_t_obs_ns = pose(x=0.1), bench.ros_ns
    bench.run(0.1)
    bench.arm().run(0.1)
    assert bench.source is Source.NOBODY and "observe again" in bench.text


@pytest.mark.parametrize("feedback", ["never", "stale"])
def test_arming_is_refused_without_feedback(feedback):
    bench = GuardBench()
    if feedback == "stale":
        bench.run(0.1)
    bench.has_feedback = False
    bench.run(0.5)
    assert "measured pose" in why_not_arm(bench.state, bench.now, bench.config.contract)
    bench.arm().tick()
    assert bench.state.mode is Mode.DISARMED


def test_a_deadman_from_before_arming_must_be_heard_anew():
    bench = GuardBench()
    bench.hear(channels.TELEOP_DEADMAN, True).run(2.0)
    bench.policy_target = pose(x=0.1)
    bench.armed()
    bench.run(0.1)
    assert bench.source is Source.POLICY


def test_disarming_brakes_within_the_limits_and_then_says_nothing():
    bench = GuardBench().moving()
    bench.hear(channels.ARM, False).tick()
    assert bench.state.mode is Mode.DISARMED and bench.speed > 0.0
    results = bench.run(0.3)
    sent = [result.command for result in results if result.command is not None]
    assert is_at_rest(sent[-1].twist) and results[-1].command is None


def test_arming_while_still_braking_does_not_jump():
    bench = GuardBench()
    bench.is_followed = False
    bench.moving()
    bench.hear(channels.ARM, False).tick()
    before = bench.result.command
    bench.arm().tick()
    after = bench.result.command
    assert np.linalg.norm(after.twist.linear - before.twist.linear) <= 5.0 * bench.period_s + 1e-9
    assert np.allclose(after.pose.position, before.pose.position + after.twist.linear * bench.period_s)


def test_disarming_and_arming_in_one_tick_does_not_move_the_target():
    bench = GuardBench()
    bench.is_followed, bench.is_noisy = False, True
    bench.moving()
    bench.policy_target = None
    bench.run(0.5)
    before = bench.result.command
    bench.hear(channels.ARM, False).arm().tick()
    assert np.array_equal(bench.result.command.pose.position, before.pose.position)


def test_the_gripper_keeps_its_rate_from_the_first_command_on_and_over_arming():
    contract = twist_contract()
    contract = replace(contract, gripper=replace(contract.gripper, max_rate_per_s=1.0, at_start=0.5))
    bench = GuardBench(contract).armed()
    openings = [0.5]
    openings += [bench.hear_policy(pose(), gripper=1.0).tick().command.gripper for _ in range(3)]
    bench.hear(channels.ARM, False).tick()
    bench.arm().tick()
    openings.append(bench.hear_policy(pose(), gripper=0.0).tick().command.gripper)
    assert np.abs(np.diff(openings)).max() <= bench.period_s + 1e-9


@pytest.mark.parametrize("pause", ["disarm", "latch"])
def test_the_gripper_is_sent_nothing_after_arming_until_somebody_commands_it(pause: str):
    contract = replace(twist_contract(), gripper=replace(twist_contract().gripper, max_rate_per_s=1.0, at_start=0.5))
    bench = GuardBench(contract).armed()
    bench.hear_policy(pose(), gripper=1.0).tick()
    assert bench.result.command.gripper > 0.5
    if pause == "disarm":
        bench.hear(channels.ARM, False)
    else:
        bench.hear(channels.EMERGENCY_STOP, True).hear(channels.EMERGENCY_STOP, False)
    bench.say("stop").run(0.5)
    bench.hear(channels.RESET, None).arm()
    assert {result.command.gripper for result in bench.run(0.2)} == {None}
    bench.held_deadman, bench.teleop_twist = True, twist()
    assert bench.tick().command.gripper is None, "a human who moves the arm alone"
    bench.hear(channels.TELEOP_GRIPPER, 1.0, bench.ros_ns + 1).tick()
    assert 0.5 < bench.result.command.gripper <= 0.5 + 2.0 * bench.period_s + 1e-9, "its rate goes on from what it has"


def test_the_emergency_stop_latches_at_once_and_only_reset_then_arm_lead_out():
    bench = GuardBench().moving()
    bench.hear(channels.EMERGENCY_STOP, True).hear(channels.EMERGENCY_STOP, False).tick()
    assert bench.state.mode is Mode.LATCHED and "emergency stop" in bench.text
    bench.run(bench.config.contract.stop_time_s)
    assert bench.speed == 0.0
    bench.arm().tick()
    assert bench.state.mode is Mode.LATCHED
    assert "reset first" in why_not_arm(bench.state, bench.now, bench.config.contract)
    bench.hear(channels.RESET, None).run(0.2)
    assert bench.state.mode is Mode.DISARMED and bench.result.command is None
    bench.arm().run(0.2)
    assert bench.source is Source.POLICY


def test_the_emergency_stop_wins_over_a_held_deadman():
    bench = GuardBench().armed()
    bench.held_deadman, bench.teleop_twist = True, twist(x=0.3)
    bench.run(0.2)
    bench.hear(channels.EMERGENCY_STOP, True).run(0.3)
    assert bench.source is Source.NOBODY and bench.speed == 0.0


def test_the_emergency_stop_latches_while_disarmed():
    bench = GuardBench()
    bench.hear(channels.EMERGENCY_STOP, True).tick()
    bench.hear(channels.EMERGENCY_STOP, False).arm().tick()
    assert bench.state.mode is Mode.LATCHED


def test_reset_is_refused_while_the_emergency_stop_is_on():
    bench = GuardBench().moving()
    bench.hear(channels.EMERGENCY_STOP, True).tick()
    bench.hear(channels.RESET, None).tick()
    assert bench.state.mode is Mode.LATCHED
    assert "still on" in why_not_reset(bench.state, bench.now, bench.config.contract)


def test_a_backward_clock_does_not_release_the_emergency_stop():
    bench = GuardBench().moving()
    bench.hear(channels.EMERGENCY_STOP, True).tick()
    bench.tick(ros_s=-5.0)
    bench.hear(channels.RESET, None).tick()
    assert bench.state.mode is Mode.LATCHED


def test_silence_of_a_required_emergency_stop_is_one():
    bench = GuardBench(with_required_emergency_stop())
    bench.say().arm().tick()
    assert bench.state.mode is Mode.DISARMED
    bench.hear(channels.EMERGENCY_STOP, False).armed()
    bench.policy_target = pose(x=0.25)
    bench.run(0.3)
    assert bench.source is Source.POLICY
    bench.run(0.3)
    assert bench.state.mode is Mode.LATCHED and "not heard" in bench.text
    bench.hear(channels.RESET, None).tick()
    assert bench.state.mode is Mode.LATCHED


def test_a_first_target_far_from_the_robot_latches():
    bench = GuardBench().armed()
    bench.hear_policy(pose(x=0.35)).tick()
    assert bench.state.mode is Mode.LATCHED and "away exceeds" in bench.text and bench.speed == 0.0


def test_a_target_jump_latches_in_the_tick_it_arrives():
    bench = GuardBench().moving()
    was = bench.speed
    bench.policy_target = None
    bench.hear_policy(pose(x=-0.4)).tick()
    assert bench.state.mode is Mode.LATCHED and bench.speed < was


def test_a_turned_target_latches_as_well():
    bench = GuardBench().armed()
    target = replace(pose(), quaternion=np.array([0.0, np.cos(0.4), np.sin(0.4), 0.0]))
    bench.hear_policy(target).tick()
    assert bench.state.mode is Mode.LATCHED and "rad away" in bench.text


def test_a_robot_that_does_not_follow_latches():
    bench = GuardBench(with_limits(max_following_error_m=0.3))
    bench.is_followed, bench.is_noisy = False, True
    bench.armed()
    bench.held_deadman, bench.teleop_twist = True, twist(x=0.4)
    bench.run(1.5)
    assert bench.state.mode is Mode.LATCHED and "following error" in bench.text and bench.speed == 0.0


def test_a_measured_pose_that_repeats_itself_while_the_command_moves_latches():
    bench = GuardBench()
    bench.is_followed = False
    bench.armed()
    bench.held_deadman, bench.teleop_twist = True, twist(x=0.4)
    max_age_s = bench.config.contract.feedback.ee_pose.max_age_s
    bench.run(max_age_s - 0.05)
    assert bench.source is Source.TELEOP
    bench.run(0.1)
    assert bench.state.mode is Mode.LATCHED and "frozen" in bench.text


def test_a_measured_pose_that_repeats_itself_while_the_command_turns_latches():
    bench = GuardBench(twist_contract())
    bench.is_followed = False
    bench.armed()
    bench.held_deadman, bench.teleop_twist = True, twist(angular=(0.0, 0.0, 0.3))
    bench.run(bench.config.contract.feedback.ee_pose.max_age_s + 0.3)
    assert bench.state.mode is Mode.LATCHED and "frozen" in bench.text


@pytest.mark.parametrize("is_frozen", [True, False])
def test_joint_states_that_repeat_themselves_while_the_command_moves_latch_where_limits_rely_on_them(is_frozen: bool):
    bench = GuardBench(with_limits(joints={"right_j1": JointLimit(-1.0, 1.0)}, joint_margin=0.1)).armed()
    bench.held_deadman, bench.teleop_twist = True, twist(x=0.4)
    for tick in range(round(1.5 * bench.config.contract.feedback.joint_states.max_age_s / bench.period_s)):
        joints = np.array([0.5 if is_frozen else 0.5 + 1e-9 * tick])
        bench.hear(channels.JOINT_STATES, JointState(("right_j1",), joints), bench.ros_ns).tick()
    assert (bench.state.mode is Mode.LATCHED) == is_frozen
    assert ("the joint states are frozen" in bench.text) == is_frozen


@pytest.mark.parametrize("rested_s", [0.0, 5.0])
def test_a_robot_at_rest_may_repeat_itself_for_ever(rested_s: float):
    bench = GuardBench().armed()
    bench.run(rested_s)
    bench.held_deadman, bench.teleop_twist = True, twist(x=0.4)
    bench.run(0.4)
    assert bench.source is Source.TELEOP


def test_after_a_latch_the_commanded_pose_is_the_measured_one():
    bench = GuardBench()
    bench.is_followed = False
    bench.moving()
    bench.hear(channels.EMERGENCY_STOP, True).run(0.5)
    assert np.allclose(bench.result.commanded_pose.position, bench.measured.position)


def test_there_is_one_commanded_pose_of_each_instant():
    bench = GuardBench().moving()
    assert bench.tick().commanded_pose is not None
    assert bench.tick(ros_s=0.0).commanded_pose is None
    assert bench.tick().commanded_pose is not None


def test_another_world_disarms_and_forgets_the_motion():
    bench = GuardBench().moving()
    bench.measured = pose(x=-0.3)
    bench.hear(channels.SIM_RESET, None).tick()
    assert bench.state.mode is Mode.DISARMED and bench.result.command is None
    bench.run(0.1)
    assert np.allclose(bench.result.commanded_pose.position, bench.measured.position)
    bench.policy_target, bench.policy_t_obs_ns = pose(x=-0.25), bench.ros_ns
    bench.arm().run(0.1)
    assert bench.source is Source.NOBODY


def test_another_world_does_not_release_a_latch():
    bench = GuardBench().moving()
    bench.hear(channels.EMERGENCY_STOP, True).hear(channels.SIM_RESET, None).tick()
    assert bench.state.mode is Mode.LATCHED


def test_shadow_decides_and_tells_but_sends_nothing():
    bench = GuardBench(shadow=True).armed()
    bench.policy_target = pose(x=0.25)
    results = bench.run(0.3)
    assert all(result.command is None for result in results)
    assert bench.source is Source.POLICY and bench.text == "in shadow, policy in command"
    assert np.array_equal(bench.result.commanded_pose.position, bench.measured.position)
