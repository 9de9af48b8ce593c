"""What a policy is, and how others add theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from vla_ros.contract import Contract
from vla_ros.types import Chunk, Observation
from vla_ros.types import Needs as Needs


class Policy(Protocol):
    """One loaded policy. `predict` may take long and may raise; the worker turns what it raises into a reply."""

    @property
    def needs(self) -> Needs:
        """What it must be given."""
        ...

    def predict(self, observation: Observation) -> Chunk:
        """Plan from one observation. Rows are absolute, in the base frame, the first at observation.t_obs_ns."""
        ...


@runtime_checkable
class Surprised(Protocol):
    """A policy that can tell what its last surprise was made of."""

    @property
    def errors(self) -> tuple[float, ...] | None:
        """Of each of `vla_ros.model.surprise.PARTS`; None where it had expected nothing."""
        ...

    @property
    def glimpse(self) -> tuple[float, ...] | None:
        """What the same look told of the things, see `vla_ros.model.meddling.glimpse`; None with the errors."""
        ...


PolicyFactory = Callable[[Contract, Mapping[str, str]], Policy]
"""Builds a policy for a robot from options given as `key=value` words. Raises PolicyError."""
