"""How the hand was led: the length of its way, and how smoothly."""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray

_PADDING = 4
_CUTOFF_HZ, _LEAST_AMPLITUDE = 10.0, 0.05
_STILL_M = 1e-3


def path_length(positions: FloatArray) -> float:
    """positions: (N, 3) [m]. -> [m]"""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def smoothness(positions: FloatArray, dt_s: float) -> float | None:
    """Spectral arc length of the speed profile: below 0, and the further below, the less smooth. (N, 3) [m].

    None for a hand that moved less than a millimetre. Source: Balasubramanian et al., "On the analysis of movement
    smoothness", Journal of NeuroEngineering and Rehabilitation, 2015, with its constants.
    """
    if path_length(positions) < _STILL_M:
        return None
    speeds = np.linalg.norm(np.diff(positions, axis=0), axis=1) / dt_s
    size = 2 ** (int(np.ceil(np.log2(len(speeds)))) + _PADDING)
    amplitudes = np.abs(np.fft.rfft(speeds, size))
    amplitudes = amplitudes / amplitudes[0]
    frequencies = np.fft.rfftfreq(size, dt_s)
    kept = amplitudes[frequencies <= _CUTOFF_HZ]
    loud = np.flatnonzero(kept >= _LEAST_AMPLITUDE)
    kept = kept[: loud[-1] + 1]
    if len(kept) < 2:
        return 0.0
    steps = np.hypot(1.0 / (len(kept) - 1), np.diff(kept))
    return -float(steps.sum())
