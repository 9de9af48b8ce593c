"""Policies that replays are tried with, by name: `replay_policies:light`."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from live_runs import LightSeeker, small_contract

from vla_ros.contract import Contract
from vla_ros.resources import config_path
from vla_ros.types import Chunk, Observation


def light(_contract: Contract, options: Mapping[str, str]) -> LightSeeker:
    """What drove the live run. gain: how fast it goes."""
    return LightSeeker(gain=float(options.get("gain", "1.0")))


class _Deadly(LightSeeker):
    def predict(self, observation: Observation) -> Chunk:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(observation)


def deadly_at(_contract: Contract, options: Mapping[str, str]) -> LightSeeker:
    """Kills its process once: whoever comes after finds the file `once`, and lives."""
    once = Path(options["once"])
    if once.exists():
        return LightSeeker()
    once.touch()
    return _Deadly()


def interrupting(_contract: Contract, options: Mapping[str, str]) -> LightSeeker:
    """Presses Ctrl-C for the process `pid` when it is loaded for the second time. loads: a folder to count in."""
    loads = Path(options["loads"])
    loads.mkdir(exist_ok=True)
    (loads / str(len(list(loads.iterdir())))).touch()
    if len(list(loads.iterdir())) == 2:
        os.kill(int(options["pid"]), signal.SIGINT)
    return LightSeeker()


def write_small_contract(path: Path, **limits: Any) -> Path:
    """The contract of a live run as a file, with other limits if need be."""
    mapping = yaml.safe_load(config_path("sawyer_sim").read_text(encoding="utf-8"))
    for view, camera in small_contract().cameras.items():
        mapping["cameras"][view] |= {"width": camera.width, "height": camera.height}
    mapping["limits"] |= limits
    path.write_text(yaml.safe_dump(mapping), encoding="utf-8")
    return path
