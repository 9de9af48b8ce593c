"""The guard's tick: arbitrate, then limit. The last thing between any commander and the robot.

`guard_step` is pure: the same state, inputs and instants give the same result, live, in simulation and on a bag.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from vla_ros.control import channels
from vla_ros.control.arbiter import Decision, Source, arbitrate
from vla_ros.control.clock import Tick, advance
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_rules import (
    emergency_stop,
    follow_still_feedback,
    following_error,
    frozen_feedback,
    policy_claim,
    safety_locks,
    target_jump,
    teleop_claim,
    why_not_arm,
    why_not_reset,
)
from vla_ros.control.guard_state import CLIPPED, STOPPED, GuardConfig, GuardState, Mode
from vla_ros.control.intents import Reason, Stop, Track
from vla_ros.control.joining import newest_complete
from vla_ros.control.safety import Limited, Motion, is_at_rest
from vla_ros.control.streams import absorb, counted, is_fresh
from vla_ros.geometry import zero_twist
from vla_ros.types import NS_PER_S, Now, Pose, Sample, instruction_hash, is_hold

# A set of four is joined by stamp: a few ticks of each part cover any order of arrival.
_DEPTH = 4

# What has no stamp does not come from another time: a pressed button and a held deadman stay so.
_OUTLIVES_CLOCK = (channels.EMERGENCY_STOP, channels.TELEOP_DEADMAN)

# What does more than to be kept.
_ACTED_ON = (channels.ARM, channels.RESET, channels.SIM_RESET, channels.EMERGENCY_STOP, channels.COMMAND)

# After a tick with any other reason the policy may only continue from an observation newer than that tick.
_KEEPS_OBSERVATIONS = (Reason.POLICY_AWAITED, Reason.REOBSERVATION_AWAITED, Reason.POLICY_SILENT)


def guard_step(state: GuardState, inputs: Sequence[Sample[Any]], now: Now, config: GuardConfig) -> GuardResult:
    """One tick. inputs: everything received since the last one, in order; now: the tick's instant on both clocks."""
    tick = advance(state.clock, now, 1.0 / config.contract.rates.guard_hz)
    state = _start(state, tick, now, config)
    for is_acted_on, samples in groupby(inputs, lambda sample: sample.channel in _ACTED_ON):
        receive = _act_on if is_acted_on else _keep
        state = receive(state, samples, now, config)
    state = replace(state, policy=newest_complete(state.streams) or state.policy)
    state = _decide(_watch(state, now, tick, config), now, tick, config)
    was_moving = state.motion is not None and not is_at_rest(state.motion.twist)
    state, limited = _move(state, now, tick, config)
    # Nothing is sent in shadow, nor while disarmed or latched at rest: there the driver's own timeout holds.
    is_sent = limited is not None and not config.shadow and (state.mode is Mode.ARMED or was_moving)
    if is_sent != state.is_sending:
        state = replace(state, is_sending=is_sent)
    command = _command(state) if is_sent else None
    clips = limited.clips if limited else ()
    told = None if tick.stalled_s > 0.0 else _commanded_pose(state, config)
    return GuardResult(state, command, told, inputs, now, tick.dt_s, clips, config)


def _start(state: GuardState, tick: Tick, now: Now, config: GuardConfig) -> GuardState:
    state = replace(state, clock=tick.clock)
    timeouts = config.contract.timeouts
    if tick.elapsed_s > timeouts.driver_s:
        # Without commands for so long the driver has stopped the robot: what was commanded goes on from rest.
        motion = replace(state.motion, twist=zero_twist()) if state.motion else None
        counts = counted(state.counts, "slept")
        if state.decision.source is not Source.NOBODY:
            counts = counted(counts, f"{STOPPED}the guard slept")
        # Nobody has been in command since: what this tick decides is no further stop.
        asleep = Decision(Source.NOBODY, Stop(Reason.REOBSERVATION_AWAITED))
        state = replace(state, motion=motion, decision=asleep, woke_ns=now.steady_ns, counts=counts)
    if state.woke_ns is not None and now.steady_ns - state.woke_ns <= timeouts.policy_s * NS_PER_S:
        # What came in its sleep is heard only now, a simulated clock too: beside that, a set from then looks fresh.
        state = replace(state, reobserve_after_ns=now.ros_ns)
    if not tick.jumped_back:
        return state
    counts = counted(state.counts, "clock jumped back")
    streams = state.streams.only(_OUTLIVES_CLOCK)
    return replace(state, streams=streams, policy=None, reobserve_after_ns=now.ros_ns, counts=counts)


def _keep(state: GuardState, samples: Iterable[Sample[Any]], now: Now, _config: GuardConfig) -> GuardState:
    return replace(state, streams=absorb(state.streams, samples, now, lambda _: _DEPTH))


def _act_on(state: GuardState, samples: Iterable[Sample[Any]], now: Now, config: GuardConfig) -> GuardState:
    for sample in samples:
        state = _receive(state, sample, now, config)
    return state


def _receive(state: GuardState, sample: Sample[Any], now: Now, config: GuardConfig) -> GuardState:
    if sample.channel == channels.ARM:
        return _armed(state, now, config) if sample.value else _disarmed(state)
    if sample.channel == channels.RESET:
        return _reset(state, now, config)
    if sample.channel == channels.SIM_RESET:
        # Another world: what was commanded in the last one means nothing in it, not even braking.
        fresh = state.streams.only((channels.EMERGENCY_STOP,))
        return replace(_disarmed(state), streams=fresh, policy=None, motion=None, reobserve_after_ns=now.ros_ns)
    was = state.streams.newest(sample.channel)
    state = _keep(state, (sample,), now, config)
    if sample.channel == channels.COMMAND:
        return _instructed(state, None if was is None else was.value, sample.value, now)
    return _latched(state, "emergency stop") if sample.value else state


