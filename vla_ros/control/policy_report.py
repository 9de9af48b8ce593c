"""What the policy's tick gives: output and request, and, once those are out, words for people and a recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vla_ros.control import channels
from vla_ros.control.chunks import make_row
from vla_ros.control.policy_rules import Trouble, current_instruction, required_inputs
from vla_ros.control.policy_state import PolicyConfig, PolicyOutput, PolicyReason, PolicyState, PolicyStatus
from vla_ros.control.streams import age_text, trace_of
from vla_ros.types import NS_PER_S, Chunk, FailureReply, Json, Now, Request, Sample, WorkerDied, WorkerReply


@dataclass(frozen=True, eq=False)
class PolicyResult:
    """output: None where the policy commands nothing; request: what the worker is to be asked now, if anything.

    The other fields are what status and trace tell of. Both are made when they are asked for, and then kept.
    """

    state: PolicyState
    output: PolicyOutput | None
    request: Request | None
    trouble: Trouble
    inputs: Sequence[Sample[Any]]
    now: Now
    dt_s: float
    config: PolicyConfig

    @cached_property
    def text(self) -> str:
        """Whether the policy commands, and if not why: the status without its numbers."""
        reason, detail = self.trouble
        if reason is PolicyReason.NONE and self.state.plan is not None:
            detail = self.state.plan.chunk.subtask
        text = "commanding" if reason is PolicyReason.NONE else f"silent: {reason.value}"
        return text + (f" ({detail})" if detail else "")

    @cached_property
    def status(self) -> PolicyStatus:
        """Whether the policy commands, and if not why, with ages and counts."""
        return PolicyStatus(self.trouble[0], self.text, _values(self.state, self.now, self.config))

    @cached_property
    def trace(self) -> Json:
        """All that decided the tick: instants, inputs, what the worker was asked and said, decision. JSON only."""
        state, request, output, now = self.state, self.request, self.output, self.now
        return {
            "tick": 0 if state.clock is None else state.clock.ticks,
            "ros_ns": now.ros_ns,
            "steady_ns": now.steady_ns,
            "dt_s": self.dt_s,
            "inputs": [trace_of(sample, now) for sample in self.inputs if sample.channel != channels.WORKER],
            "replies": [_trace_of_reply(sample.value) for sample in self.inputs if sample.channel == channels.WORKER],
            "request": None if request is None else {"id": request.id, "t_obs_ns": request.observation.t_obs_ns},
            "in_flight": None if state.pending is None else state.pending.request.id,
            "instruction": current_instruction(state),
            "views": list(self.config.needs.views),
            "privileged": self.config.needs.privileged,
            "text": self.text,
            "output": None if output is None else make_row(output.target).tolist(),
            "t_obs_ns": None if output is None else output.provenance.t_obs_ns,
        }


def _values(state: PolicyState, now: Now, config: PolicyConfig) -> Mapping[str, str]:
    return {
        **{f"age of {name}": age_text(state.streams.newest(name), now) for name, _ in required_inputs(config)},
        "age of the plan": "none"
        if state.plan is None
        else f"{(now.ros_ns - state.plan.chunk.t_obs_ns) / NS_PER_S:.3f} s",
        **_said(state),
        "last failure": state.trouble[1] or "none",
        **{name: str(count) for name, count in sorted(state.counts.items())},
        **{f"refused {name}": str(count) for name, count in sorted(state.streams.refused.items())},
    }


def _said(state: PolicyState) -> Mapping[str, str]:
    """What the policy says with the plan being followed."""
    said = {} if state.plan is None else state.plan.chunk.said
    names = {"subtask": "subtask", "surprise": "surprise", "stop_because": "asks for a stop"}
    return {names[name]: value if isinstance(value, str) else f"{value:.2f}" for name, value in said.items()}


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
    chunk = reply.chunk
    return {**entry, "inference_s": reply.inference_s, "chunk_sha256": chunk_sha256(chunk), **chunk.said}


def chunk_sha256(chunk: Chunk) -> str:
    """64 hex digits that name a chunk."""
    digest = hashlib.sha256(f"{chunk.t_obs_ns} {chunk.dt_s!r} {chunk.rows.shape}".encode())
    digest.update(chunk.rows.astype("<f8").tobytes())
    if chunk.said:
        digest.update(json.dumps(chunk.said, sort_keys=True).encode())
    return digest.hexdigest()
