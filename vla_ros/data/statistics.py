"""Statistics of columns, as LeRobot keeps them: per episode, and joined over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.episode import EpisodeRecord, image_encoding
from vla_ros.data.schema import IMAGE_PREFIX, OWN_FEATURES
from vla_ros.errors import DataError, MessageError
from vla_ros.images import frame_to_rgb
from vla_ros.types import Frame

QUANTILES: Mapping[str, float] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
# Decoding is what images cost; a few per episode suffice for means of colours.
_SAMPLED_IMAGES = 8
_LEVELS = 256


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of one feature. values: by name but count, each (n,), or (3, 1, 1) per channel of images, in 0 to 1.

    count: frames that were looked at.
    """

    values: Mapping[str, NDArray[np.float64]]
    count: int

    def to_lists(self) -> dict[str, list[Any]]:
        """As LeRobot writes them."""
        lists = {name: self.values[name].tolist() for name in NAMES if name != "count"}
        return {name: lists.get(name, [self.count]) for name in NAMES}


def from_lists(lists: Mapping[str, Sequence[Any]]) -> Statistics:
    """The inverse of to_lists."""
    values = {name: np.asarray(lists[name], np.float64) for name in NAMES if name != "count"}
    return Statistics(values, int(lists["count"][0]))


def describe_episode(record: EpisodeRecord, own: Mapping[str, NDArray[Any]]) -> dict[str, Statistics]:
    """Of every feature. record: checked; own: LeRobot's own columns. Raises DataError for an image that is corrupt."""
    described = {f"{IMAGE_PREFIX}{view}": _of_images(view, files) for view, files in record.images.items()}
    described |= {name: _of_column(values) for name, values in record.columns.items()}
    return described | {name: _of_column(own[name]) for name in OWN_FEATURES}


def join(parts: Iterable[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Over all parts. Mean and std are exact; a quantile is the weighted mean of the parts', as in LeRobot."""
    joined: dict[str, Statistics] = {}
    for part in parts:
        joined |= {name: _joined(joined[name], new) if name in joined else new for name, new in part.items()}
    return joined


def _joined(left: Statistics, right: Statistics) -> Statistics:
    count = left.count + right.count
    share = right.count / count

    def mix(of_left: NDArray[np.float64], of_right: NDArray[np.float64]) -> NDArray[np.float64]:
        return of_left + (of_right - of_left) * share

    a, b = left.values, right.values
    mean = mix(a["mean"], b["mean"])
    variance = mix(a["std"] ** 2 + (a["mean"] - mean) ** 2, b["std"] ** 2 + (b["mean"] - mean) ** 2)
    values = {
        "min": np.minimum(a["min"], b["min"]),
        "max": np.maximum(a["max"], b["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: mix(a[name], b[name]) for name in QUANTILES},
    }
    return Statistics(values, count)


def _of_column(column: NDArray[Any]) -> Statistics:
    """column: (T,) or (T, n)."""
    numbers = column.reshape(len(column), -1).astype(np.float64)
    quantiles = np.quantile(numbers, list(QUANTILES.values()), axis=0)
    values = {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }
    return Statistics(values, len(numbers))


def _of_images(view: str, files: Sequence[bytes]) -> Statistics:
    frames = np.unique(np.linspace(0, len(files) - 1, min(len(files), _SAMPLED_IMAGES)).round().astype(int))
    counts = np.zeros((3, _LEVELS), np.int64)
    for frame in frames:
        try:
            rgb = frame_to_rgb(Frame(np.frombuffer(files[frame], np.uint8), image_encoding(files[frame])))
        except MessageError as error:
            raise DataError(f"view {view}, frame {frame}: {error}") from error
        counts += np.stack([np.bincount(rgb[..., channel].reshape(-1), minlength=_LEVELS) for channel in range(3)])
    return Statistics(_of_histograms(counts), len(frames))


def _of_histograms(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """counts: (3, 256), pixels of each level. Returns (3, 1, 1) each, in 0 to 1."""
    levels = np.arange(_LEVELS) / (_LEVELS - 1)
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    spread = (counts * (levels[None, :] - mean[:, None]) ** 2).sum(axis=1) / total
    cumulated = counts.cumsum(axis=1)
    values = {
        "min": levels[np.argmax(counts > 0, axis=1)],
        "max": levels[_LEVELS - 1 - np.argmax(counts[:, ::-1] > 0, axis=1)],
        "mean": mean,
        "std": np.sqrt(spread),
        **{name: levels[np.argmax(cumulated >= q * total[:, None], axis=1)] for name, q in QUANTILES.items()},
    }
    return {name: value.reshape(3, 1, 1) for name, value in values.items()}
