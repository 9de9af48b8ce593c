"""The policy's tick in words for people, and in full for a recording."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from vla_ros.control import channels
from vla_ros.control.chunks import make_row
from vla_ros.control.policy_rules import Trouble, required_inputs
from vla_ros.control.policy_state import PolicyConfig, PolicyOutput, PolicyReason, PolicyState, PolicyStatus
from vla_ros.control.streams import age_text, trace_of
from vla_ros.types import NS_PER_S, ChunkReply, FailureReply, Json, Now, Request, Sample, WorkerDied, WorkerReply


def policy_status(state: PolicyState, trouble: Trouble, now: Now, config: PolicyConfig) -> PolicyStatus:
    """Whether the policy commands, and if not why, with ages and counts."""
    reason, detail = trouble
    text = "commanding" if reason is PolicyReason.NONE else f"silent: {reason.value}"
    values = {
        **{f"age of {name}": age_text(state.streams.newest(name), now) for name, _ in required_inputs(config)},
        "age of the plan": "none"
        if state.plan is None
        else f"{(now.ros_ns - state.plan.chunk.t_obs_ns) / NS_PER_S:.3f} s",
        "last failure": state.trouble[1] or "none",
        **{name: str(count) for name, count in sorted(state.counts.items())},
        **{f"refused {name}": str(count) for name, count in sorted(state.streams.refused.items())},
    }
    return PolicyStatus(reason, text + (f" ({detail})" if detail else ""), values)


def policy_trace(
    state: PolicyState,
    inputs: Sequence[Sample[Any]],
    request: Request | None,
    output: PolicyOutput | None,
    status: PolicyStatus,
    now: Now,
    dt_s: float,
) -> Json:
    """All that decided the tick: instants, inputs, what the worker was asked and said, decision. JSON types only."""
    return {
        "ros_ns": now.ros_ns,
        "steady_ns": now.steady_ns,
        "dt_s": dt_s,
        "inputs": [trace_of(sample, now) for sample in inputs if sample.channel != channels.WORKER],
        "replies": [_trace_of_reply(sample.value) for sample in inputs if sample.channel == channels.WORKER],
        "request": None if request is None else {"id": request.id, "t_obs_ns": request.observation.t_obs_ns},
        "in_flight": None if state.pending is None else state.pending.request.id,
        "text": status.text,
        "output": None if output is None else make_row(output.target).tolist(),
        "t_obs_ns": None if output is None else output.provenance.t_obs_ns,
    }


def _trace_of_reply(reply: WorkerReply) -> Json:
    if isinstance(reply, WorkerDied):
        return {"died": reply.text}
    entry: dict[str, Any] = {
        "id": reply.request_id,
        "observation_sha256": reply.observation_sha256,
        "started_ns": reply.started_ns,
        "ended_ns": reply.ended_ns,
    }
    if isinstance(reply, FailureReply):
        return {**entry, "failed": reply.text}
    return {**entry, "inference_s": reply.inference_s, "chunk_sha256": _chunk_hash(reply)}


def _chunk_hash(reply: ChunkReply) -> str:
    digest = hashlib.sha256(f"{reply.chunk.t_obs_ns} {reply.chunk.dt_s!r} {reply.chunk.rows.shape}".encode())
    digest.update(reply.chunk.rows.astype("<f8").tobytes())
    return digest.hexdigest()
