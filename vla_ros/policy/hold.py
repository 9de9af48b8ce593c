"""The policy that keeps still. It asks for the cameras all the same, so that a loop's latency is measured with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.contract import Contract
from vla_ros.errors import PolicyError
from vla_ros.types import ACTION_WIDTH, GRIPPER, POSITION, QUATERNION, Chunk, Needs, Observation

MIN_HORIZON_S = 0.5


@dataclass(frozen=True)
class HoldPolicy:
    """Plans `rows` rows, dt_s apart, at the commanded pose and gripper opening, with zero velocity."""

    needs: Needs
    dt_s: float
    rows: int

    def predict(self, observation: Observation) -> Chunk:
        """Stay at the pose that was commanded at t_obs_ns."""
        rows = np.zeros((self.rows, ACTION_WIDTH))
        rows[:, POSITION] = observation.commanded_pose.position
        rows[:, QUATERNION] = observation.commanded_pose.quaternion
        rows[:, GRIPPER] = observation.gripper
        return Chunk(observation.t_obs_ns, self.dt_s, rows)


def create(contract: Contract, options: Mapping[str, str]) -> HoldPolicy:
    """Option `views`: the cameras to wait for, comma-separated; without it, those that the contract requires."""
    unknown = sorted(set(options) - {"views"})
    if unknown:
        raise PolicyError(f"policy 'hold' has no option {unknown[0]!r}; it knows: views")
    required = [view for view, camera in contract.cameras.items() if camera.required]
    views = _split(options["views"]) if "views" in options else required
    rates_hz = [contract.cameras[view].rate_hz for view in views if view in contract.cameras]
    # Two frame periods: the plan must last until the one made from the next frame is here.
    horizon_s = max([MIN_HORIZON_S, *(2.0 / rate_hz for rate_hz in rates_hz)])
    dt_s = 1.0 / contract.rates.policy_hz
    return HoldPolicy(Needs(tuple(views)), dt_s, 1 + round(horizon_s / dt_s))


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]
