"""A policy that never rests: it draws circles in free space, so that a stop is always a stop of something."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.contract import Contract
from vla_ros.policy import hold
from vla_ros.types import LINEAR_VELOCITY, POSITION, Chunk, FloatArray, Needs, Observation

# An upright circle in front of the robot. In level circles and further out Meta-World's arm wobbles after a stop with
# more than 2 cm/s for up to 2 s, whoever commands it; here the hand is slower than that 0.2 s after its command rests.
CENTRE = np.array([0.0, 0.6, 0.25])
RADIUS_M = 0.1
SPEED_M_S = 0.3


@dataclass(frozen=True)
class SweepingPolicy:
    """Goes round from wherever the robot is commanded to be; far from the circle, towards it."""

    inner: hold.HoldPolicy

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    def predict(self, observation: Observation) -> Chunk:
        chunk = self.inner.predict(observation)
        position = observation.commanded_pose.position
        rows = chunk.rows.copy()
        for row in rows:
            velocity = velocity_at(position)
            row[POSITION], row[LINEAR_VELOCITY] = position, velocity
            position = position + chunk.dt_s * velocity
        return Chunk(chunk.t_obs_ns, chunk.dt_s, rows)


def create(contract: Contract, options: Mapping[str, str]) -> SweepingPolicy:
    """Options as for hold."""
    return SweepingPolicy(hold.create(contract, options))


def velocity_at(position: FloatArray) -> FloatArray:
    """Along the circle, and back to it where the position is off it. (3,) [m] -> (3,) [m/s], of constant length."""
    radial = _radial(position)
    along = np.array([-radial[2], 0.0, radial[0]])
    direction = along + (CENTRE + RADIUS_M * radial - position) / 0.05
    velocity: FloatArray = SPEED_M_S * direction / np.linalg.norm(direction)
    return velocity


def distance_to_circle(position: FloatArray) -> float:
    """(3,) [m] -> [m]."""
    return float(np.linalg.norm(CENTRE + RADIUS_M * _radial(position) - position))


def _radial(position: FloatArray) -> FloatArray:
    """From the centre towards a position, in the circle's plane. Unit."""
    offset = position - CENTRE
    angle = math.atan2(offset[2], offset[0])
    return np.array([math.cos(angle), 0.0, math.sin(angle)])
