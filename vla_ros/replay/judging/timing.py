"""How late answers come, of what time there is; and when the policy is silent, and for want of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from vla_ros.contract import Contract
from vla_ros.replay.decisions import Batch, PolicyDecision, ReplyDecision
from vla_ros.replay.judging.commands import MEMORY_NS, NOTHING_TOLD
from vla_ros.replay.judging.samples import Measured, Samples, counted, gathered, samples
from vla_ros.types import NS_PER_S, Chunk

_SILENT = "silent: "
# Of requests without an answer so far; a policy has one at a time.
_MOST_ASKED = 16


class Timing:
    """Latency of each answer, and for each tick under an instruction whether the policy was silent or lacked input.

    silences: ticks under an instruction on which the policy commanded nothing, by cause; stale: those on which an input
    was missing or too old, by channel.
    """

    def __init__(self, contract: Contract) -> None:
        self._patience_s = contract.timeouts.inference_s
        self._told = NOTHING_TOLD
        self._asked: dict[int, PolicyDecision] = {}
        self.silences: Counter[str] = Counter()
        self.stale: Counter[str] = Counter()

    def hear(self, batch: Batch) -> Measured:
        """Of these ticks."""
        self._told = self._told.and_then(batch.instructions)
        ticks = self._told_ticks(batch.policy)
        self._count(ticks)
        if batch.policy:
            self._told = self._told.since(batch.policy[-1].now.ros_ns - MEMORY_NS)
        at_ns = [tick.now.ros_ns for tick in ticks]
        return {
            **self._answered(batch.policy),
            "silent": samples(at_ns, [float(tick.target is None) for tick in ticks]),
            "stale": samples(at_ns, [float(bool(tick.stale)) for tick in ticks]),
            "lacking": samples(at_ns, [float(bool(tick.missing)) for tick in ticks]),
        }

    def clock_set_back(self) -> Measured:
        """Nothing: a latency is of steady time."""
        self._told = self._told.anew()
        return {}

    def end(self) -> Measured:
        """Nothing is left."""
        return {}

    def _answered(self, policy: Sequence[PolicyDecision]) -> Measured:
        answers = list(self._answers(policy))
        chunks = [(tick, reply, plan) for _, tick, reply in answers if (plan := reply.plan) is not None]
        at_ns = [tick.now.ros_ns for tick, _, _ in chunks]
        latency = gathered((tick.now.ros_ns, _seconds_between(asked, tick)) for asked, tick, _ in answers)
        replies = [(tick.now.ros_ns, reply) for tick in policy for reply in tick.replies]
        failures = counted(at_ns for at_ns, reply in replies if reply.plan is None)
        return {
            "inference": samples(at_ns, [reply.inference_s for _, reply, _ in chunks]),
            "latency": latency,
            "patience_used": Samples(latency.at_ns, latency.values / self._patience_s),
            "horizon_used": samples(at_ns, [_used(tick, plan) for tick, _, plan in chunks]),
            **({"policy_failures": failures} if replies else {}),  # without any answer none was right, either
        }

    def _answers(
        self, policy: Sequence[PolicyDecision]
    ) -> Iterator[tuple[PolicyDecision, PolicyDecision, ReplyDecision]]:
        """(tick that asked, tick that was answered, answer)."""
        for tick in policy:
            for reply in tick.replies:
                if reply.t_obs_ns in self._asked:
                    yield self._asked.pop(reply.t_obs_ns), tick, reply
            if tick.requested_t_obs_ns is not None:
                self._asked[tick.requested_t_obs_ns] = tick
            if len(self._asked) > _MOST_ASKED:
                del self._asked[next(iter(self._asked))]

    def _told_ticks(self, policy: Sequence[PolicyDecision]) -> Sequence[PolicyDecision]:
        """The policy's ticks under an instruction that asks for something."""
        asks = self._told.asks(np.array([tick.now.ros_ns for tick in policy], np.int64)).tolist()
        return [tick for tick, is_told in zip(policy, asks, strict=True) if is_told]

    def _count(self, ticks: Sequence[PolicyDecision]) -> None:
        texts = (tick.text for tick in ticks if tick.target is None)
        self.silences.update(text.removeprefix(_SILENT).partition(" (")[0] for text in texts)
        self.stale.update(channel for tick in ticks for channel in tick.stale)


def _seconds_between(asked: PolicyDecision, answered: PolicyDecision) -> float:
    return (answered.now.steady_ns - asked.now.steady_ns) / NS_PER_S


def _used(tick: PolicyDecision, chunk: Chunk) -> float:
    """Share of a chunk's span that is past when it arrives: beyond 1 there is nothing left to follow."""
    return (tick.now.ros_ns - chunk.t_obs_ns) / max(chunk.end_ns - chunk.t_obs_ns, 1)
