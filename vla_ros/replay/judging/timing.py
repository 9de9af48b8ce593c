"""How late answers come, of what time there is; and when the policy is silent, and for want of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vla_ros.replay.decisions import PolicyDecision, Replayed, ReplyDecision
from vla_ros.replay.judging.commands import instruction_index
from vla_ros.replay.judging.samples import Quantities, Samples, gathered, samples
from vla_ros.types import NS_PER_S, Chunk, is_hold

_SILENT = "silent: "


def timing_quantities(replayed: Replayed) -> Quantities:
    """Latency of each answer, and for each tick under an instruction whether the policy was silent or lacked input."""
    answers = list(_answers(replayed))
    chunks = [(tick, reply, plan) for _, tick, reply in answers if (plan := reply.plan) is not None]
    chunks_ns = [tick.now.ros_ns for tick, _, _ in chunks]
    failures = [tick.now.ros_ns for tick in replayed.policy for reply in tick.replies if reply.plan is None]
    ticks = list(told_ticks(replayed))
    ticks_ns = [tick.now.ros_ns for tick in ticks]
    return {
        "inference": samples(chunks_ns, [reply.inference_s for _, reply, _ in chunks]),
        "latency": _latency(answers),
        "patience_used": patience_used(replayed),
        "horizon_used": samples(chunks_ns, [_used(tick, plan) for tick, _, plan in chunks]),
        "policy_failures": samples(failures, [1.0] * len(failures)),
        "silent": samples(ticks_ns, [float(tick.target is None) for tick in ticks]),
        "stale": samples(ticks_ns, [float(bool(tick.stale)) for tick in ticks]),
        "lacking": samples(ticks_ns, [float(bool(tick.missing)) for tick in ticks]),
    }


def patience_used(replayed: Replayed) -> Samples:
    """Latency of each answer, of the time after which a policy without one is silent."""
    latency = _latency(_answers(replayed))
    return Samples(latency.at_ns, latency.values / replayed.contract.timeouts.inference_s)


def silence_causes(replayed: Replayed) -> Mapping[str, int]:
    """Ticks under an instruction on which the policy commanded nothing, by cause; the most frequent first."""
    texts = (tick.text for tick in told_ticks(replayed) if tick.target is None)
    return dict(Counter(text.removeprefix(_SILENT).partition(" (")[0] for text in texts).most_common())


def stale_inputs(replayed: Replayed) -> Mapping[str, int]:
    """Ticks under an instruction on which an input was missing or too old, by channel; the most frequent first."""
    return dict(Counter(channel for tick in told_ticks(replayed) for channel in tick.stale).most_common())


def told_ticks(replayed: Replayed) -> Iterator[PolicyDecision]:
    """The policy's ticks under an instruction that asks for something."""
    instants = np.array([tick.now.ros_ns for tick in replayed.policy], np.int64)
    told = instruction_index(replayed.instructions, instants).tolist()
    for tick, index in zip(replayed.policy, told, strict=True):
        if index >= 0 and not is_hold(replayed.instructions[index].text):
            yield tick


def _answers(replayed: Replayed) -> Iterator[tuple[PolicyDecision, PolicyDecision, ReplyDecision]]:
    """(tick that asked, tick that was answered, answer)."""
    asked: dict[int, PolicyDecision] = {}
    for tick in replayed.policy:
        for reply in tick.replies:
            if reply.t_obs_ns in asked:
                yield asked.pop(reply.t_obs_ns), tick, reply
        if tick.requested_t_obs_ns is not None:
            asked[tick.requested_t_obs_ns] = tick


def _latency(answers: Iterable[tuple[PolicyDecision, PolicyDecision, ReplyDecision]]) -> Samples:
    """[s]"""
    return gathered(
        (tick.now.ros_ns, (tick.now.steady_ns - asked.now.steady_ns) / NS_PER_S) for asked, tick, _ in answers
    )


def _used(tick: PolicyDecision, chunk: Chunk) -> float:
    """Share of a chunk's span that is past when it arrives: beyond 1 there is nothing left to follow."""
    return (tick.now.ros_ns - chunk.t_obs_ns) / max(chunk.end_ns - chunk.t_obs_ns, 1)
