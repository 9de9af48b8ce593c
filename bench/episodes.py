"""Episodes measured so far: one line of JSON each, so that a run that was cut short goes on where it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bench.report import ROOT, commit, digest, timestamp, write_text
from vla_ros.policy.metaworld_action import CONTROL_DT_S

Way = Literal["bare", "in process", "ros"]
WAYS: tuple[Way, ...] = get_args(Way)
# Way, task, variation.
Key = tuple[Way, str, str]
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
    """The file, and what it holds of this very code and contract.

    Only an incomplete set of episodes is gone on with: a complete one would be old numbers, and is measured anew.
    """

    def __init__(self, path: Path, contract: Path, wanted: Collection[Key], fresh: bool) -> None:
        """wanted: what is to be measured; fresh: forget what the file holds of it, complete or not."""
        self._path, self._wanted = path, wanted
        # Not the commit: a changed README changes no episode, and a changed tree without a commit may.
        self._commit = commit()
        self._subject = {"code": digest(ROOT / "vla_ros", ROOT / "bench"), "contract": digest(contract)}
        self._mine: dict[Key, dict[str, Any]] = {}
        others = []
        for record in [record for line in _lines(path) if (record := _parse(line))]:
            if all(record[key] == value for key, value in self._subject.items()):
                self._mine[_key(record)] = record
            else:
                others.append(record)
        if fresh or all(key in self._mine for key in wanted):
            self._mine = {key: record for key, record in self._mine.items() if key not in wanted}
        write_text(path, "".join(f"{json.dumps(record)}\n" for record in (*others, *self._mine.values())))

    def __contains__(self, key: Key) -> bool:
        return key in self._mine

    def __len__(self) -> int:
        """How many of the wanted episodes there are."""
        return sum(key in self for key in self._wanted)

    def add(self, episode: Measured) -> None:
        """Write it down at once."""
        record = {**self._subject, "commit": self._commit, "when": timestamp(), "episode": asdict(episode)}
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._mine[_key(record)] = record

    def of(self, way: Way, tasks: Iterable[str], variations: Iterable[str]) -> list[Measured]:
        """The episodes of one way, task by task."""
        wanted = [(way, task, variation) for task in tasks for variation in variations]
        return [Measured(**self._mine[key]["episode"]) for key in wanted if key in self._mine]

    def origin(self) -> str:
        """When and at which commits the wanted episodes were measured."""
        records = [self._mine[key] for key in self._wanted if key in self._mine]
        if not records:
            return "nothing was measured"
        times, commits = sorted(record["when"] for record in records), sorted({record["commit"] for record in records})
        return f"{len(records)} episodes, measured from {times[0]} to {times[-1]}, at commit {', '.join(commits)}"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _key(record: Mapping[str, Any]) -> Key:
    episode = record["episode"]
    return episode["way"], episode["task"], episode["variation"]


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
