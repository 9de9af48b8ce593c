"""Saying what was measured: bars that are met or not, statistics, a JSON file of each benchmark."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Bar:
    """What a number must reach. at_least: the limit is a floor, not a ceiling."""

    what: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """A value that is not a number meets nothing."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "NOT MET"
        return f"{verdict:>8}  {self.what}: {self.value:.4g} {self.unit}, {relation} {self.limit:.4g} {self.unit}"


@dataclass(frozen=True)
class Spread:
    """A measured quantity in numbers; all in the samples' unit."""

    count: int
    median: float
    p95: float
    p99: float
    max: float

    def __str__(self) -> str:
        return (
            f"median {self.median:7.3f}  p95 {self.p95:7.3f}  p99 {self.p99:7.3f}  max {self.max:7.3f}  n {self.count}"
        )


def spread(samples: Sequence[float]) -> Spread:
    """NaN where there is no sample."""
    if not samples:
        return Spread(0, *[float("nan")] * 4)
    median, p95, p99 = np.percentile(samples, [50, 95, 99]).tolist()
    return Spread(len(samples), median, p95, p99, max(samples))


def conclude(output: Path, name: str, numbers: Mapping[str, Any], bars: Sequence[Bar]) -> bool:
    """Print the bars, write <output>/<name>.json, and return whether all are met."""
    for bar in bars:
        print(bar)
    record = {
        "when": timestamp(),
        "commit": commit(),
        "machine": machine(),
        "numbers": numbers,
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars],
    }
    path = output / f"{name}.json"
    write_text(path, json.dumps(record, indent=2) + "\n")
    print(f"written to {path}\n", flush=True)
    return all(bar.met for bar in bars)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def timestamp() -> str:
    """This second, with the time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def commit() -> str:
    """The commit of this tree, with "+" if it was changed since; "unknown" outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def digest(*paths: Path) -> str:
    """16 hex digits that name the content of files, and of all Python and YAML files in folders."""
    found = sorted(
        file
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.suffix in (".py", ".yaml") and file.is_file()
    )
    total = hashlib.sha256()
    for file in found:
        total.update(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name}\n".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    model = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load_at_end": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "kernel": platform.release(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
