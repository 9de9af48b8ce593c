"""The guard's rules, one function each: what latches it, what keeps it from arming, who claims the robot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.arbiter import (
    POLICY_PRIORITY,
    SAFETY_PRIORITY,
    TELEOP_PRIORITY,
    Claim,
    Lock,
    Source,
)
from vla_ros.control.frozen import MOVED_M
from vla_ros.control.guard_state import GuardConfig, GuardState, Mode, StillFeedback
from vla_ros.control.intents import Intent, Move, Reason, Stop, Track
from vla_ros.control.safety import distance, is_at_rest
from vla_ros.control.streams import MAX_FUTURE_S, age_text, is_fresh, receive_age_s
from vla_ros.geometry import length, zero_twist
from vla_ros.types import NS_PER_S, FloatArray, JointState, Now, Pose, instruction_hash, is_hold

_MOVED_RAD = 0.05


def emergency_stop(state: GuardState, now: Now, contract: Contract) -> str:
    """Why the emergency stop is on; empty if it is off. Silence of a required one is one."""
    heard = state.streams.newest(channels.EMERGENCY_STOP)
    if heard is not None and heard.value:
        return "emergency stop"
    rule = contract.emergency_stop
    if rule.required and (heard is None or receive_age_s(heard, now) > rule.silence_s):
        return f"emergency stop not heard for {rule.silence_s} s"
    return ""


def following_error(state: GuardState, config: GuardConfig) -> str:
    """Why the robot does not follow; empty if it does. A twist contract derives the pose, so nothing can differ."""
    limits = config.contract.limits
    measured = state.streams.newest(channels.EE_POSE)
    if config.shadow or state.motion is None or measured is None:
        return ""
    if limits.max_following_error_m is None or limits.max_following_error_rad is None:
        return ""
    metres, radians = distance(state.motion.pose, measured.value)
    if metres > limits.max_following_error_m:
        return f"following error of {metres:.3f} m exceeds {limits.max_following_error_m} m"
    if radians > limits.max_following_error_rad:
        return f"following error of {radians:.3f} rad exceeds {limits.max_following_error_rad} rad"
    return ""


def follow_still_feedback(state: GuardState, dt_s: float, contract: Contract) -> Mapping[str, StillFeedback]:
    """How far the command has moved since it set off, or since a feedback last changed by a single bit."""
    motion = state.motion
    if motion is None:
        return {}
    found = {}
    is_resting = is_at_rest(motion.twist)
    for channel in _believed(contract):
        heard, still = state.streams.newest(channel), state.still.get(channel)
        if heard is None or heard.stamp_ns is None:
            continue
        numbers = _numbers(heard.value)
        if still is None or is_resting or not np.array_equal(numbers, still.numbers):
            found[channel] = StillFeedback(numbers, heard.stamp_ns)
        else:
            moved_m = still.moved_m + dt_s * length(motion.twist.linear)
            moved_rad = still.moved_rad + dt_s * length(motion.twist.angular)
            found[channel] = StillFeedback(numbers, still.since_ns, moved_m, moved_rad)
    return found


def frozen_feedback(state: GuardState, config: GuardConfig) -> str:
    """Which feedback is not believed, however fresh its stamps; empty if all is.

    No sensor repeats itself to the last bit while the robot moves.
    """
    if config.shadow:
        return ""
    for channel, (said, max_age_s) in _believed(config.contract).items():
        heard, still = state.streams.newest(channel), state.still.get(channel)
        if still is None or heard is None or heard.stamp_ns is None:
            continue
        repeated_s = (heard.stamp_ns - still.since_ns) / NS_PER_S
        has_moved = still.moved_m > MOVED_M or still.moved_rad > _MOVED_RAD
        if repeated_s > max_age_s and has_moved:
            return f"{said} while the command moved {still.moved_m:.3f} m, {still.moved_rad:.3f} rad"
    return ""


def _believed(contract: Contract) -> Mapping[str, tuple[str, float]]:
    """The feedback on which the guard relies, by channel: what is said where it is frozen, its largest age [s]."""
    feedback = contract.feedback
    pose = {channels.EE_POSE: ("the measured pose is frozen", feedback.ee_pose.max_age_s)}
    if contract.limits.joint_margin is None:
        return pose
    return {**pose, channels.JOINT_STATES: ("the joint states are frozen", feedback.joint_states.max_age_s)}


def _numbers(value: Pose | JointState) -> FloatArray:
    if isinstance(value, JointState):
        return value.positions
    return np.concatenate([value.position, value.quaternion])


def target_jump(state: GuardState, target: Track, contract: Contract) -> str:
    """Why a target is out of reach from the commanded pose; empty if it is not."""
    if state.motion is None:
        return ""
    metres, radians = distance(state.motion.pose, target.pose)
    limits = contract.limits
    if metres > limits.max_target_jump_m:
        return f"target {metres:.3f} m away exceeds {limits.max_target_jump_m} m"
    if radians > limits.max_target_jump_rad:
        return f"target {radians:.3f} rad away exceeds {limits.max_target_jump_rad} rad"
    return ""


def joint_near_limit(state: GuardState, now: Now, contract: Contract) -> str:
    """Which joint is within its margin, or that none is heard; empty if all is well or the contract has no limits."""
    sample = state.streams.newest(channels.JOINT_STATES)
    margin = contract.limits.joint_margin
    if margin is None:
        return ""
    if sample is None or not is_fresh(sample, now, contract.feedback.joint_states.max_age_s):
        return f"{channels.JOINT_STATES}: {age_text(sample, now)}"
    for name, position in zip(sample.value.names, sample.value.positions, strict=True):
        limit = contract.limits.joints.get(name)
        if limit is not None and not limit.min + margin <= position <= limit.max - margin:
            return f"{name} at {position:.3f}"
    return ""


def why_not_arm(state: GuardState, now: Now, contract: Contract) -> str:
    """Why arming is refused; empty if it is not."""
    if state.mode is Mode.LATCHED:
        return f"latched by {state.latched_by}: reset first"
    stop = emergency_stop(state, now, contract)
    if stop:
        return stop
    if not is_fresh(state.streams.newest(channels.EE_POSE), now, contract.feedback.ee_pose.max_age_s):
        return Reason.FEEDBACK_STALE.value
    return ""


def why_not_reset(state: GuardState, now: Now, contract: Contract) -> str:
    """Why a reset is refused; empty if it is not."""
    stop = emergency_stop(state, now, contract)
    return f"{stop} is still on" if stop else ""


def safety_locks(state: GuardState, now: Now, stalled_s: float, contract: Contract) -> list[Lock]:
    """Conditions under which nobody moves the robot, human included. The first that is locked gives the reason."""
    stops = []
    if state.mode is Mode.LATCHED:
        stops.append(Stop(Reason.LATCHED, state.latched_by))
    if state.mode is Mode.DISARMED:
        stops.append(Stop(Reason.DISARMED))
    if stalled_s > contract.timeouts.clock_s:
        stops.append(Stop(Reason.CLOCK_STOPPED, f"for {stalled_s:.1f} s"))
    if not is_fresh(state.streams.newest(channels.EE_POSE), now, contract.feedback.ee_pose.max_age_s):
        stops.append(Stop(Reason.FEEDBACK_STALE))
    return [Lock(SAFETY_PRIORITY, True, stop) for stop in stops]


def teleop_claim(state: GuardState, now: Now, contract: Contract) -> Claim | None:
    """The human's claim: as long as the deadman is held, and as long as it has fallen silent while held."""
    deadman = state.streams.newest(channels.TELEOP_DEADMAN)
    if deadman is None or not deadman.value:
        return None
    if receive_age_s(deadman, now) > contract.timeouts.deadman_s:
        return Claim(Source.TELEOP, TELEOP_PRIORITY, Stop(Reason.TELEOP_SILENT))
    return Claim(Source.TELEOP, TELEOP_PRIORITY, _teleop_intent(state, now, contract))


