"""The policy side's rules, one function each: may it act, what does it see, is an answer to be believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vla_ros.control import channels
from vla_ros.control.alignment import common_instant, nearest, pose_at
from vla_ros.control.chunks import validate_chunk
from vla_ros.control.frozen import frozen_view
from vla_ros.control.policy_state import Pending, Plan, PolicyConfig, PolicyReason, PolicyState
from vla_ros.control.streams import Samples, age_s, counted, is_fresh
from vla_ros.errors import MessageError, PolicyError
from vla_ros.images import frame_to_rgb
from vla_ros.types import (
    NS_PER_S,
    ChunkReply,
    FailureReply,
    Now,
    Observation,
    Request,
    Sample,
    WorkerDied,
    WorkerReply,
    instruction_hash,
    is_hold,
)

Trouble = tuple[PolicyReason, str]
FINE: Trouble = (PolicyReason.NONE, "")


def lasting(trouble: Trouble) -> Trouble:
    """What of a trouble outlives a new instruction, a new world or a pause: a dead worker stays dead."""
    return trouble if trouble[0] is PolicyReason.WORKER_DIED else FINE


def current_instruction(state: PolicyState) -> str | None:
    """The newest instruction. It does not expire."""
    sample = state.streams.newest(channels.COMMAND)
    return None if sample is None else str(sample.value)


def required_inputs(config: PolicyConfig) -> Iterator[tuple[str, float]]:
    """Channel and largest age [s] of everything without which the policy must not act."""
    contract = config.contract
    for view in config.needs.views:
        if contract.cameras[view].required:
            yield channels.camera(view), contract.cameras[view].max_age_s
    pose_age_s = contract.feedback.ee_pose.max_age_s
    yield channels.EE_POSE, pose_age_s
    yield channels.COMMANDED_POSE, pose_age_s
    measured_twist = contract.feedback.ee_twist
    if measured_twist is not None and measured_twist.required:
        yield channels.EE_TWIST, measured_twist.max_age_s
    if contract.feedback.joint_states.required:
        yield channels.JOINT_STATES, contract.feedback.joint_states.max_age_s
    if config.needs.privileged:
        yield channels.PRIVILEGED, pose_age_s


def why_blind(state: PolicyState, t_obs_ns: int | None, now: Now, config: PolicyConfig) -> Trouble:
    """What keeps the policy from seeing; FINE if nothing does. t_obs_ns: of `observed_instant`."""
    for channel, max_age_s in required_inputs(config):
        sample = state.streams.newest(channel)
        if not is_fresh(sample, now, max_age_s):
            age = "never heard" if sample is None else f"{age_s(sample, now):.2f} s old"
            return PolicyReason.INPUT_STALE, f"{channel}: {age}"
    limit_s = config.contract.timeouts.frozen_camera_s
    cameras = config.contract.cameras
    alive = [
        view
        for view in config.needs.views
        if is_fresh(state.streams.newest(channels.camera(view)), now, cameras[view].max_age_s)
    ]
    frozen = frozen_view(state.still_views, alive, now, limit_s)
    if frozen is not None:
        return PolicyReason.CAMERA_FROZEN, frozen
    if t_obs_ns is None:
        return PolicyReason.VIEWS_APART, f"more than {config.contract.max_camera_skew_s} s"
    return FINE


def observed_instant(state: PolicyState, config: PolicyConfig) -> int | None:
    """t_obs: the newest stamp that every required view has seen; without views, the newest feedback. ROS time [ns]."""
    cameras = config.contract.cameras
    views = [view for view in config.needs.views if cameras[view].required]
    if views:
        histories = [state.streams.history(channels.camera(view)) for view in views]
        return common_instant(histories, config.contract.max_camera_skew_s)
    newest = state.streams.newest(channels.PRIVILEGED if config.needs.privileged else channels.EE_POSE)
    return None if newest is None else newest.stamp_ns


def observe(state: PolicyState, instruction: str, t_obs_ns: int, config: PolicyConfig) -> Observation:
    """What the robot saw at t_obs. Everything required must be there; an absent optional view is left out.

    Raises MessageError if a frame cannot be decoded.
    """
    streams, contract = state.streams, config.contract
    joints = _near(streams.history(channels.JOINT_STATES), t_obs_ns, contract.feedback.joint_states.max_age_s)
    privileged = streams.history(channels.PRIVILEGED) if config.needs.privileged else ()
    frames = {}
    for view in config.needs.views:
        frame = _near(streams.history(channels.camera(view)), t_obs_ns, contract.max_camera_skew_s)
        if frame is not None:
            frames[view] = frame_to_rgb(frame.value)
    return Observation(
        t_obs_ns=t_obs_ns,
        instruction=instruction,
        images=frames,
        ee_pose=pose_at(streams.history(channels.EE_POSE), t_obs_ns),
        commanded_pose=pose_at(streams.history(channels.COMMANDED_POSE), t_obs_ns),
        joint_positions=None if joints is None else joints.value.positions,
        gripper=contract.gripper.at_start if state.gripper is None else state.gripper,
        privileged=nearest(privileged, t_obs_ns).value if privileged else None,
    )


def _near(history: Samples, instant_ns: int, bound_s: float) -> Sample[Any] | None:
    """The sample nearest to an instant, if it is within the bound."""
    sample = nearest(history, instant_ns) if history else None
    if sample is None or sample.stamp_ns is None or abs(sample.stamp_ns - instant_ns) > bound_s * NS_PER_S:
        return None
    return sample


def ask(state: PolicyState, t_obs_ns: int | None, now: Now, config: PolicyConfig) -> tuple[PolicyState, Request | None]:
    """The request to send now: one in flight, only for an instant not asked about yet, never for "stop"."""
    instruction = current_instruction(state)
    if instruction is None or is_hold(instruction) or state.pending or state.trouble[0] is PolicyReason.WORKER_DIED:
        return state, None
    if t_obs_ns is None or t_obs_ns <= state.last_asked_ns:
        return state, None
    try:
        observation = observe(state, instruction, t_obs_ns, config)
    except MessageError as error:
        trouble = (PolicyReason.INPUT_STALE, str(error))
        return replace(state, trouble=trouble, counts=counted(state.counts, "frames refused")), None
    request = Request(state.next_id, observation)
    pending = Pending(request, instruction_hash(instruction), now.steady_ns)
    return replace(state, pending=pending, last_asked_ns=t_obs_ns, next_id=state.next_id + 1), request


def take_reply(state: PolicyState, reply: WorkerReply, now: Now) -> PolicyState:
    """Believe a chunk that answers the question asked, for the instruction still given; count everything else."""
    if isinstance(reply, WorkerDied):
        return replace(state, pending=None, plan=None, trouble=(PolicyReason.WORKER_DIED, reply.text))
    pending = state.pending
    if pending is None or reply.request_id != pending.request.id:
        return replace(state, counts=counted(state.counts, "unasked replies"))
    state = replace(state, pending=None)
    if isinstance(reply, FailureReply):
        trouble = (PolicyReason.POLICY_FAILED, reply.text)
        return replace(state, trouble=trouble, counts=counted(state.counts, "policy failures"))
    instruction = current_instruction(state)
    if instruction is None or instruction_hash(instruction) != pending.instruction_hash:
        return replace(state, counts=counted(state.counts, "chunks for an old instruction"))
    try:
        _check_answer(reply, pending, now)
    except PolicyError as error:
        trouble = (PolicyReason.CHUNK_REFUSED, str(error))
        return replace(state, trouble=trouble, counts=counted(state.counts, "chunks refused"))
    return replace(state, plan=Plan(reply.chunk, pending.instruction_hash), trouble=FINE)


def _check_answer(reply: ChunkReply, pending: Pending, now: Now) -> None:
    validate_chunk(reply.chunk)
    if reply.chunk.t_obs_ns != pending.request.observation.t_obs_ns:
        raise PolicyError("the chunk is for another instant than the one observed")
    if reply.chunk.end_ns <= now.ros_ns:
        late_s = (now.ros_ns - reply.chunk.end_ns) / NS_PER_S
        raise PolicyError(f"all of the chunk's rows lie in the past, the last by {late_s:.2f} s")
