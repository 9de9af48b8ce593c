"""The thread that talks to a worker, so that nobody else ever waits for one: it may be stopped, stuck or lying."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue

from vla_ros.errors import WorkerError, in_one_line
from vla_ros.policy import messages, wire
from vla_ros.policy.worker_process import OutputLines, WorkerProcess
from vla_ros.types import ChunkReply, FailureReply, Request, WorkerDied, WorkerReply

Event = messages.Hello | messages.Failure | WorkerReply

_RECEIVE_BYTES = 2**16
# Between a dying process's closed socket and its exit status.
_EXIT_PATIENCE_S = 0.05


@dataclass
class _Asked:
    """The request in flight. unsent: what of it the socket has not taken yet."""

    request_id: int
    payload: bytes
    started_ns: int
    unsent: memoryview


class WorkerLink(threading.Thread):
    """Puts what comes back from the worker into `events`; WorkerDied is the last of them.

    A request is sent by whoever asks, as far as the socket takes it, so that the worker need not wait until this
    thread is given the interpreter; the rest is sent here.
    """

    def __init__(self, process: WorkerProcess, output: OutputLines) -> None:
        super().__init__(name="worker-link", daemon=True)
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._process = process
        self._output = output
        self._handed_over: SimpleQueue[_Asked] = SimpleQueue()
        self._handing_over = threading.Lock()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._frames = wire.FrameReader()
        self._asked: _Asked | None = None
        self._greeted = False
        self._stopping = False
        self._verdict = ""

    def send(self, request: Request) -> None:
        """Send a request; returns at once. For one thread, before stop, and not before the last one was answered."""
        started_ns = time.monotonic_ns()
        try:
            payload = messages.encode_observation(request.observation)
            unsent = memoryview(wire.frame(request.id, payload))
        except WorkerError as error:
            self.events.put(FailureReply(request.id, b"", started_ns, started_ns, str(error)))
            return
        with self._handing_over:  # the answer may be here before the thread knows of the question
            with contextlib.suppress(OSError):  # full, or broken: the thread finds out
                unsent = unsent[self._process.connection.send(unsent) :]
            self._handed_over.put(_Asked(request.id, payload, started_ns, unsent))
        if unsent:
            self._wake_writer.send(b"r")

    def stop(self) -> None:
        """End the thread without an event."""
        self._stopping = True
        self._wake_writer.send(b"s")
        self.join()
        self._wake_reader.close()
        self._wake_writer.close()

    def run(self) -> None:
        """Until stopped or the worker is dead."""
        with self._selector as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ, self._on_wake)
            selector.register(self._process.connection, selectors.EVENT_READ, self._on_connection)
            selector.register(self._process.output_fd, selectors.EVENT_READ, self._on_output)
            selector.register(self._process.exit_fd, selectors.EVENT_READ, self._on_exit)
            try:
                self._loop()
            except WorkerError as error:
                self._process.end(0.0)
                self._verdict = f"the worker broke the protocol: {error}"
            except ConnectionError:
                self._verdict = self._process.how_it_ended(_EXIT_PATIENCE_S)
            except Exception as error:  # a worker that nobody listens to must be known to be dead
                self._process.end(0.0)
                self._verdict = f"the link to the worker failed: {in_one_line(error)}"
            if not self._stopping:
                self._say_that_it_died()

    def _loop(self) -> None:
        while not self._stopping and not self._verdict:
            for key, _ in self._selector.select():
                key.data()

    def _on_wake(self) -> None:
        self._wake_reader.recv(64)
        self._take_over()
        if self._asked is not None:
            self._flush(self._asked)

    def _on_connection(self) -> None:
        if self._asked is not None:
            self._flush(self._asked)
        self._receive()

    def _take_over(self) -> None:
        with self._handing_over:
            while not self._handed_over.empty():
                self._asked = self._handed_over.get()

    def _flush(self, asked: _Asked) -> None:
        """Send what the socket takes; a stopped worker's socket is full, and the rest waits for it."""
        connection = self._process.connection
        try:
            while asked.unsent:
                asked.unsent = asked.unsent[connection.send(asked.unsent) :]
        except BlockingIOError:
            pass
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if asked.unsent else 0)
        if self._selector.get_key(connection).events != events:
            self._selector.modify(connection, events, self._on_connection)

    def _receive(self) -> None:
        try:
            while data := self._process.connection.recv(_RECEIVE_BYTES):
                for request_id, payload in self._frames.feed(data):
                    self._accept(request_id, messages.decode_answer(payload), time.monotonic_ns())
        except BlockingIOError:
            return
        self._verdict = self._process.how_it_ended(_EXIT_PATIENCE_S)

    def _accept(self, request_id: int, answer: messages.FromWorker, now_ns: int) -> None:
        if not self._greeted and request_id == 0 and not isinstance(answer, messages.Plan):
            self._greeted = True
            self.events.put(answer)
            return
        self._take_over()
        asked = self._asked
        if asked is None or asked.request_id != request_id or isinstance(answer, messages.Hello):
            raise WorkerError(f"it answered request {request_id}, which is not in flight")
        if asked.unsent:
            raise WorkerError(f"it answered request {request_id} before it had all of it")
        self._asked = None
        about = (request_id, asked.payload, asked.started_ns, now_ns)
        reply: ChunkReply | FailureReply
        if isinstance(answer, messages.Failure):
            reply = FailureReply(*about, answer.text)
        else:
            reply = ChunkReply(*about, answer.chunk, answer.inference_s)
        self.events.put(reply)
        _ = reply.observation_sha256  # here, where no tick waits for it, and behind the reply

    def _on_output(self) -> None:
        data = os.read(self._process.output_fd, _RECEIVE_BYTES)
        if not data:
            self._selector.unregister(self._process.output_fd)
        self._output.feed(data)

    def _on_exit(self) -> None:
        self._receive()  # what it said last
        self._verdict = self._process.how_it_ended(_EXIT_PATIENCE_S)

    def _say_that_it_died(self) -> None:
        with contextlib.suppress(Exception):  # the log may be what failed
            self._drain_output()
        self.events.put(WorkerDied(self._verdict))

    def _drain_output(self) -> None:
        """What a dead worker printed last. A grandchild may hold the pipe open, so this does not wait for its end."""
        os.set_blocking(self._process.output_fd, False)
        try:
            while data := os.read(self._process.output_fd, _RECEIVE_BYTES):
                self._output.feed(data)
        except BlockingIOError:
            pass
        self._output.finish()
