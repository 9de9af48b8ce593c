"""What surprise is measured by, in a checkpoint that stands: everything else in its file stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vla_ros.errors import ModelError
from vla_ros.model.checkpoint import WEIGHTS
from vla_ros.model.meddling import Meddling
from vla_ros.model.surprise import Calibration

_SCALES, _THRESHOLD, _MEDDLING = "reasoning.surprise_scales", "reasoning.surprise_threshold", "reasoning.meddling."


def write_calibration(folder: Path, calibration: Calibration, meddling: Meddling | None = None) -> None:
    """Put it into a checkpoint's weights, which are replaced whole or not at all; meddling, unless it is None, too.

    Raises ModelError for a checkpoint of a network that foresees nothing, and where it cannot be written.
    """
    path = folder / WEIGHTS
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        tensors = load_file(path)
        if _THRESHOLD not in tensors:
            raise ModelError(f"{folder} foresees nothing: surprise is for networks whose reasoning is foresee or all")
        tensors[_SCALES], tensors[_THRESHOLD] = torch.tensor(calibration.scales), torch.tensor(calibration.threshold)
        taught = {} if meddling is None else meddling.state_dict(prefix=_MEDDLING)
        save_file({**tensors, **taught}, draft)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the calibration cannot be written into {path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
