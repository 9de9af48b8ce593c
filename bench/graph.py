"""Starting the processes of a benchmark, and ending them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vla_ros.errors import VlaRosError
from vla_ros.ros.talk import Graph, GraphError
from vla_ros.supervise import Process, Supervisor


class ProcessDiedError(VlaRosError):
    """A process of the graph ended while it was needed. The text says which, and how."""


def bench_process(module: str, *words: str) -> Process:
    """A process of our own: bench/<module>.py."""
    return Process(module, (sys.executable, "-m", f"bench.{module}", *words))


@contextmanager
def running(processes: Sequence[Process], log_path: Path) -> Iterator[Supervisor]:
    """Start; end all at the end of `with`. What they print is added to the log."""
    with log_path.open("a") as log:
        supervisor = Supervisor(os.environ, lambda name, line: print(f"[{name}] {line}", file=log, flush=True))
        try:
            for process in processes:
                supervisor.start(process)
            yield supervisor
        finally:
            supervisor.stop()


def wait_until_up(graph: Graph, supervisor: Supervisor, timeout_s: float) -> None:
    """Return when guard and policy are up. Raises VlaRosError. A death is noticed every graph timeout."""
    deadline = time.monotonic() + timeout_s
    while (missing := _what_is_missing(graph)) is not None:
        require_alive(supervisor)
        if time.monotonic() > deadline:
            raise missing


def _what_is_missing(graph: Graph) -> GraphError | None:
    try:
        graph.wait_until_up()
    except GraphError as error:
        return error
    return None


def require_alive(supervisor: Supervisor) -> None:
    """Pass on what was printed. Raises ProcessDiedError."""
    endings = supervisor.poll(0.0)
    if endings:
        raise ProcessDiedError("; ".join(str(ending) for ending in endings))
