"""The policy's side of a replay: its tick, and the policy itself, asked in this process instead of in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vla_ros.control import channels
from vla_ros.control.policy_report import PolicyResult, chunk_sha256
from vla_ros.control.policy_rules import FINE, lasting, required_inputs
from vla_ros.control.policy_state import PolicyConfig, PolicyOutput, PolicyReason, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.control.streams import is_fresh
from vla_ros.errors import WorkerError
from vla_ros.policy import messages
from vla_ros.policy.protocol import Policy
from vla_ros.policy.worker import answer
from vla_ros.replay.decisions import PolicyDecision, ReplyDecision
from vla_ros.replay.guard_player import instructed
from vla_ros.types import (
    GRIPPER,
    NS_PER_S,
    ChunkReply,
    FailureReply,
    Json,
    Now,
    Observation,
    Request,
    Sample,
    WorkerDied,
    WorkerReply,
)

RECORDED, MEASURED = "recorded", "measured"
Latency = str | float
"""How long an inference takes: as RECORDED in the bag's traces, as MEASURED now, or so many seconds."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """The request in flight, answered already. recorded_id: of the live request at the same tick; due_ns: steady."""

    request: Request
    payload: bytes
    plan: messages.Plan | messages.Failure
    at_ns: int
    recorded_id: int | None
    due_ns: int


class PolicyPlayer:
    """Plays the policy node, tick by tick. name: what errors call the policy."""

    def __init__(self, name: str, policy: Policy, config: PolicyConfig, latency: Latency) -> None:
        self._name, self._policy, self._config, self._latency = name, policy, config, latency
        self._state = PolicyState()
        self._asked: _Asked | None = None
        self._last_latency_ns = 0

    def begin(self, trace: Json, now: Now) -> None:
        """Take over where a node was before its tick of this trace: at its first tick, or where the bag begins."""
        is_told_now = any(entry["channel"] == channels.COMMAND for entry in trace["inputs"])
        streams = (
            self._state.streams.only((channels.COMMAND,)) if is_told_now else instructed(trace["instruction"], now)
        )
        is_waiting = self._asked is not None and self._asked.recorded_id == trace["in_flight"]
        if not is_waiting:
            self._asked = None
        is_dead = PolicyReason.WORKER_DIED.value in trace["text"]
        has_run = trace["tick"] > 1 and trace["output"] is not None
        self._state = PolicyState(
            streams=streams,
            pending=self._state.pending if is_waiting else None,
            next_id=self._state.next_id,
            trouble=lasting(self._state.trouble) if is_dead else FINE,
            gripper=trace["output"][GRIPPER] if has_run else None,
        )

    def tick(
        self, inputs: Sequence[Sample[Any]], now: Now, recorded: Json | None = None, missing: Sequence[str] = ()
    ) -> tuple[PolicyDecision, PolicyOutput | None]:
        """One tick. recorded: its trace, where the bag has one; missing: for the decision."""
        asked_about_ns = None if self._asked is None else self._asked.request.observation.t_obs_ns
        replies = self._replies(now, recorded)
        samples = [Sample(channels.WORKER, reply, None, now.steady_ns) for reply in replies]
        result = policy_tick(self._state, (*inputs, *samples), now, self._config)
        self._state = result.state
        if result.request is not None:
            self._ask(result.request, now, recorded)
        told = tuple(_decided(reply, asked_about_ns) for reply in replies)
        return _decision(result, told, missing), result.output

    def _replies(self, now: Now, recorded: Json | None) -> list[WorkerReply]:
        if recorded is not None and self._latency == RECORDED:
            return self._recorded_replies(now, recorded)
        if self._asked is None or now.steady_ns < self._asked.due_ns:
            return []
        return [self._reply(self._asked.at_ns, self._asked.due_ns, None)]

    def _recorded_replies(self, now: Now, recorded: Json) -> list[WorkerReply]:
        """What came at this tick of the live node, with this policy's answers."""
        replies: list[WorkerReply] = []
        for entry in recorded["replies"]:
            if "died" in entry:
                self._asked = None
                replies.append(WorkerDied(entry["died"]))
                continue
            self._last_latency_ns = entry["ended_ns"] - entry["started_ns"]
            if self._asked is not None and self._asked.recorded_id == entry["id"]:
                replies.append(self._reply(entry["started_ns"], entry["ended_ns"], entry.get("inference_s", 0.0)))
        asked = self._asked
        if asked is None:
            return replies
        # The live reply came at a tick of which the bag does not tell; or the live node asked nothing at that tick.
        is_overdue = asked.recorded_id is not None and recorded["in_flight"] != asked.recorded_id
        if is_overdue or (asked.recorded_id is None and now.steady_ns >= asked.due_ns):
            replies.append(self._reply(asked.at_ns, now.steady_ns, None))
        return replies

    def _reply(self, started_ns: int, ended_ns: int, inference_s: float | None) -> WorkerReply:
        """Deliver the answer. inference_s: None for what was measured, or 0 where nothing was."""
        assert self._asked is not None
        asked, self._asked = self._asked, None
        about = (asked.request.id, asked.payload, started_ns, ended_ns)
        if isinstance(asked.plan, messages.Failure):
            return FailureReply(*about, asked.plan.text)
        if inference_s is None:
            inference_s = asked.plan.inference_s if self._latency == MEASURED else 0.0
        return ChunkReply(*about, asked.plan.chunk, inference_s)

    def _ask(self, request: Request, now: Now, recorded: Json | None) -> None:
        payload, plan = self._answer(request.observation)
        live = recorded["request"] if recorded is not None and self._latency == RECORDED else None
        takes_ns = self._last_latency_ns
        if isinstance(self._latency, float):
            takes_ns = round(self._latency * NS_PER_S)
        elif self._latency == MEASURED:
            takes_ns = round(plan.inference_s * NS_PER_S) if isinstance(plan, messages.Plan) else 0
        recorded_id = None if live is None else live["id"]
        self._asked = _Asked(request, payload, plan, now.steady_ns, recorded_id, now.steady_ns + takes_ns)

    def _answer(self, observation: Observation) -> tuple[bytes, messages.Plan | messages.Failure]:
        """What a worker would have made of it, by way of the same bytes."""
        try:
            payload = messages.encode_observation(observation)
        except WorkerError as error:
            return b"", messages.Failure(str(error))
        said = messages.decode_answer(answer(self._name, self._policy, payload))
        assert not isinstance(said, messages.Hello), "a policy answers with a plan or a failure"
        return payload, said


