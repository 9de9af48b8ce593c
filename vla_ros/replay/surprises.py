"""What a policy's surprises are made of at a recorded bag in which nothing went wrong, to calibrate its alarm by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vla_ros.contract_file import load_contract
from vla_ros.data.files import replacing
from vla_ros.policy.protocol import Policy, Surprised
from vla_ros.replay.run import Replay, Terms
from vla_ros.replay.subject import Subject, identity
from vla_ros.types import NS_PER_S, Chunk, FloatArray, Observation


class _Noting:
    """A policy, and the errors of each look that was expected, with its stamp."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.needs = policy.needs
        self.looks: list[tuple[int, tuple[float, ...]]] = []

    def predict(self, observation: Observation) -> Chunk:
        chunk = self._policy.predict(observation)
        if isinstance(self._policy, Surprised) and self._policy.errors is not None:
            self.looks.append((observation.t_obs_ns, self._policy.errors))
        return chunk


def errors_at(bag: Path, subject: Subject, kept: Path) -> tuple[FloatArray, FloatArray]:
    """Replay a bag, unless the file `kept` says what came of that before. -> stamps (N,) [s], errors (N, 3); both are
    empty where nothing was foretold.

    Raises BagError.
    """
    contract = load_contract(subject.contract)
    key = json.loads(json.dumps(identity(subject, bag, None, {})))
    if kept.is_file() and (record := json.loads(kept.read_text(encoding="utf-8")))["key"] == key:
        looks = record["looks"]
    else:
        noting = _Noting(subject.load(contract))
        for _ in Replay(Terms(bag, contract), subject.policy, noting).decisions():
            pass
        looks = noting.looks
        with replacing(kept) as draft:
            draft.write_text(json.dumps({"key": key, "looks": looks}), encoding="utf-8")
    return np.array([stamp for stamp, _ in looks]) / NS_PER_S, np.array([errors for _, errors in looks])
