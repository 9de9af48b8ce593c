"""Many rotations at once, by the formulas of vla_ros.geometry. Quaternions are x, y, z, w."""

from __future__ import annotations

import numpy as np

from vla_ros.geometry import CONJUGATE, IDENTITY
from vla_ros.types import ANGULAR_VELOCITY, LINEAR_VELOCITY, POSITION, QUATERNION, FloatArray


def turned(angular_rad_s: FloatArray, dt_s: float) -> FloatArray:
    """How far each instant is turned from the first, in the base frame, by velocities that hold until the next one.

    (B, T, 3) -> (B, T, 4), unit, w >= 0; exactly no rotation where nothing turned.
    """
    turns = from_rotation_vectors(angular_rad_s * dt_s)  # (B, T, 4)
    result = np.tile(IDENTITY, (*angular_rad_s.shape[:2], 1))
    for step in range(1, angular_rad_s.shape[1]):
        product = products(turns[:, step - 1], result[:, step - 1])
        result[:, step] = product / np.linalg.norm(product, axis=-1, keepdims=True)
    return np.where(result[..., 3:] < 0.0, -result, result)


def between(start: FloatArray, end: FloatArray) -> FloatArray:
    """As `geometry.rotation_between`, of each pair: rotation vectors in the base frame. (..., 4) -> (..., 3) [rad]"""
    turns = products(end, start * CONJUGATE)
    turns = np.where(turns[..., 3:] < 0.0, -turns, turns)
    sines = np.linalg.norm(turns[..., :3], axis=-1, keepdims=True)
    angles = 2.0 * np.arctan2(sines, turns[..., 3:])
    return np.asarray(turns[..., :3] * (angles / np.maximum(sines, 1e-12)))


def rows_seen_along(rows: FloatArray, axes: FloatArray) -> FloatArray:
    """Actions that are given along the base frame's axes, along those of a frame that is turned by `axes` from it.

    rows: (..., H, 14), whose positions are displacements; axes: (..., 4) unit. -> (..., H, 14)
    """
    back = (axes * CONJUGATE)[..., None, :]
    seen: FloatArray = rows.copy()
    for vectors in (POSITION, LINEAR_VELOCITY, ANGULAR_VELOCITY):
        pure = np.concatenate([rows[..., vectors], np.zeros_like(rows[..., :1])], axis=-1)
        seen[..., vectors] = _carried(back, pure)[..., :3]
    seen[..., QUATERNION] = _carried(back, rows[..., QUATERNION])
    return seen


def _carried(turn: FloatArray, quaternions: FloatArray) -> FloatArray:
    """turn * q * turn^-1: a rotation about the turned axis, and with w = 0 a turned vector. (..., 4) -> (..., 4)"""
    return products(products(turn, quaternions), turn * CONJUGATE)


def from_rotation_vectors(vectors: FloatArray) -> FloatArray:
    """Exponential map. (..., 3) [rad] -> (..., 4) unit"""
    half = 0.5 * np.linalg.norm(vectors, axis=-1, keepdims=True)
    scale = 0.5 * np.sinc(half / np.pi)  # sin(half) / (2 half), at zero too
    return np.concatenate([scale * vectors, np.cos(half)], axis=-1)


def products(left: FloatArray, right: FloatArray) -> FloatArray:
    """First rotate by `right`, then by `left`. (..., 4), (..., 4) -> (..., 4)"""
    (x1, y1, z1, w1), (x2, y2, z2, w2) = np.moveaxis(left, -1, 0), np.moveaxis(right, -1, 0)
    return np.stack(
        [
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ],
        axis=-1,
    )
