"""What a checkpoint's network looks at, as numbers: for those who draw it without knowing of networks.

torch is loaded with the first network, so that who asks for none does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import ModelError
from vla_ros.policy.protocol import Needs
from vla_ros.types import FloatArray, ImageArray, Observation


@dataclass(frozen=True, eq=False)
class Attention:
    """One look. frames: view -> (S, S, 3) uint8 RGB, as the network is given them.

    heats: view -> (rows, columns), the share of the words' attention that each patch gets. words: each with the share
    of the patches' attention that it gets.
    """

    t_obs_ns: int
    frames: Mapping[str, ImageArray]
    heats: Mapping[str, FloatArray]
    words: tuple[tuple[str, float], ...]


class Onlooker:
    """A checkpoint's network, asked where it looks instead of what to do. Raises ModelError if it cannot be loaded."""

    def __init__(self, checkpoint: Path) -> None:
        from vla_ros.model.checkpoint import load_checkpoint

        self._model = load_checkpoint(checkpoint).model
        self.needs = Needs(self._model.config.views)

    def look(self, observation: Observation) -> Attention | None:
        """At one observation on its own, without those before it; None where there are no words to look with."""
        from vla_ros.model.explain import explain

        try:
            seen = explain(self._model, observation)
        except ModelError:
            return None
        return Attention(observation.t_obs_ns, seen.frames, seen.heats, seen.words)
