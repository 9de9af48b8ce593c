"""The worker: one policy in a process of its own, with its own Python interpreter if need be.

WorkerClient starts it and holds the other ends of its two file descriptors: a Unix stream socket for messages, and a
pipe on which nothing is ever written, the lifeline. The worker says hello (or why it cannot), then answers one
observation after another until its socket closes. What a policy raises is an answer, never the end of the process.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from vla_ros.contract_file import load_contract
from vla_ros.errors import PolicyError, VlaRosError, WorkerError, in_one_line
from vla_ros.policy import messages, wire
from vla_ros.policy.protocol import Policy
from vla_ros.policy.registry import create_policy
from vla_ros.types import Chunk

_log = logging.getLogger("worker")
# Whoever asks a policy in a process of his own, as a replay does, is told in the answer and need not read a traceback.
_log.addHandler(logging.NullHandler())


class _NotAgain(logging.Filter):
    """Drops what was said just before: a policy may raise the same at every tick."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is new."""
        text = f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''!r}"
        is_new, self._last = text != self._last, text
        return is_new


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the client goes away. Returns the exit status: 2 if the policy cannot be loaded."""
    # Ctrl-C reaches the whole terminal; the client decides when its worker ends. SIGTERM keeps its default, which
    # ends even a policy that hangs in C code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    _log.addFilter(_NotAgain())
    options = _parse(arguments)
    for inherited_fd in (options.socket_fd, options.lifeline_fd):
        os.set_inheritable(inherited_fd, False)
    die_with(options.lifeline_fd)
    # A copy: the inherited one stays open until the process is gone, so that its closing tells the client just that.
    with socket.socket(fileno=os.dup(options.socket_fd)) as connection:
        try:
            policy = create_policy(options.policy, load_contract(options.contract), options.option)
        except VlaRosError as error:
            _log.info("the policy cannot be loaded", exc_info=error.__cause__)
            _send(connection, messages.Failure(str(error)))
            return 2
        _send(connection, messages.Hello(options.policy, policy.needs, os.getpid()))
        return _serve(connection, options.policy, policy)


def die_with(lifeline_fd: int) -> None:
    """Let the kernel kill this process once the pipe's other end is closed, by whatever death of its owner.

    A thread that watches the pipe would need the interpreter, which a policy hanging in C code may hold for ever;
    a signal sent by the kernel needs nothing, and SIGKILL ends a stopped process too.
    """
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline_fd], [], [], 0.0)[0]:  # closed before the kernel was asked
        raise SystemExit("the process that started this worker is gone")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vla_ros.policy.worker", description="Runs one policy for a policy node.")
    parser.add_argument("--socket-fd", type=int, required=True, help="inherited Unix stream socket")
    parser.add_argument("--lifeline-fd", type=int, required=True, help="inherited reading end of a pipe")
    parser.add_argument("--policy", required=True, help="a registered name, or module:function")
    parser.add_argument("--contract", type=Path, required=True, help="the robot's contract")
    parser.add_argument("--option", type=_option, action="append", default=[], metavar="KEY=VALUE")
    parsed = parser.parse_args(arguments)
    parsed.option = dict(parsed.option)
    return parsed


def _option(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE")
    return key, value


def _serve(connection: socket.socket, name: str, policy: Policy) -> int:
    while received := wire.receive(connection):
        request_id, payload = received
        connection.sendall(wire.frame(request_id, answer(name, policy, payload)))
    return 0


def answer(name: str, policy: Policy, payload: bytes | bytearray) -> bytes:
    """A policy's reply to an encoded observation, encoded. What it raises is a reply, too."""
    return _encoded(_plan(name, policy, payload))


def _plan(name: str, policy: Policy, payload: bytes | bytearray) -> messages.Plan | messages.Failure:
    started_s = time.monotonic()
    try:
        chunk = policy.predict(messages.decode_observation(payload))
        if not isinstance(chunk, Chunk):
            raise PolicyError(f"it answered {type(chunk).__name__}, not a Chunk")
        return messages.Plan(chunk, time.monotonic() - started_s)
    except VlaRosError as error:
        return messages.Failure(f"policy {name!r} failed: {error}")
    except Exception as error:  # a stranger's code may raise anything; the loop goes on
        _log.exception("the policy raised")
        return messages.Failure(f"policy {name!r} raised {in_one_line(error)}")


def _send(connection: socket.socket, said: messages.FromWorker) -> None:
    """What answers no request."""
    connection.sendall(wire.frame(0, _encoded(said)))


def _encoded(said: messages.FromWorker) -> bytes:
    try:
        return messages.encode_answer(said)
    except WorkerError as error:
        return messages.encode_answer(messages.Failure(f"the policy's answer cannot be sent: {error}"))


if __name__ == "__main__":
    raise SystemExit(main())
