"""A policy that misbehaves on demand: `faulty_policy:create` with option `file`, which names the fault of the moment.

An empty file is no fault. The file is read at every request, so a test can switch faults while the loop runs.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sweeping_policy

from vla_ros.contract import Contract
from vla_ros.policy import hold
from vla_ros.policy.protocol import Policy, PolicyFactory
from vla_ros.types import ACTION_WIDTH, NS_PER_S, Chunk, Needs, Observation


@dataclass(frozen=True)
class FaultyPolicy:
    """Another policy, except for the fault that the file names."""

    inner: Policy
    file: Path

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    def predict(self, observation: Observation) -> Any:
        fault = self.file.read_text().strip()
        while fault == "hang":  # until the file says otherwise
            time.sleep(0.02)
            fault = self.file.read_text().strip()
        chunk = self.inner.predict(observation)
        return FAULTS[fault](chunk)


def create(contract: Contract, options: Mapping[str, str]) -> FaultyPolicy:
    """Options: file; motion=hold|sweep, views as for hold; load=raise|exit|hang|print fails at loading instead."""
    load = options.get("load", "")
    if load == "raise":
        raise RuntimeError("no weights\nat all")
    if load == "exit":
        raise SystemExit(7)
    if load == "hang":
        time.sleep(3600)
    if load == "print":
        print("loading the weights")
        print("half a line", end="")
    inner = {key: value for key, value in options.items() if key == "views"}
    motions: dict[str, PolicyFactory] = {"hold": hold.create, "sweep": sweeping_policy.create}
    return FaultyPolicy(motions[options.get("motion", "hold")](contract, inner), Path(options.get("file", "/dev/null")))


def _moved(chunk: Chunk, metres: float) -> Chunk:
    rows = chunk.rows.copy()
    rows[:, 0] += metres
    return replace(chunk, rows=rows)


def _raise(_chunk: Chunk) -> Chunk:
    raise RuntimeError("the policy lost its mind")


def _hang_in_c(_chunk: Chunk) -> Chunk:
    """A regular expression that never ends holds the interpreter for ever."""
    re.match("(a+)+$", "a" * 64 + "b")
    raise AssertionError


def _exit(_chunk: Chunk) -> Chunk:
    os._exit(3)


FAULTS: Mapping[str, Callable[[Chunk], Any]] = {
    "": lambda chunk: chunk,
    "nan": lambda chunk: _moved(chunk, np.nan),
    "jump": lambda chunk: _moved(chunk, 1.0),
    "past": lambda chunk: replace(chunk, t_obs_ns=chunk.t_obs_ns - 10 * NS_PER_S),
    "late": lambda chunk: replace(chunk, dt_s=1e-6),
    "empty": lambda chunk: replace(chunk, rows=np.zeros((0, ACTION_WIDTH))),
    "narrow": lambda chunk: replace(chunk, rows=chunk.rows[:, :7]),
    "flat": lambda chunk: replace(chunk, rows=chunk.rows[0]),
    "nothing": lambda _chunk: None,
    "raise": _raise,
    "hang_in_c": _hang_in_c,
    "exit": _exit,
}
