"""The demonstrations that trainings learn from: whether they are all there, and which they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vla_ros.data.info import INFO_PATH
from vla_ros.data.reader import Dataset
from vla_ros.data.tables import STATISTICS_PATH
from vla_ros.errors import DataError, LearningError, VlaRosError
from vla_ros.learning.collection_plan import read_plan, takes_of
from vla_ros.resources import config_path, digest


def require_whole(folders: Iterable[str]) -> None:
    """Raises LearningError, with the command that mends it, for a dataset that is missing, and for one that has fewer
    episodes than the plan of its name in config/collection/.
    """
    for folder in dict.fromkeys(folders):
        there, planned = _episodes_in(Path(folder)), _episodes_planned(Path(folder).name)
        if not there or there < planned:
            amount = f"has {there} of {planned} episodes" if there else "has no episode"
            raise LearningError(f"{folder} {amount}; collect it first, whole: {_command(Path(folder))}")


def fingerprint(folder: str) -> str:
    """Of how much there is in a dataset, and of the statistics of all its frames. Raises VlaRosError."""
    return digest(Path(folder) / path for path in (INFO_PATH, STATISTICS_PATH))


def _episodes_in(folder: Path) -> int:
    try:
        return Dataset.open(folder).totals.episodes
    except DataError:
        return 0


def _episodes_planned(name: str) -> int:
    """0 for a dataset that no plan is named after."""
    try:
        path = config_path(f"collection/{name}")
    except VlaRosError:
        return 0
    return len(takes_of(read_plan(path)))


def _command(folder: Path) -> str:
    usual = Path("data") / folder.name
    return f"vla_ros collect {folder.name}" + ("" if folder == usual else f" --output {folder}")
