"""Several processes that run trials side by side, each with a policy and a robot of its own.

A worker that dies is told of with the trial that it died at, and ends the run: nobody else takes that trial over.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from vla_ros.errors import LearningError, VlaRosError
from vla_ros.learning.evaluation.performer import Performer
from vla_ros.learning.evaluation.subject import Subject
from vla_ros.learning.evaluation.trials import Order, Outcome

_END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _Ready:
    """The policy is loaded."""


@dataclass(frozen=True)
class _Failure:
    """What cannot be done, in words."""

    text: str


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    order: Order | None = None

    def give(self, order: Order) -> None:
        self.order = order
        try:
            self.connection.send(order)
        except OSError as error:
            raise self._death() from error

    def answer(self) -> Outcome | _Ready:
        """Wait for it. Raises LearningError for what the worker could not do, and if it is dead."""
        try:
            said = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(said, _Failure):
            raise LearningError(said.text)
        self.order = None
        assert isinstance(said, Outcome | _Ready)
        return said

    def _death(self) -> LearningError:
        self.process.join(_END_TIMEOUT_S)
        status = self.process.exitcode
        how = f"was killed by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
        at = "while it loaded the policy" if self.order is None else f"at {_name(self.order)}"
        return LearningError(f"a worker {how} {at}; what was measured before is kept")


class Pool:
    """Use it in a `with`: leaving it ends the workers at once, whatever they are at."""

    def __init__(self, subject: Subject, count: int) -> None:
        """Start the workers and wait until each has loaded the policy. Raises LearningError, in one sentence."""
        self._workers: list[_Worker] = []
        try:
            for _ in range(count):
                self._workers.append(_start(subject))
            for worker in self._workers:
                worker.answer()
        except BaseException:
            self.close()
            raise

    def each(self, order: Order) -> list[Outcome]:
        """The same trial on all workers at once, each slowed down by the others. Raises LearningError."""
        for worker in self._workers:
            worker.give(order)
        return [outcome for worker in self._workers if isinstance(outcome := worker.answer(), Outcome)]

    def perform(self, orders: Iterable[Order]) -> Iterator[Outcome]:
        """Outcomes as they come; trials are begun in the order given. Raises LearningError."""
        waiting = deque(orders)
        busy: dict[Connection, _Worker] = {}
        for worker in self._workers[: len(waiting)]:
            worker.give(waiting.popleft())
            busy[worker.connection] = worker
        while busy:
            for connection in _ready(list(busy)):
                worker = busy.pop(connection)
                outcome = worker.answer()
                assert isinstance(outcome, Outcome)
                if waiting:
                    worker.give(waiting.popleft())
                    busy[connection] = worker
                yield outcome

    def close(self) -> None:
        """End all workers. May be called twice."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ready(connections: Sequence[Connection]) -> Iterator[Connection]:
    for connection in wait(connections):
        assert isinstance(connection, Connection)
        yield connection


def _start(subject: Subject) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, subject), daemon=True)
    # Ctrl-C is for us, who end the workers: they are born deaf to it. Starting the tracker would end the deafness.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, subject: Subject) -> None:
    """A worker's life. What is not raised on purpose ends it, with its traceback on the standard error."""
    try:
        with Performer(subject) as performer:
            connection.send(_Ready())
            while True:
                connection.send(performer.perform(connection.recv()))
    except VlaRosError as error:
        connection.send(_Failure(str(error)))
    except EOFError:  # whoever asked is gone
        return


def _name(order: Order) -> str:
    return f"{order.trial.suite}, {order.trial.task} {order.trial.variation}"