def _decided(reply: WorkerReply, asked_about_ns: int | None) -> ReplyDecision:
    if isinstance(reply, WorkerDied):
        return ReplyDecision(0, None, "", None, "", reply.text, 0.0)
    about = (reply.request_id, asked_about_ns, reply.observation_sha256)
    if isinstance(reply, FailureReply):
        return ReplyDecision(*about, None, "", reply.text, 0.0)
    return ReplyDecision(*about, reply.chunk, chunk_sha256(reply.chunk), "", reply.inference_s)


def _decision(result: PolicyResult, replies: tuple[ReplyDecision, ...], missing: Sequence[str]) -> PolicyDecision:
    output, request = result.output, result.request
    return PolicyDecision(
        now=result.now,
        dt_s=result.dt_s,
        replies=replies,
        requested_t_obs_ns=None if request is None else request.observation.t_obs_ns,
        text=result.text,
        target=None if output is None else output.target,
        t_obs_ns=None if output is None else output.provenance.t_obs_ns,
        stale=() if output is not None else _stale(result),
        missing=tuple(missing),
    )


def _stale(result: PolicyResult) -> tuple[str, ...]:
    """Channels without which it must not act. One that acts has them all."""
    streams = result.state.streams
    return tuple(
        channel
        for channel, max_age_s in required_inputs(result.config)
        if not is_fresh(streams.newest(channel), result.now, max_age_s)
    )
