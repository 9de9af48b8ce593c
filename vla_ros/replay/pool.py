"""Several bags, one after the other here or side by side in processes of their own, which load the policy anew.

A bag that cannot be replayed, and one at which a process dies, is told of and does not keep the others from their turn.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from vla_ros.errors import VlaRosError
from vla_ros.replay.judging.verdict import Verdict
from vla_ros.replay.one_bag import Order, perform

_END_TIMEOUT_S = 5.0
_EVERY_S = 0.2


@dataclass(frozen=True)
class Ended:
    """How it went with a bag. verdict: None where it could not be replayed, for the reason that `failure` says."""

    order: Order
    verdict: Verdict | None
    failure: str = ""


@dataclass(frozen=True)
class _Far:
    """How far a worker is, and how far there is to go, in seconds of the bag."""

    done_s: float
    all_s: float


Progress = Callable[[Order, float, float], None]
"""The same, of an order."""


def attempt(order: Order, progress: Callable[[float, float], None] = lambda _done, _all: None) -> Ended:
    """One bag, here and now."""
    try:
        return Ended(order, perform(order, progress))
    except VlaRosError as error:
        return Ended(order, None, str(error))


def perform_all(orders: Sequence[Order], workers: int, progress: Progress) -> Iterator[Ended]:
    """All of them, in the order in which they end."""
    if workers <= 1 or len(orders) <= 1:
        for order in orders:
            yield attempt(order, lambda done_s, all_s, order=order: progress(order, done_s, all_s))  # type: ignore[misc]
        return
    pool = _Pool(orders, progress)
    try:
        yield from pool.run(min(workers, len(orders)))
    finally:
        pool.close()


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    order: Order


class _Pool:
    def __init__(self, orders: Sequence[Order], progress: Progress) -> None:
        self._waiting, self._progress = deque(orders), progress
        self._workers: dict[Connection, _Worker] = {}

    def run(self, count: int) -> Iterator[Ended]:
        for _ in range(count):
            self._start()
        while self._workers:
            for connection in wait(list(self._workers)):
                assert isinstance(connection, Connection)
                ended = self._heard(self._workers[connection])
                if ended is not None:
                    yield ended

    def _heard(self, worker: _Worker) -> Ended | None:
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            return self._death(worker)
        if isinstance(said, _Far):
            self._progress(worker.order, said.done_s, said.all_s)
            return None
        assert isinstance(said, Ended)
        if self._waiting:
            self._give(worker, self._waiting.popleft())
        else:
            self._end(worker)
        return said

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        # Ctrl-C is for us, who end the workers: they are born deaf to it. Starting the tracker would end the deafness.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker = _Worker(process, ours, self._waiting[0])
        self._workers[ours] = worker
        self._give(worker, self._waiting.popleft())

    def _give(self, worker: _Worker, order: Order) -> None:
        worker.order = order
        try:
            worker.connection.send(order)
        except OSError:  # it is dead, which shows when it is listened to
            return

    def _death(self, worker: _Worker) -> Ended:
        worker.process.join(_END_TIMEOUT_S)
        status = worker.process.exitcode
        how = f"was killed by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
        self._end(worker)
        if self._waiting:
            self._start()
        return Ended(worker.order, None, f"the process that replayed it {how}")

    def _end(self, *workers: _Worker) -> None:
        for worker in workers:
            del self._workers[worker.connection]
            worker.connection.close()
            worker.process.terminate()
        until_s = time.monotonic() + _END_TIMEOUT_S
        for worker in workers:
            worker.process.join(max(0.0, until_s - time.monotonic()))
            worker.process.kill()  # does nothing but to one that is deaf
            worker.process.join()

    def close(self) -> None:
        self._end(*self._workers.values())


def _serve(connection: Connection) -> None:
    """A worker's life. What is not raised on purpose ends it, with its traceback on the standard error."""
    # Whoever ends it early ends it as any program ends: what is half written is taken away.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        while True:
            connection.send(attempt(connection.recv(), _Teller(connection)))
    except (EOFError, BrokenPipeError):  # whoever asked is gone
        return


class _Teller:
    """Says how far it is, a few times a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._said_at_s = 0.0

    def __call__(self, done_s: float, all_s: float) -> None:
        now_s = time.monotonic()
        if now_s - self._said_at_s >= _EVERY_S or done_s >= all_s:
            self._said_at_s = now_s
            self._connection.send(_Far(done_s, all_s))
