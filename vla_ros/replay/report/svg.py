"""Curves over time as SVG, drawn by hand: a few lines each, and no library to load in a page.

A drawing is as wide and as high as the page makes it. So there are no texts in it, which would be stretched too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.types import FloatArray

WIDTH, HEIGHT = 1000.0, 100.0
_MAX_POINTS = 3000
_MARGIN = 0.08
_TICKS = 3.0


@dataclass(frozen=True, eq=False)
class Curve:
    """css: a class of the page's style. seconds, values: (N,); NaN breaks the line."""

    css: str
    seconds: FloatArray
    values: FloatArray


@dataclass(frozen=True)
class Axis:
    """The values that a chart shows, from its lower to its upper edge."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value is, from 0 at the upper edge to 1 at the lower one."""
        return 1.0 - (value - self.low) / (self.high - self.low)

    def ticks(self) -> Sequence[float]:
        """A few round values."""
        step = nice_step((self.high - self.low) / _TICKS)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def axis_of(curves: Sequence[Curve], least: float) -> Axis:
    """All values, with some room. least: what is to be told apart at the least, in the unit of the values."""
    known = np.concatenate([curve.values[np.isfinite(curve.values)] for curve in curves] or [np.zeros(0)])
    if not len(known):
        return Axis(0.0, 1.0)
    middle, span = (float(known.max()) + float(known.min())) / 2.0, float(known.max()) - float(known.min())
    half = (0.5 + _MARGIN) * max(span, least)
    return Axis(middle - half, middle + half)


def chart(curves: Sequence[Curve], end_s: float, axis: Axis) -> str:
    """Curves on one vertical axis, with a line at each of its ticks."""
    grid = "".join(_horizontal(axis.share(tick)) for tick in axis.ticks())
    return svg(grid + "".join(_polylines(curve, end_s, axis) for curve in curves))


def bands(spans: Sequence[tuple[float, float, str]], end_s: float) -> str:
    """Stretches of time over the whole height. spans: (from, to [s], css class)"""
    return svg(
        "".join(
            f'<rect class="{css}" x="{_x(from_s, end_s):.2f}" y="0" '
            f'width="{max(_x(to_s, end_s) - _x(from_s, end_s), 0.5):.2f}" height="{HEIGHT:g}"/>'
            for from_s, to_s, css in spans
        )
    )


def svg(inner: str) -> str:
    """A drawing that fills its place."""
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">{inner}</svg>'


def nice_step(rough: float) -> float:
    """The next of 1, 2 or 5 times a power of ten."""
    if rough <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1.0 - 1e-9))


def thinned(seconds: FloatArray, values: FloatArray, most: int = _MAX_POINTS) -> tuple[FloatArray, FloatArray]:
    """The same curve with fewer points: of each stretch its lowest and its highest, so that no peak is lost."""
    if len(values) <= most:
        return seconds, values
    kept = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), most // 2):
        known = part[np.isfinite(values[part])]
        if len(known) < len(part):
            kept.add(int(part[~np.isfinite(values[part])][0]))
        if len(known):
            kept.update((int(known[values[known].argmin()]), int(known[values[known].argmax()])))
    index = np.array(sorted(kept))
    return seconds[index], values[index]


def _x(seconds: float, end_s: float) -> float:
    return WIDTH * seconds / end_s if end_s > 0.0 else 0.0


def _horizontal(share: float) -> str:
    return f'<line class="grid" x1="0" x2="{WIDTH:g}" y1="{HEIGHT * share:.1f}" y2="{HEIGHT * share:.1f}"/>'


def _polylines(curve: Curve, end_s: float, axis: Axis) -> str:
    seconds, values = thinned(curve.seconds, curve.values)
    known = np.isfinite(values)
    parts = []
    for part in np.split(np.arange(len(values)), np.flatnonzero(~known)):
        shown = part[known[part]]
        points = " ".join(
            f"{_x(seconds[index], end_s):.1f},{HEIGHT * axis.share(values[index]):.1f}" for index in shown.tolist()
        )
        if points:
            parts.append(f'<polyline class="{curve.css}" points="{points}"/>')
    return "".join(parts)
