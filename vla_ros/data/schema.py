"""What a dataset holds: its columns, the facts of its episodes, its units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from vla_ros.errors import DataError

IMAGE_PREFIX = "observation.images."
SUBTASK_INDEX = "subtask_index"

Dtype = Literal["float32", "float64", "int64", "bool", "image", "video"]
FactKind = Literal["string", "int64", "float64", "bool"]
UNITS: Mapping[str, tuple[str, ...]] = {"length": ("m",), "angle": ("rad",)}
_EPISODE_COLUMNS = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")


@dataclass(frozen=True)
class Feature:
    """One column: a value per frame. shape: (n,) numbers, (1,) being a scalar; (height, width, 3) for images.

    names: one per number, or None. An image is a PNG or JPEG file in the table; a video is a file of its own.
    """

    dtype: Dtype
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raises DataError."""
        if self.dtype not in get_args(Dtype):
            raise DataError(f"dtype is {self.dtype!r}; choices: {', '.join(get_args(Dtype))}")
        if any(type(size) is not int or size < 1 for size in self.shape):
            raise DataError(f"shape is {self.shape}; every size must be a whole number of at least 1")
        if self.is_visual and (len(self.shape) != 3 or self.shape[2] != 3):
            raise DataError(f"shape of a {self.dtype} is {self.shape}; it must be (height, width, 3)")
        if not self.is_visual and len(self.shape) != 1:
            raise DataError(f"shape is {self.shape}; it must be one number, of values per frame")
        if not self.is_visual and self.names is not None and len(self.names) != self.shape[0]:
            raise DataError(f"{len(self.names)} names were given to {self.shape[0]} values")

    @property
    def is_visual(self) -> bool:
        """Whether a frame of it is a picture."""
        return self.dtype in ("image", "video")


# What LeRobot has in every dataset; the writer fills it in.
OWN_FEATURES: Mapping[str, Feature] = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}


@dataclass(frozen=True)
class Schema:
    """A dataset's columns. fps [Hz]; facts: what is known of a whole episode, by name; units: by quantity, of UNITS.

    features: those of the caller, without LeRobot's own five. Pictures are named observation.images.<view>.
    subtasks: sentences, in the order in which a feature subtask_index counts them.
    """

    robot_type: str
    fps: int
    features: Mapping[str, Feature]
    facts: Mapping[str, FactKind] = field(default_factory=dict)
    subtasks: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=lambda: {"length": "m", "angle": "rad"})

    def __post_init__(self) -> None:
        """Raises DataError."""
        if type(self.fps) is not int or self.fps < 1:
            raise DataError(f"fps is {self.fps!r}; it must be a whole number of at least 1")
        for name, feature in self.features.items():
            _check_name(name, feature)
        for name, kind in self.facts.items():
            if not name or "/" in name or name in _EPISODE_COLUMNS:
                raise DataError(f"{name!r} cannot be the name of a fact: it is one of LeRobot's, is empty, or has a /")
            if kind not in get_args(FactKind):
                raise DataError(f"the fact {name} is of kind {kind!r}; choices: {', '.join(get_args(FactKind))}")
        if (SUBTASK_INDEX in self.features) != bool(self.subtasks):
            raise DataError(f"a schema has subtasks and the feature {SUBTASK_INDEX}, or neither")
        if len(set(self.subtasks)) != len(self.subtasks):
            raise DataError("two subtasks have the same name")
        _check_units(self.units)

    @property
    def all_features(self) -> dict[str, Feature]:
        """The caller's and LeRobot's own, in the order of the file."""
        return {**self.features, **OWN_FEATURES}

    @property
    def views(self) -> dict[str, Feature]:
        """The pictures, by view."""
        return {
            name.removeprefix(IMAGE_PREFIX): feature for name, feature in self.features.items() if feature.is_visual
        }

    @property
    def columns(self) -> dict[str, Feature]:
        """The caller's features that are numbers, by name."""
        return {name: feature for name, feature in self.features.items() if not feature.is_visual}

    @property
    def video_keys(self) -> tuple[str, ...]:
        """Names of the features that lie in videos."""
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")


def _check_name(name: str, feature: Feature) -> None:
    if not name or "/" in name:
        raise DataError(f"{name!r} cannot be the name of a feature: it is empty or has a /")
    if name in OWN_FEATURES:
        raise DataError(f"{name} is LeRobot's own and is written without being declared")
    if feature.is_visual != name.startswith(IMAGE_PREFIX):
        raise DataError(f"{name} is a {feature.dtype}; pictures, and they alone, are named {IMAGE_PREFIX}<view>")


def _check_units(units: Mapping[str, str]) -> None:
    if set(units) != set(UNITS):
        raise DataError(f"units are declared for {', '.join(units) or 'nothing'}; must be for {', '.join(UNITS)}")
    for quantity, unit in units.items():
        if unit not in UNITS[quantity]:
            raise DataError(f"the unit of {quantity} is {unit!r}; choices: {', '.join(UNITS[quantity])}")
