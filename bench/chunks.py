"""How many chunks per second the network `small` makes of three camera views, and how much of that its backbones take.

Asked as a robot asks it: the policy `vla` with one observation after another, preparation of the frames included, the
instruction read before. The weights are random, which changes what it says but not how long it takes.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bench.options import Options
from bench.report import Bar, Spread, conclude, spread
from vla_ros.contract_file import load_contract
from vla_ros.deploy.profiling import BACKBONES, ENCODER, profile_vla_model
from vla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.model.config import preset
from vla_ros.model.untrained import untrained
from vla_ros.policy.vla import VLAPolicy, create
from vla_ros.types import NS_PER_S, Observation, Pose

_VIEWS = ("front", "wrist", "top")
_SIDE = 128
_THREADS = 2
_WARM_UP = 10
_MIN_CHUNKS_PER_S = 15.0
_MAX_PARAMETERS_M = 37.0
_FRAME_NS = NS_PER_S // 10


def run(options: Options) -> bool:
    """Measure, print, and return whether the bars are met."""
    asked = max(20, round(10 * options.seconds))
    print(f"chunks: {asked} observations of {len(_VIEWS)} x {_SIDE} px, batch 1, {_THREADS} threads", flush=True)
    contract = load_contract(options.contract)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "small"
        save_checkpoint(folder, untrained(preset("small", _VIEWS)), contract, is_trained=False)
        given = {"checkpoint": str(folder), "device": "cpu", "untrained": "yes"}
        by_default = _asked(create(contract, given), asked)
        default_threads = torch.get_num_threads()
        row = _asked(create(contract, {**given, "threads": str(_THREADS)}), asked)
        model = load_checkpoint(folder).model
    profile = profile_vla_model(model, model.inputs([_observation(0)]), runs=asked, threads=_THREADS)
    print(f"  one chunk [ms]         {row}")
    print(f"  by default, threads {default_threads}  {by_default}")
    for part in profile.parts:
        print(f"    {part.name:20} {part.duration.median_ms:7.3f} ms  {part.parameters / 1e6:6.2f} M parameters")
    print(f"  vision backbones       {profile.backbone_share:.0%} of the network's time")
    print(f"  a new instruction      {profile.reading.median_ms:.1f} ms once")
    numbers = {
        "chunk_ms": asdict(row),
        "by_default": {"threads": default_threads, "chunk_ms": asdict(by_default)},
        "parts_ms": {part.name: part.duration.median_ms for part in profile.parts},
        "backbone_share": profile.backbone_share,
        "backbone_ms": profile.part(BACKBONES).duration.median_ms,
        "reading_ms": profile.reading.median_ms,
        "parameters": profile.parameters,
        "language_encoder_parameters": profile.part(ENCODER).parameters,
        "trainable": profile.trainable,
    }
    bars = [
        Bar("chunks per second", 1e3 / row.median, _MIN_CHUNKS_PER_S, "chunks/s", at_least=True),
        Bar("parameters at run time, all counted", profile.parameters / 1e6, _MAX_PARAMETERS_M, "M"),
    ]
    return conclude(options.output, "chunks", numbers, bars)


def _asked(policy: VLAPolicy, count: int) -> Spread:
    """How long one chunk takes [ms]."""
    took_ms = []
    for index in range(_WARM_UP + count):
        seen = _observation(index)
        began_s = time.perf_counter()
        policy.predict(seen)
        took_ms.append(1e3 * (time.perf_counter() - began_s))
    return spread(took_ms[_WARM_UP:])


def _observation(index: int) -> Observation:
    """Noise, as fast as a camera of 10 Hz would bring it."""
    rng = np.random.default_rng(index)
    images = {view: rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8) for view in _VIEWS}
    pose = Pose(np.array([0.0, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))
    return Observation(NS_PER_S + index * _FRAME_NS, "open the drawer", images, pose, pose, None, 0.5)
