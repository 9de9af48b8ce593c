"""Several processes in one terminal: started together, their output prefixed, ended together, none left behind."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from vla_ros.errors import VlaRosError
from vla_ros.lifetime import end_with

TERM_AFTER_S = 5.0
KILL_AFTER_S = 10.0

# Signal, to whom, and how long after the first one to wait. Who owns the terminal has heard a ctrl-c already, and a
# second one would cut its tidying up short: it is given a moment.
_ROUNDS = (
    (signal.SIGINT, (False,), 1.0),
    (signal.SIGINT, (True,), TERM_AFTER_S),
    (signal.SIGTERM, (False, True), KILL_AFTER_S),
    (signal.SIGKILL, (False, True), math.inf),
)
_READ_BYTES = 65_536


class ProcessDiedError(VlaRosError):
    """A process ended while it was needed. The text says which, and how."""


@dataclass(frozen=True)
class Process:
    """One process to run. owns_terminal: it reads keys and draws, so it stays in the foreground and is not prefixed."""

    name: str
    words: tuple[str, ...]
    owns_terminal: bool = False


@dataclass(frozen=True)
class Ending:
    """How a process ended. status: its exit status, or minus the number of the signal that killed it."""

    name: str
    status: int

    def __str__(self) -> str:
        if self.status < 0:
            return f"{self.name} was killed by signal {-self.status} ({_signal_name(-self.status)})"
        return f"{self.name} ended with exit status {self.status}"


class _Child:
    """A started process, and the line that it has begun to print."""

    def __init__(self, process: Process, environ: Mapping[str, str]) -> None:
        self.process = process
        parent = os.getpid()
        self.popen = subprocess.Popen(
            process.words,
            stdin=None if process.owns_terminal else subprocess.DEVNULL,
            stdout=None if process.owns_terminal else subprocess.PIPE,
            stderr=None if process.owns_terminal else subprocess.STDOUT,
            env={**environ, "PYTHONUNBUFFERED": "1"},
            preexec_fn=lambda: _prepare(parent, own_group=not process.owns_terminal),
        )
        self.output = self.popen.stdout
        if self.output is not None:
            os.set_blocking(self.output.fileno(), False)
        self._partial = b""

    def lines(self, output: IO[bytes]) -> tuple[list[str], bool]:
        """The complete lines printed since the last call, and whether there may be more later."""
        try:
            data = os.read(output.fileno(), _READ_BYTES)
        except BlockingIOError:
            return [], True
        *lines, self._partial = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        if not data or len(self._partial) > _READ_BYTES:
            lines, self._partial = [*lines, self._partial], b""
        return [text for line in lines if (text := line.decode(errors="replace").rstrip())], bool(data)

    def signal(self, number: int) -> None:
        """To the process alone; SIGKILL also to what it has started."""
        if number == signal.SIGKILL and not self.process.owns_terminal:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)
        self.popen.send_signal(number)


class Supervisor:
    """Starts, listens to and ends processes. Used from one thread, the main one: Linux ties each child's life to it.

    A child gets SIGTERM when this process dies in whatever way, so that not even `kill -9` leaves one behind.
    """

    def __init__(self, environ: Mapping[str, str], tell: Callable[[str, str], None]) -> None:
        """tell: called with a process's name and each line that it prints."""
        self._environ = environ
        self._tell = tell
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the processes that have not been seen to end, in the order of their start."""
        return tuple(child.process.name for child in self._children)

    def start(self, process: Process) -> int:
        """Start one; returns its process id. Raises OSError if it cannot be run."""
        child = _Child(process, self._environ)
        self._children.append(child)
        if child.output is not None:
            self._selector.register(child.output, selectors.EVENT_READ, child)
        return child.popen.pid

    def poll(self, timeout_s: float) -> tuple[Ending, ...]:
        """Pass on what was printed, waiting up to timeout_s for something; returns who ended since the last call."""
        if self._selector.get_map():
            for key, _ in self._selector.select(timeout_s):
                self._listen(key.data, cast("IO[bytes]", key.fileobj))
        else:
            time.sleep(timeout_s)
        ended = [child for child in self._children if child.popen.poll() is not None]
        return tuple(self._forget(child) for child in ended)

    def require_alive(self) -> None:
        """Pass on what was printed. Raises ProcessDiedError if somebody has ended since the last call."""
        endings = self.poll(0.0)
        if endings:
            raise ProcessDiedError("; ".join(str(ending) for ending in endings))

    def stop(self) -> tuple[Ending, ...]:
        """End all, the last started first: SIGINT, after 5 s SIGTERM, after 10 s SIGKILL. Returns how they ended."""
        started = time.monotonic()
        endings: list[Ending] = []
        for number, owns_terminal, until_s in _ROUNDS:
            for child in reversed(self._children):
                if child.process.owns_terminal in owns_terminal:
                    child.signal(number)
            while self._children and time.monotonic() - started < until_s:
                endings += self.poll(0.05)
        return tuple(endings)

    def _listen(self, child: _Child, output: IO[bytes]) -> bool:
        """Pass on what it printed; False if that was all for now."""
        lines, open_still = child.lines(output)
        for line in lines:
            self._tell(child.process.name, line)
        if not open_still:
            self._selector.unregister(output)
        return open_still and bool(lines)

    def _forget(self, child: _Child) -> Ending:
        """Its last words, and what it may have left in its process group, go with it."""
        if child.output is not None:
            with contextlib.suppress(KeyError):
                self._selector.get_key(child.output)
                while self._listen(child, child.output):
                    pass
                self._selector.unregister(child.output)
            child.output.close()
        if not child.process.owns_terminal:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.popen.pid, signal.SIGKILL)
        self._children.remove(child)
        return Ending(child.process.name, child.popen.returncode)


@contextlib.contextmanager
def running(processes: Sequence[Process], log_path: Path) -> Iterator[Supervisor]:
    """Start processes in this environment; end all at the end of `with`. What they print is added to the log.

    Call `require_alive` now and then: a process that prints much waits to be listened to. Errors name the log.
    """
    with log_path.open("a", encoding="utf-8") as log:
        supervisor = Supervisor(os.environ, lambda name, line: print(f"[{name}] {line}", file=log, flush=True))
        try:
            for process in processes:
                supervisor.start(process)
            yield supervisor
        except VlaRosError as error:
            raise VlaRosError(f"{error}; what the processes said is in {log_path}") from error
        finally:
            supervisor.stop()


def _prepare(parent: int, own_group: bool) -> None:
    """In the child, before it becomes the program: an own process group, and an end when the parent ends."""
    if own_group:
        os.setpgid(0, 0)
    end_with(parent)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
