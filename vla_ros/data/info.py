"""meta/info.json: the schema and how much of a dataset is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from vla_ros.data.files import replacing
from vla_ros.data.schema import OWN_FEATURES, Dtype, FactKind, Feature, Schema
from vla_ros.errors import DataError
from vla_ros.strict import Broken, Problem, build

INFO_PATH = "meta/info.json"
CHUNK_FILES, DATA_FILE_MB, VIDEO_FILE_MB = 1000, 100, 200
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_FRAME_AXES = ("height", "width", "channels")


@dataclass(frozen=True)
class Totals:
    """How much of a dataset is complete. What its folder holds beyond was being written when its writer died."""

    episodes: int = 0
    frames: int = 0
    tasks: int = 0


def write_info(folder: Path, schema: Schema, totals: Totals) -> None:
    """Replace meta/info.json at once. Raises DataError."""
    with replacing(folder / INFO_PATH) as draft:
        draft.write_text(json.dumps(to_info(schema, totals), indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def read_info(folder: Path, subtasks: tuple[str, ...]) -> tuple[Schema, Totals]:
    """subtasks: from a file of their own. Raises DataError, naming the file and all that is wrong in it."""
    path = folder / INFO_PATH
    info = read_json(path)
    if "units" not in info:
        raise DataError(f"{path}: no units are declared; only datasets that declare metres and radians are read")
    problems: list[Problem] = []
    built = build(_Info, _known(_Info, info), "", problems)
    if isinstance(built, Broken):
        raise DataError(f"{path}: {'; '.join(f'{problem.path} {problem.text}' for problem in problems)}")
    try:
        features = {name: Feature(f.dtype, f.shape, _names(f)) for name, f in built.features.items()}
        for name, feature in OWN_FEATURES.items():
            if features.pop(name, None) != feature:
                raise DataError(f"the feature {name} is missing, or is not {feature.dtype} of shape (1,)")
        schema = Schema(built.robot_type, built.fps, features, built.facts, subtasks, built.units)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return schema, Totals(built.total_episodes, built.total_frames, built.total_tasks)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises DataError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: this folder is not a dataset") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object")
    return content


def to_info(schema: Schema, totals: Totals) -> dict[str, Any]:
    """The content of meta/info.json: LeRobot's keys, then ours (units, facts), which LeRobot ignores."""
    return {
        "codebase_version": "v3.0",
        "robot_type": schema.robot_type,
        "total_episodes": totals.episodes,
        "total_frames": totals.frames,
        "total_tasks": totals.tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": schema.fps,
        "splits": {"train": f"0:{totals.episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if schema.video_keys else None,
        "features": {name: _feature_info(feature, schema.fps) for name, feature in schema.all_features.items()},
        "units": dict(schema.units),
        "facts": dict(schema.facts),
    }


@dataclass(frozen=True)
class _FeatureInfo:
    dtype: Dtype
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Info:
    """What is read of info.json."""

    codebase_version: Literal["v3.0"]
    robot_type: str
    total_episodes: int
    total_frames: int
    total_tasks: int
    fps: int
    features: Mapping[str, _FeatureInfo]
    units: Mapping[str, str]
    facts: Mapping[str, FactKind]


def _known(cls: type[Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that LeRobot may add, now or later."""
    known = {field.name: source[field.name] for field in fields(cls) if field.name in source}
    if cls is _Info and isinstance(known.get("features"), dict):
        known["features"] = {
            name: _known(_FeatureInfo, feature) if isinstance(feature, dict) else feature
            for name, feature in known["features"].items()
        }
    return known


def _names(info: _FeatureInfo) -> tuple[str, ...] | None:
    return None if info.dtype in ("image", "video") else info.names


def _feature_info(feature: Feature, fps: int) -> dict[str, Any]:
    names = _FRAME_AXES if feature.is_visual else feature.names
    info: dict[str, Any] = {"dtype": feature.dtype, "shape": list(feature.shape)}
    info["names"] = None if names is None else list(names)
    if feature.dtype == "video":
        info["info"] = _video_info(feature, fps)
    return info


def _video_info(feature: Feature, fps: int) -> dict[str, Any]:
    height, width, channels = feature.shape
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
    }
