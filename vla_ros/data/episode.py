"""One demonstration before it is written, and the check that it is what the dataset holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.schema import SUBTASK_INDEX, Feature, Schema
from vla_ros.errors import DataError, MessageError
from vla_ros.images import compressed_size

Fact = str | int | float | bool
_FACT_TYPES: Mapping[str, type] = {"string": str, "int64": int, "float64": float, "bool": bool}
_JPEG_START = b"\xff\xd8"


@dataclass(frozen=True, eq=False)
class EpisodeRecord:
    """T frames, one every 1 / fps seconds from 0 on. task: the sentence that was carried out.

    images: view -> T encoded files (PNG or JPEG, colour); columns: feature -> (T, n), or (T,) where n is 1;
    facts: what is known of the whole episode.
    """

    task: str
    images: Mapping[str, Sequence[bytes]]
    columns: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Fact]

    @property
    def length(self) -> int:
        """Frames."""
        return max([*map(len, self.images.values()), *map(len, self.columns.values())], default=0)


def image_encoding(data: bytes) -> str:
    """What kind of file these bytes begin: jpeg, or else png."""
    return "jpeg" if data.startswith(_JPEG_START) else "png"


def checked(record: EpisodeRecord, schema: Schema) -> EpisodeRecord:
    """The record with the dtypes of the schema and scalars as (T,). Raises DataError, naming column and frame."""
    if not record.task.strip():
        raise DataError("an episode without a sentence was given")
    _check_keys("view", record.images, schema.views)
    _check_keys("column", record.columns, schema.columns)
    _check_keys("fact", record.facts, schema.facts)
    length = _length(record)
    columns = {name: _column(name, record.columns[name], f, length) for name, f in schema.columns.items()}
    for view, feature in schema.views.items():
        _check_images(view, record.images[view], feature)
    for name, kind in schema.facts.items():
        _check_fact(name, record.facts[name], kind)
    _check_subtasks(columns, schema)
    return EpisodeRecord(record.task, dict(record.images), columns, dict(record.facts))


def _check_keys(what: str, given: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for name in declared:
        if name not in given:
            raise DataError(f"an episode without the {what} {name} was given")
    for name in given:
        if name not in declared:
            raise DataError(f"an episode has the {what} {name}; this dataset has {', '.join(declared) or 'none'}")


def _length(record: EpisodeRecord) -> int:
    lengths = {name: len(values) for name, values in (*record.images.items(), *record.columns.items())}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"the columns of an episode differ in length: {told}")
    if record.length == 0:
        raise DataError("an episode without frames was given")
    return record.length


def _column(name: str, values: NDArray[Any], feature: Feature, length: int) -> NDArray[Any]:
    (width,) = feature.shape
    shapes = ((length, width), (length,)) if width == 1 else ((length, width),)
    if values.shape not in shapes:
        raise DataError(f"{name} has the shape {values.shape}; it must be {shapes[0]}")
    if values.dtype.kind != np.dtype(feature.dtype).kind:
        raise DataError(f"{name} is of {values.dtype}; it must be of {feature.dtype}")
    with np.errstate(over="ignore"):  # too large for the dtype: infinite, which is refused below
        stored = values.astype(feature.dtype).reshape(length if width == 1 else (length, width))
    if not np.isfinite(stored).all():
        frame = int(np.argwhere(~np.isfinite(stored))[0, 0])
        raise DataError(f"{name} has a value that is not a finite {feature.dtype}, at frame {frame}")
    return stored


def _check_images(view: str, files: Sequence[bytes], feature: Feature) -> None:
    height, width = feature.shape[:2]
    for frame, data in enumerate(files):
        try:
            size = compressed_size(np.frombuffer(data, np.uint8), image_encoding(data))
        except MessageError as error:
            raise DataError(f"view {view}, frame {frame}: {error}") from error
        if size != (width, height):
            raise DataError(f"view {view}, frame {frame}: {size[0]}x{size[1]} pixels; it must be {width}x{height}")


def _check_fact(name: str, value: Fact, kind: str) -> None:
    if type(value) is not _FACT_TYPES[kind] or (isinstance(value, float) and not math.isfinite(value)):
        raise DataError(f"the fact {name} is {value!r}; it must be a {kind}{', and finite' * (kind == 'float64')}")


def _check_subtasks(columns: Mapping[str, NDArray[Any]], schema: Schema) -> None:
    if SUBTASK_INDEX not in columns:
        return
    indices = columns[SUBTASK_INDEX]
    wrong = (indices < 0) | (indices >= len(schema.subtasks))
    if wrong.any():
        frame = int(np.argmax(wrong))
        raise DataError(f"{SUBTASK_INDEX} is {indices[frame]} at frame {frame}; there are {len(schema.subtasks)}")