def _teleop_intent(state: GuardState, now: Now, contract: Contract) -> Intent:
    timeout_s = contract.timeouts.teleop_s
    twist = state.streams.newest(channels.TELEOP_TWIST)
    pose = state.streams.newest(channels.TELEOP_POSE)
    opening = state.streams.newest(channels.TELEOP_GRIPPER)
    gripper = opening.value if opening is not None and is_fresh(opening, now, timeout_s) else None
    if twist is not None and is_fresh(twist, now, timeout_s):
        return Move(twist.value, gripper)
    if pose is not None and is_fresh(pose, now, timeout_s):
        track = Track(pose.value, zero_twist(), gripper)
        jump = target_jump(state, track, contract)
        return Stop(Reason.TELEOP_JUMP, jump) if jump else track
    return Move(zero_twist(), gripper)


def policy_claim(state: GuardState, now: Now, contract: Contract) -> Claim:
    """The policy's claim: its newest complete set, if that is fresh, for the current instruction and re-observed."""
    return Claim(Source.POLICY, POLICY_PRIORITY, _policy_intent(state, now, contract))


def _policy_intent(state: GuardState, now: Now, contract: Contract) -> Intent:
    instruction = state.streams.newest(channels.COMMAND)
    if instruction is None:
        return Stop(Reason.NO_INSTRUCTION)
    if is_hold(instruction.value):
        return Stop(Reason.TOLD_TO_STOP)
    joint = joint_near_limit(state, now, contract)
    if joint:
        return Stop(Reason.JOINT_LIMIT, joint)
    return _follow(state, instruction_hash(instruction.value), now, contract)


def _follow(state: GuardState, served_hash: str, now: Now, contract: Contract) -> Intent:
    sent = state.policy
    if sent is None or sent.provenance.instruction_hash != served_hash:
        return Stop(Reason.POLICY_AWAITED)
    age = max((now.steady_ns - sent.received_ns) / NS_PER_S, (now.ros_ns - sent.stamp_ns) / NS_PER_S)
    if age > contract.timeouts.policy_s:
        return Stop(Reason.POLICY_SILENT, f"for {age:.2f} s")
    latest_ns = now.ros_ns + round(MAX_FUTURE_S * NS_PER_S)
    if not state.reobserve_after_ns < sent.provenance.t_obs_ns <= latest_ns:
        return Stop(Reason.REOBSERVATION_AWAITED)
    return Track(sent.target.pose, sent.target.twist, sent.target.gripper)
