"""Networks that the benchmark of the gates alters can still be loaded, and are others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from bench.gate_policies import in_bf16, with_large_actions, without_normalisation
from vla_ros.model.checkpoint import load_checkpoint
from vla_ros.resources import checkpoint_path


@pytest.mark.parametrize("make", [in_bf16, without_normalisation, with_large_actions])
def test_an_altered_copy_is_a_checkpoint_with_other_numbers(make: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    source = checkpoint_path("mt10")
    network = load_checkpoint(make(source, tmp_path / "altered")).model
    original = load_checkpoint(source).model
    same = [np.array_equal(one.detach(), network.state_dict()[name]) for name, one in original.state_dict().items()]
    assert not all(same)
