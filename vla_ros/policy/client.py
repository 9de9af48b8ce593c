"""The policy node's side of a worker. No call but `start` and `close` ever waits."""

from __future__ import annotations

import contextlib
import queue
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vla_ros.errors import PolicyError, WorkerError
from vla_ros.policy import messages
from vla_ros.policy.worker_link import WorkerLink
from vla_ros.policy.worker_process import OutputLines, WorkerCommand, WorkerProcess
from vla_ros.types import Needs, Request, WorkerDied, WorkerReply

_POLL_S = 0.1


def print_to_stderr(line: str) -> None:
    """Where a worker's output goes unless told otherwise."""
    with contextlib.suppress(OSError):  # a closed terminal is no reason to lose the worker
        sys.stderr.write(f"[worker] {line}\n")


class WorkerClient:
    """One policy in one process, from start to close; a dead one is replaced by a new client, never revived.

    All methods are for one thread. `log` receives each line that the worker prints, in the client's own thread.
    """

    def __init__(
        self,
        python: str,
        policy: str,
        contract_path: Path,
        options: Mapping[str, str],
        log: Callable[[str], None] = print_to_stderr,
    ) -> None:
        self._command = WorkerCommand(python, policy, contract_path, options)
        self._output = OutputLines(log)
        self._process: WorkerProcess | None = None
        self._link: WorkerLink | None = None
        self._hello: messages.Hello | None = None
        self._in_flight: int | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is no worker that said hello."""
        return self._hello.pid if self._hello else None

    def start(self, timeout_s: float, is_cancelled: Callable[[], bool] = lambda: False) -> Needs:
        """Start the worker and wait until its policy is loaded. Raises PolicyError or WorkerError, in words.

        is_cancelled: asked several times a second whether to give up.
        """
        if self._process is not None:
            raise WorkerError("this worker was started before")
        self._process = WorkerProcess(self._command)
        self._link = WorkerLink(self._process, self._output)
        self._link.start()
        try:
            self._hello = self._greeting(self._link, timeout_s, is_cancelled)
        except BaseException:  # a Ctrl-C while waiting must leave no process behind either
            self.close(0.0)
            raise
        return self._hello.needs

    def submit(self, request: Request) -> None:
        """Ask; returns at once. Raises WorkerError if the worker is dead or its answer is still due."""
        if self._hello is None or self._link is None:
            raise WorkerError("there is no running worker to ask")
        if self._in_flight is not None:
            raise WorkerError(f"request {self._in_flight} is still in flight")
        self._in_flight = request.id
        self._link.send(request)

    def poll(self) -> list[WorkerReply]:
        """What came back since the last poll: at most one reply and, if it is dead, the worker's death, once."""
        replies: list[WorkerReply] = []
        while self._link is not None and not self._link.events.empty():
            event = self._link.events.get()
            if not isinstance(event, messages.Hello | messages.Failure):
                replies.append(event)
            if isinstance(event, WorkerDied):
                self._hello = None
        if replies:
            self._in_flight = None
        return replies

    def close(self, timeout_s: float) -> None:
        """Terminate the worker, kill it after timeout_s, reap it. May be called in any state, and again."""
        if self._link is None or self._process is None:
            return
        self._link.stop()
        self._process.end(timeout_s)
        self._process.close()
        self._link = self._hello = self._in_flight = None

    def _greeting(self, link: WorkerLink, timeout_s: float, is_cancelled: Callable[[], bool]) -> messages.Hello:
        policy = self._command.policy
        event = self._first_event(link, timeout_s, is_cancelled)
        if isinstance(event, messages.Failure):
            raise PolicyError(event.text)
        if isinstance(event, WorkerDied):
            raise WorkerError(self._with_last_words(f"policy {policy!r} was not loaded: {event.text}"))
        assert isinstance(event, messages.Hello)
        if event.protocol != messages.PROTOCOL:
            raise WorkerError(
                f"the worker of {self._command.python!r} speaks protocol {event.protocol}, not {messages.PROTOCOL}: "
                "it has another version of vla_ros"
            )
        return event

    def _first_event(self, link: WorkerLink, timeout_s: float, is_cancelled: Callable[[], bool]) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return link.events.get(timeout=min(timeout_s, _POLL_S))
            except queue.Empty:
                if is_cancelled():
                    raise WorkerError("told to end while the policy was being loaded") from None
            if time.monotonic() > deadline_s:
                text = f"policy {self._command.policy!r} was not loaded within {timeout_s:g} s"
                raise WorkerError(self._with_last_words(text))

    def _with_last_words(self, text: str) -> str:
        lines = self._output.last_words()
        return "\n  ".join([f"{text}; it printed last:", *lines]) if lines else text
