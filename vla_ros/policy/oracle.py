"""The oracle: the scripted experts of the simulated robots, told by a sentence which of them to be.

It reads the simulator's privileged state, so it drives only a simulated robot. It is the yardstick for the loop:
what it loses between the bare environment and the running graph, the loop has lost.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.errors import PolicyError
from vla_ros.policy import driving, metaworld_action
from vla_ros.policy.protocol import Needs, Policy
from vla_ros.policy.sentences import TABLE_PATH, load_room_sentences, load_table
from vla_ros.types import LINEAR_VELOCITY, POSITION, Chunk, FloatArray, Observation

# A plan holds the expert's action this long: enough to bridge a hiccup, too short to run far on an old view.
_HORIZON_S = 0.2


class OraclePolicy:
    """Of the arm. Plans by asking the expert of the task that the instruction names."""

    needs = Needs(views=(), privileged=True)

    def __init__(self, dt_s: float) -> None:
        self._dt_s = dt_s
        self._horizon = round(_HORIZON_S / dt_s) + 1
        self._table = load_table(TABLE_PATH)
        self._experts = _experts()

    def predict(self, observation: Observation) -> Chunk:
        """Hold the expert's action from the commanded pose on, inside the box that Meta-World keeps the hand in."""
        task = self._table.task(observation.instruction)
        privileged = observation.privileged
        if privileged is None:
            raise PolicyError("the oracle needs the simulator's privileged state, which this robot does not send")
        if privileged.shape != (metaworld_action.PRIVILEGED_WIDTH,):
            raise PolicyError(
                f"the privileged state has {privileged.size} numbers instead of 45: not a Meta-World robot"
            )
        action = _act(self._experts[task](), privileged[metaworld_action.OBSERVATION])
        rows = metaworld_action.to_rows(action, observation.commanded_pose, self._dt_s, self._horizon)
        return Chunk(observation.t_obs_ns, self._dt_s, _within_reach(rows, privileged))


class DrivingOracle:
    """Of the base. Plans by asking the scripted driver for the way to the thing that the instruction names."""

    needs = Needs(views=(), privileged=True)

    def __init__(self, dt_s: float) -> None:
        self._dt_s = dt_s
        self._horizon = round(_HORIZON_S / dt_s) + 1
        self._table = load_room_sentences()

    def predict(self, observation: Observation) -> Chunk:
        """Hold what the driver does, from the commanded pose on."""
        thing = driving.thing_of(self._table.task(observation.instruction))
        privileged = observation.privileged
        if privileged is None or privileged.shape != (driving.PRIVILEGED_WIDTH,):
            raise PolicyError("the oracle of the base needs the privileged state that the simulated base sends")
        drive = driving.decide(privileged, thing)
        rows = driving.to_rows(drive, observation.commanded_pose, self._dt_s, self._horizon)
        return Chunk(observation.t_obs_ns, self._dt_s, rows)


def create(contract: Contract, options: Mapping[str, str]) -> Policy:
    """The oracle for a robot, which its joints tell. It takes no options. Raises PolicyError."""
    if options:
        raise PolicyError(f"the oracle takes no options, but was given {', '.join(options)}")
    dt_s = 1.0 / contract.rates.policy_hz
    is_base = set(contract.feedback.joint_states.joints) == set(driving.WHEELS)
    return DrivingOracle(dt_s) if is_base else OraclePolicy(dt_s)


def _act(expert: Any, observation: FloatArray) -> FloatArray:
    """What an expert does. (39,) -> (4,). Experts rely on being clipped, and warn about it at every step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # A copy: that of the door writes into it.
        return np.asarray(expert.get_action(observation.copy()), np.float64)


def _within_reach(rows: FloatArray, privileged: FloatArray) -> FloatArray:
    """Rows that stop at the sides of the box that the robot keeps its commanded hand in. (H, 14) -> (H, 14)."""
    reach_min, reach_max = privileged[metaworld_action.REACH_MIN], privileged[metaworld_action.REACH_MAX]
    clipped = np.clip(rows[:, POSITION], reach_min, reach_max)
    bounded: FloatArray = rows.copy()
    bounded[:, LINEAR_VELOCITY] = np.where(clipped == rows[:, POSITION], rows[:, LINEAR_VELOCITY], 0.0)
    bounded[:, POSITION] = clipped
    return bounded


def _experts() -> Mapping[str, Any]:
    """Task -> class of its expert. Experts keep no state between calls."""
    try:
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise PolicyError("the oracle needs Meta-World: pip install metaworld") from error
    experts: Mapping[str, Any] = ENV_POLICY_MAP
    return experts
