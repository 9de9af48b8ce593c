"""Where a network looked at the worst moments: the replay once more, for what the policy saw, and a look at that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.images import encode
from vla_ros.policy.attention import Onlooker
from vla_ros.policy.protocol import Needs
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.action_errors import chunks_of
from vla_ros.replay.policy_player import MEASURED
from vla_ros.replay.report.content import Glance, Look
from vla_ros.replay.report.frames import to_jpeg
from vla_ros.replay.run import FALLBACK_LATENCY_S, Replay, Terms
from vla_ros.types import Chunk, FloatArray, ImageArray, Observation


def looks(
    name: str, checkpoint: Path, terms: Terms, replayed: Replayed, instants_ns: Iterable[int]
) -> tuple[Look, ...]:
    """A checkpoint's look at what was seen nearest to each instant, ROS time; each once, in time.

    name: of the policy, for people. replayed: by the same checkpoint on the same terms. Raises ModelError if the
    checkpoint cannot be loaded.
    """
    onlooker = Onlooker(checkpoint)
    seen = map(onlooker.look, look_back(terms, replayed, onlooker.needs, instants_ns))
    return tuple(
        Look(name, one.t_obs_ns, dict(_glances(one.frames, one.heats)), one.words) for one in seen if one is not None
    )


def look_back(terms: Terms, replayed: Replayed, needs: Needs, instants_ns: Iterable[int]) -> tuple[Observation, ...]:
    """What the policy of a replay was asked about nearest to each instant.

    Reads the bag again, with the same terms, and lets a memory of the replayed chunks answer. A memory takes no time: a
    measured latency is replaced by its mean.
    """
    memory = _Memory(needs, {chunk.t_obs_ns: chunk for chunk in chunks_of(replayed.policy)}, tuple(instants_ns))
    latency = _mean_inference_s(replayed) if terms.latency == MEASURED else terms.latency
    for _ in Replay(replace(terms, latency=latency), "memory", memory).decisions():
        pass
    found = {observation.t_obs_ns: observation for observation in memory.nearest.values()}
    return tuple(found[t_obs_ns] for t_obs_ns in sorted(found))


@dataclass(eq=False)
class _Memory:
    """A policy that answers what was answered before, and keeps the observation that is nearest to each instant."""

    needs: Needs
    chunks: Mapping[int, Chunk]
    instants_ns: Sequence[int]
    nearest: dict[int, Observation] = field(default_factory=dict)

    def predict(self, observation: Observation) -> Chunk:
        t_obs_ns = observation.t_obs_ns
        for instant_ns in self.instants_ns:
            best = self.nearest.get(instant_ns)
            if best is None or abs(t_obs_ns - instant_ns) < abs(best.t_obs_ns - instant_ns):
                self.nearest[instant_ns] = observation
        if not self.chunks:
            raise PolicyError("there was no chunk the first time either")
        known = t_obs_ns if t_obs_ns in self.chunks else min(self.chunks, key=lambda other: abs(other - t_obs_ns))
        return replace(self.chunks[known], t_obs_ns=t_obs_ns)


def _mean_inference_s(replayed: Replayed) -> float:
    taken = [reply.inference_s for tick in replayed.policy for reply in tick.replies if reply.plan is not None]
    return sum(taken) / len(taken) if taken else FALLBACK_LATENCY_S


def _glances(frames: Mapping[str, ImageArray], heats: Mapping[str, FloatArray]) -> Iterator[tuple[str, Glance]]:
    hottest = max((float(heat.max()) for heat in heats.values()), default=1.0) or 1.0
    for view, frame in frames.items():
        heat = heats[view]
        yield view, Glance(to_jpeg(frame), _coloured(heat / hottest), float(heat.sum()))


def _coloured(heat: FloatArray) -> bytes:
    """(rows, columns) in 0..1 -> PNG, dark to bright."""
    import cv2

    levels = np.clip(np.rint(heat * 255.0), 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return encode(np.asarray(colours, np.uint8), "png").pixels.tobytes()
