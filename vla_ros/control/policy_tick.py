"""The policy's tick: look, ask the worker, follow its chunk.

`policy_tick` is pure: the same state, inputs and instants give the same result, live, in simulation and on a bag.
Only a chunk from a policy that still sees, for the instruction still given, leads to a command.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.chunks import target_at
from vla_ros.control.clock import advance
from vla_ros.control.frozen import follow_still_views
from vla_ros.control.policy_report import PolicyResult
from vla_ros.control.policy_rules import (
    FINE,
    Trouble,
    ask,
    current_instruction,
    lasting,
    observed_instant,
    take_reply,
    why_blind,
)
from vla_ros.control.policy_state import Pending, PolicyConfig, PolicyOutput, PolicyReason, PolicyState
from vla_ros.control.streams import absorb, counted
from vla_ros.types import NS_PER_S, Chunk, Now, Provenance, Sample, is_hold

# How far back poses are kept: a slow camera's frame is looked up where the robot was when it was taken.
_HISTORY_S = 1.0
_MAX_FRAMES = 64
_CAMERA = channels.camera("")

# What does more than to be kept.
_ACTED_ON = (channels.WORKER, channels.SIM_RESET, channels.COMMAND)


def policy_tick(state: PolicyState, inputs: Sequence[Sample[Any]], now: Now, config: PolicyConfig) -> PolicyResult:
    """One tick. inputs: everything received since the last one, worker's replies included; now: on both clocks."""
    tick = advance(state.clock, now, 1.0 / config.contract.rates.policy_hz)
    state = replace(state, clock=tick.clock)
    if tick.jumped_back:
        counts = counted(state.counts, "clock jumped back")
        state = replace(_forget_world(replace(state, streams=state.streams.cleared())), counts=counts)
    before = state.streams
    for is_acted_on, samples in groupby(inputs, lambda sample: sample.channel in _ACTED_ON):
        receive = _act_on if is_acted_on else _keep
        state = receive(state, samples, now, config.contract)
    still = follow_still_views(state.still_views, before, state.streams, config.needs.views)
    if still is not state.still_views:
        state = replace(state, still_views=still)

    t_obs_ns = observed_instant(state, config)
    blind = why_blind(state, t_obs_ns, now, config)
    state, request = ask(state, t_obs_ns, now, config) if blind == FINE else (state, None)
    trouble = _why_silent(state, blind, now, config)
    output = _output(state, now) if trouble == FINE else None
    if output is None and trouble == FINE:
        trouble = (_why_no_row(state, now), "")
    if output is not None and output.target.gripper != state.gripper:
        state = replace(state, gripper=output.target.gripper)
    return PolicyResult(state, output, request, trouble, inputs, now, tick.dt_s, config)


def _keep(state: PolicyState, samples: Iterable[Sample[Any]], now: Now, contract: Contract) -> PolicyState:
    return replace(state, streams=absorb(state.streams, samples, now, lambda channel: _depth_of(channel, contract)))


def _act_on(state: PolicyState, samples: Iterable[Sample[Any]], now: Now, contract: Contract) -> PolicyState:
    for sample in samples:
        if sample.channel == channels.WORKER:
            state = take_reply(state, sample.value, now)
        elif sample.channel == channels.SIM_RESET:
            state = _forget_world(replace(state, streams=state.streams.cleared()))
        else:
            state = _instructed(state, sample, now, contract)
    return state


def _instructed(state: PolicyState, sample: Sample[str], now: Now, contract: Contract) -> PolicyState:
    was = current_instruction(state)
    state = _keep(state, (sample,), now, contract)
    if was is None or was.strip() != str(sample.value).strip():
        # What was made or asked for another sentence is void, even if that is given again a moment later; and this
        # sentence may be asked about this instant too.
        state = replace(state, plan=None, pending=_void(state.pending), last_asked_ns=-1)
        return replace(state, trouble=lasting(state.trouble))
    return state


def _depth_of(channel: str, contract: Contract) -> int:
    """How many samples are kept: of a view, enough to meet the slowest view's newest frame; else a second's worth."""
    if channel.startswith(_CAMERA):
        oldest_s = max(camera.max_age_s for camera in contract.cameras.values())
        return min(math.ceil(contract.cameras[channel.removeprefix(_CAMERA)].rate_hz * oldest_s) + 1, _MAX_FRAMES)
    feedback = contract.feedback
    fastest_hz = max(feedback.ee_pose.rate_hz, feedback.joint_states.rate_hz, contract.rates.guard_hz)
    return math.ceil(_HISTORY_S * fastest_hz) + 1


def _forget_world(state: PolicyState) -> PolicyState:
    """Nothing seen or planned so far holds any more. A dead worker stays dead; a request in flight is for nothing."""
    state = replace(state, plan=None, pending=_void(state.pending), still_views={}, last_asked_ns=-1, gripper=None)
    return replace(state, trouble=lasting(state.trouble))


def _void(pending: Pending | None) -> Pending | None:
    """The same request, still in flight; its answer will be for no instruction."""
    return replace(pending, instruction_hash="") if pending else None


def _why_silent(state: PolicyState, blind: Trouble, now: Now, config: PolicyConfig) -> Trouble:
    """Why the policy must not command; FINE if it may. The first cause found is the one that is told."""
    instruction = current_instruction(state)
    if state.trouble[0] is PolicyReason.WORKER_DIED:
        return state.trouble
    if instruction is None:
        return PolicyReason.NO_INSTRUCTION, ""
    if is_hold(instruction):
        return PolicyReason.TOLD_TO_STOP, ""
    if blind != FINE:
        return blind
    if state.pending is not None:
        waited_s = (now.steady_ns - state.pending.sent_ns) / NS_PER_S
        if waited_s > config.contract.timeouts.inference_s:
            return PolicyReason.WORKER_SILENT, f"for {waited_s:.1f} s"
    if state.plan is None:
        return state.trouble if state.trouble != FINE else (PolicyReason.CHUNK_AWAITED, "")
    if state.plan.chunk.stop_because:
        return PolicyReason.SURPRISED, state.plan.chunk.stop_because
    return state.trouble if _outlived(state.plan.chunk, now, config) else FINE


def _outlived(chunk: Chunk, now: Now, config: PolicyConfig) -> bool:
    """After a failure the plan from before is followed to its end, but never longer than a silent worker's."""
    age_s = (now.ros_ns - chunk.t_obs_ns) / NS_PER_S
    return now.ros_ns > chunk.end_ns or age_s > config.contract.timeouts.inference_s


def _why_no_row(state: PolicyState, now: Now) -> PolicyReason:
    is_ahead = state.plan is not None and now.ros_ns < state.plan.chunk.t_obs_ns
    return PolicyReason.CHUNK_AHEAD if is_ahead else PolicyReason.CHUNK_ENDED


def _output(state: PolicyState, now: Now) -> PolicyOutput | None:
    if state.plan is None:
        return None
    target = target_at(state.plan.chunk, now.ros_ns)
    if target is None:
        return None
    provenance = Provenance(state.plan.instruction_hash, state.plan.chunk.t_obs_ns)
    return PolicyOutput(now.ros_ns, target, provenance)
