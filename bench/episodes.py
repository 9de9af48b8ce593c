"""Episodes measured so far: one line of JSON each, so that a run that was cut short goes on where it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bench.report import ROOT, commit, digest
from vla_ros.policy.metaworld_action import CONTROL_DT_S

Way = Literal["bare", "in process", "ros"]
WAYS: tuple[Way, ...] = get_args(Way)
# Below this, latency in simulated time is not what it would be on a robot.
MIN_REALTIME = 0.95


@dataclass(frozen=True)
class Measured:
    """One episode. way: bare robot without limits, decision path in one process, or over ROS.

    sim_time_s: to success or to the end; clips: limit -> ticks on which it acted; wall_time_s: over ROS only.
    """

    way: Way
    task: str
    variation: str
    success: bool
    sim_time_s: float
    stops: int = 0
    latches: int = 0
    clips: Mapping[str, int] = field(default_factory=dict)
    wall_time_s: float | None = None


class EpisodeLog:
    """The file, and what it holds of this very code and contract."""

    def __init__(self, path: Path, contract: Path, fresh: bool) -> None:
        """fresh: forget what the file holds of them."""
        self._path = path
        # Not the commit: a changed README changes no episode, and a changed tree without a commit may.
        self._subject = {"code": digest(ROOT / "vla_ros"), "contract": digest(contract)}
        self._commit = commit()
        lines = path.read_text().splitlines() if path.exists() else []
        records = [record for line in lines if (record := _parse(line))]
        self._mine: dict[tuple[str, str, str], Measured] = {}
        for record in records:
            if not fresh and all(record[key] == value for key, value in self._subject.items()):
                self._remember(Measured(**record["episode"]))
        self._others = [record for record in records if any(record[key] != self._subject[key] for key in self._subject)]
        if fresh:
            path.write_text("".join(json.dumps(record) + "\n" for record in self._others))

    def __contains__(self, key: tuple[Way, str, str]) -> bool:
        return key in self._mine

    def add(self, episode: Measured) -> None:
        """Write it down at once."""
        record = {**self._subject, "commit": self._commit, "episode": asdict(episode)}
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._remember(episode)

    def of(self, way: Way, tasks: Iterable[str], variations: Iterable[str]) -> list[Measured]:
        """The episodes of one way, task by task."""
        wanted = [(way, task, variation) for task in tasks for variation in variations]
        return [self._mine[key] for key in wanted if key in self._mine]

    def _remember(self, episode: Measured) -> None:
        self._mine[episode.way, episode.task, episode.variation] = episode


def _parse(line: str) -> dict[str, Any]:
    """A line; empty for the last one of a run that was killed while it wrote."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def realtime_factor(episodes: Iterable[Measured]) -> float:
    """Simulated seconds per second over episodes over ROS; NaN without any."""
    timed = [episode for episode in episodes if episode.wall_time_s is not None]
    wall_s = sum(episode.wall_time_s or 0.0 for episode in timed)
    return sum(episode.sim_time_s for episode in timed) / wall_s if wall_s else float("nan")


def summary(episodes: list[Measured]) -> str:
    """One line: successes, time, and what the guard did."""
    solved = sum(episode.success for episode in episodes)
    sim_time_s = sum(episode.sim_time_s for episode in episodes)
    text = f"{solved:3}/{len(episodes):<3} in {sim_time_s / max(len(episodes), 1):4.2f} s"
    if not episodes or episodes[0].way == "bare":
        return text
    clips: Counter[str] = Counter()
    for episode in episodes:
        clips.update(episode.clips)
    ticks = sim_time_s / CONTROL_DT_S
    acted = ", ".join(f"{name} {count / ticks:.0%}" for name, count in clips.most_common())
    stops, latches = sum(episode.stops for episode in episodes), sum(episode.latches for episode in episodes)
    factor = realtime_factor(episodes)
    speed = "" if factor != factor else f"  real time x {factor:.3f}{' TOO SLOW' if factor < MIN_REALTIME else ''}"
    return f"{text}  stops {stops}  latches {latches}{speed}  clipped ticks: {acted or 'none'}"