def _instructed(state: GuardState, before: str | None, instruction: str, now: Now) -> GuardState:
    """Another sentence voids what was made for the last one, even if that is given again a moment later."""
    if is_hold(instruction):
        return replace(state, reobserve_after_ns=now.ros_ns)
    if before is not None and instruction_hash(before) == instruction_hash(instruction):
        return state
    return replace(state, policy=None, streams=state.streams.without(channels.POLICY_PROVENANCE))


def _armed(state: GuardState, now: Now, config: GuardConfig) -> GuardState:
    if state.mode is Mode.ARMED or why_not_arm(state, now, config.contract):
        return state
    # A deadman from before arming, perhaps of a teleop that has died, must be heard anew.
    streams = state.streams.without(channels.TELEOP_DEADMAN)
    return replace(state, mode=Mode.ARMED, streams=streams, reobserve_after_ns=now.ros_ns, is_gripper_commanded=False)


def _disarmed(state: GuardState) -> GuardState:
    return state if state.mode is Mode.LATCHED else replace(state, mode=Mode.DISARMED)


def _reset(state: GuardState, now: Now, config: GuardConfig) -> GuardState:
    if state.mode is not Mode.LATCHED or why_not_reset(state, now, config.contract):
        return state
    return replace(state, mode=Mode.DISARMED, latched_by="")


def _latched(state: GuardState, why: str) -> GuardState:
    if state.mode is Mode.LATCHED:
        return state
    return replace(state, mode=Mode.LATCHED, latched_by=why, counts=counted(state.counts, "latches"))


def _watch(state: GuardState, now: Now, tick: Tick, config: GuardConfig) -> GuardState:
    """Latch on what must not pass unseen."""
    if state.mode is not Mode.ARMED:
        return replace(state, still={}) if state.still else state
    state = replace(state, still=follow_still_feedback(state, tick.dt_s, config.contract))
    why = (
        emergency_stop(state, now, config.contract) or following_error(state, config) or frozen_feedback(state, config)
    )
    return _latched(state, why) if why else state


def _decide(state: GuardState, now: Now, tick: Tick, config: GuardConfig) -> GuardState:
    contract = config.contract
    teleop = teleop_claim(state, now, contract)
    claims = [policy_claim(state, now, contract), *([teleop] if teleop else [])]
    locks = safety_locks(state, now, tick.stalled_s, contract)
    decision = arbitrate(claims, locks, Stop(Reason.POLICY_AWAITED))
    if decision.source is Source.POLICY and isinstance(decision.intent, Track):
        jump = target_jump(state, decision.intent, contract)
        if jump:
            state = _latched(state, jump)
            decision = Decision(Source.NOBODY, Stop(Reason.LATCHED, jump))
    return _remember(state, decision, now)


def _remember(state: GuardState, decision: Decision, now: Now) -> GuardState:
    """Store the decision; count a stop that interrupts a motion; say which observations it makes void."""
    was = state.decision.source
    state = replace(state, decision=decision)
    if decision.source is Source.TELEOP:
        return replace(state, reobserve_after_ns=now.ros_ns)
    if not isinstance(decision.intent, Stop):
        return state
    reason = decision.intent.reason
    if was is not Source.NOBODY and reason.is_fault:
        state = replace(state, counts=counted(state.counts, f"{STOPPED}{reason.value}"))
    # Silence voids observations once, when it begins: were it to go on, the policy could never speak again.
    if reason not in _KEEPS_OBSERVATIONS or (reason is Reason.POLICY_SILENT and was is Source.POLICY):
        return replace(state, reobserve_after_ns=now.ros_ns)
    return state


def _move(state: GuardState, now: Now, tick: Tick, config: GuardConfig) -> tuple[GuardState, Limited | None]:
    """Turn the decision into motion within the limits; None until the robot has been seen."""
    motion = _origin(state, now, config)
    if motion is None:
        return state, None
    limited = state.decision.intent.execute(motion, tick.dt_s, config.contract)
    counts = state.counts
    for clip in limited.clips:
        counts = counted(counts, f"{CLIPPED}{clip}")
    is_gripper_commanded = state.is_gripper_commanded or state.decision.intent.gripper is not None
    state = replace(state, motion=limited.motion, counts=counts, is_gripper_commanded=is_gripper_commanded)
    return state, limited


def _command(state: GuardState) -> Motion | None:
    """What the robot is sent. The opening from before arming is kept for its rate alone: nobody asks for it now."""
    if state.motion is None or state.is_gripper_commanded:
        return state.motion
    return replace(state.motion, gripper=None)


def _origin(state: GuardState, now: Now, config: GuardConfig) -> Motion | None:
    """What this tick's motion starts from: the last command, or the measured robot where none was sent."""
    motion, contract = state.motion, config.contract
    follows_robot = not state.is_sending or config.shadow or contract.command_interface == "twist"
    is_seen = is_fresh(state.streams.newest(channels.EE_POSE), now, contract.feedback.ee_pose.max_age_s)
    return _at_measured(state, motion) if follows_robot and is_seen else motion


def _at_measured(state: GuardState, motion: Motion | None) -> Motion | None:
    """The same motion, from the measured pose."""
    measured = state.streams.newest(channels.EE_POSE)
    if measured is None:
        return motion
    return Motion(measured.value, zero_twist(), None) if motion is None else replace(motion, pose=measured.value)


def _commanded_pose(state: GuardState, config: GuardConfig) -> Pose | None:
    if config.shadow:
        measured = state.streams.newest(channels.EE_POSE)
        return None if measured is None else measured.value
    return state.motion.pose if state.motion else None
