"""Starting a worker, listening to what it prints, and making sure that it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import WorkerError

# The worker's interpreter may be one that has no vla_ros: it borrows this one. Appended, not put first, so that the
# borrowed folder (often a site-packages) never hides the interpreter's own NumPy or torch.
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from vla_ros.policy.worker import main; sys.exit(main(sys.argv[2:]))"
)
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]

_LAST_WORDS = 5
_MAX_LINE_BYTES = 16_384
_KILL_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class WorkerCommand:
    """What to run. python: the interpreter; policy: a name for the registry; options: for the policy."""

    python: str
    policy: str
    contract_path: Path
    options: Mapping[str, str]

    def words(self, socket_fd: int, lifeline_fd: int) -> list[str]:
        """The command line."""
        options = [f"--option={key}={value}" for key, value in self.options.items()]
        descriptors = [f"--socket-fd={socket_fd}", f"--lifeline-fd={lifeline_fd}"]
        what = [f"--policy={self.policy}", f"--contract={self.contract_path}", *options]
        return [self.python, "-u", "-c", _BOOTSTRAP, str(_PACKAGE_ROOT), *descriptors, *what]


class WorkerProcess:
    """A started worker. connection: the non-blocking socket to it; output_fd: what it prints, non-blocking."""

    def __init__(self, command: WorkerCommand) -> None:
        """Start it. Raises WorkerError if the interpreter cannot be run."""
        self.connection, theirs = socket.socketpair()
        self.connection.setblocking(False)
        lifeline_fd, self._lifeline_fd = os.pipe()
        descriptors = (theirs.fileno(), lifeline_fd)
        try:
            self._popen = subprocess.Popen(
                command.words(*descriptors),
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self.connection.close()
            os.close(self._lifeline_fd)
            raise WorkerError(f"the policy's Python {command.python!r} cannot be run: {error.strerror}") from None
        finally:
            theirs.close()
            os.close(lifeline_fd)
        self.exit_fd = os.pidfd_open(self._popen.pid)

    @property
    def output_fd(self) -> int:
        """Where its output is read; closed by close."""
        assert self._popen.stdout is not None
        return self._popen.stdout.fileno()

    def how_it_ended(self, patience_s: float) -> str:
        """In words, after giving it patience_s to end by itself; it is killed if it does not."""
        try:
            status = self._popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.end(0.0)
            return "the worker closed its connection"
        if status >= 0:
            return f"the worker ended with exit status {status}"
        return f"the worker was killed by signal {-status} ({signal.Signals(-status).name})"

    def end(self, patience_s: float) -> None:
        """Terminate it, kill it after patience_s, and reap it."""
        self._popen.terminate()
        try:
            self._popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            # One that survives SIGKILL hangs in a driver; nothing here can end it, and nobody shall wait for it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_KILL_TIMEOUT_S)

    def close(self) -> None:
        """Close this side's descriptors. The lifeline's end kills what a wrapper script may have left behind."""
        self.connection.close()
        os.close(self._lifeline_fd)
        os.close(self.exit_fd)
        assert self._popen.stdout is not None
        self._popen.stdout.close()


class OutputLines:
    """What a worker prints, line by line to `log`; the last lines are kept to explain its death."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._partial = b""
        self._last: deque[str] = deque(maxlen=_LAST_WORDS)

    def feed(self, data: bytes) -> None:
        """Add what was read; complete lines are logged. A line without end is cut."""
        *lines, self._partial = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._partial) > _MAX_LINE_BYTES:
            lines, self._partial = [*lines, self._partial], b""
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                self._last.append(text)
                self._log(text)

    def finish(self) -> None:
        """Log what is left without a line's end."""
        self.feed(b"\n")

    def last_words(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._last)
