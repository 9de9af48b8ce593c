"""How every node of this package runs: one loop, both clocks, clean ends, diagnostics, and which ROS domain.

The executor is rclpy's SingleThreadedExecutor. The EventsExecutor of rclpy 7.1.6 was tried and left: its
`spin_once` ends in a SystemError, and its `spin` went on at a full core after the context's shutdown.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args, try_shutdown

from vla_ros.errors import VlaRosError
from vla_ros.garbage import seldom_collected
from vla_ros.ros import messages
from vla_ros.types import Now

EXIT_OK = 0
EXIT_USER_ERROR = 2
ISOLATED_DOMAIN_ID = "77"
SIM_DOMAIN_VARIABLE = "VLA_ROS_SIM_DOMAIN_ID"
RANGE_VARIABLE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
DIAGNOSTICS_PERIOD_S = 1.0

# rclpy warns of a reader that asks for more than is offered, by events that the executor looks at whenever it wakes:
# more than half of its work. Those of what our own nodes and tools read are left out; a robot's driver may not fit.
NO_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)

Diagnosis = tuple[int, str, Mapping[str, str]]
"""A diagnostic level (0 ok, 1 warning, 2 error), one sentence, and values by name."""


class Finished(Exception):
    """Raised in a node's callback when its work is done: `run_node` closes the node and returns status 0."""


def isolate(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy of an environment in which this package's graph cannot meet a stranger's robot by accident.

    The rule, the same for demo, simulation, play and the commands that talk to them: domain 77, on this machine only,
    whatever ROS_DOMAIN_ID says, since that may well be a robot's. VLA_ROS_SIM_DOMAIN_ID names another domain. Who names
    one may also set ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT: then their own DDS profile says how far it reaches.
    """
    chosen = environ.get(SIM_DOMAIN_VARIABLE)
    has_profile = bool(chosen) and environ.get(RANGE_VARIABLE) == "SYSTEM_DEFAULT"
    reach = "SYSTEM_DEFAULT" if has_profile else "LOCALHOST"
    return {**environ, "ROS_DOMAIN_ID": chosen or ISOLATED_DOMAIN_ID, RANGE_VARIABLE: reach}


def run_node(factory: Callable[[], Node], args: Sequence[str] | None, help_text: str) -> int:
    """Run one node until SIGINT, SIGTERM or Finished; returns the process's exit status.

    The ROS context is still valid when `node.close()`, if there is one, is called, so a node can publish its
    last words there (and should `wait_for_all_acked`, or they may die with it). A VlaRosError, from wherever, is
    one line on stderr and status 2.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text + "\n")
        return EXIT_OK
    try:
        with _stop_signals() as stopped:
            _init(arguments)
            try:
                _create_and_spin(factory, stopped)
            finally:
                try_shutdown()
    except VlaRosError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USER_ERROR
    return EXIT_OK


def _init(arguments: list[str]) -> None:
    try:
        leftovers = remove_ros_args(args=arguments)
        # rclpy's own signal handlers would invalidate the context before the node could close.
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise VlaRosError(str(error).splitlines()[0]) from error
    if leftovers:
        try_shutdown()
        raise VlaRosError(
            f"unknown argument '{leftovers[0]}': parameters are passed as --ros-args -p NAME:=VALUE (see --help)"
        )


def _create_and_spin(factory: Callable[[], Node], stopped: _Stop) -> None:
    if stopped.is_set():
        return
    node = None
    try:
        node = factory()
        if not stopped.is_set():
            _spin(node, stopped)
    except (Finished, ExternalShutdownException):
        pass
    except VlaRosError:
        if not stopped.is_set():  # else it is what the signal interrupted
            raise
    finally:
        if node is not None:
            _close(node)


def _spin(node: Node, stopped: _Stop) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # A guard condition counts as work, so triggering it makes a waiting spin_once return.
    stopped.on_set(node.create_guard_condition(lambda: None).trigger)
    try:
        with seldom_collected():
            while not stopped.is_set():
                executor.spin_once()
    finally:
        executor.remove_node(node)
        executor.shutdown()


def _close(node: Node) -> None:
    close = getattr(node, "close", None)
    try:
        if close is not None:
            close()
    finally:
        node.destroy_node()


class _Stop:
    """A flag that wakes someone when it is set, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self.is_set = self._event.is_set

    def on_set(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self._event.is_set():
            wake()

    def set(self) -> None:
        self._event.set()
        self._wake()


_stopped = _Stop()


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Turn the first SIGINT or SIGTERM into a flag. A second one ends the process at once, as if unhandled.

    Python runs its handlers between two bytecodes of the main thread, which may be waiting inside DDS; the wakeup
    file descriptor is written at once, and a thread that reads it sets the flag.
    """
    global _stopped
    stopped = _stopped = _Stop()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = {number: signal.signal(number, _on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_await_signal, args=(reader, stopped), name="signals", daemon=True)
    thread.start()
    try:
        yield stopped
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writer)
        thread.join()
        os.close(reader)
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Whether a signal has told this process to end: for what takes long before the node spins."""
    return _stopped.is_set()


def _on_signal(_number: int, _frame: Any) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)


def _await_signal(reader: int, stopped: _Stop) -> None:
    while received := os.read(reader, 1):
        if received[0] in (signal.SIGINT, signal.SIGTERM):
            stopped.set()


def now(node: Node) -> Now:
    """This instant on the node's ROS clock and on the steady clock [ns]."""
    return Now(ros_ns=node.get_clock().now().nanoseconds, steady_ns=time.monotonic_ns())


def create_steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """A timer that ticks on, whatever the ROS clock does."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


class DiagnosticsPublisher:
    """Publishes a node's state on `/diagnostics` every second of steady time, so also while a sim clock rests."""

    def __init__(self, node: Node, fill: Callable[[], Diagnosis]) -> None:
        self._node = node
        self._fill = fill
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10, event_callbacks=NO_EVENTS)
        create_steady_timer(node, DIAGNOSTICS_PERIOD_S, self.publish)

    def publish(self) -> None:
        """Publish now."""
        level, text, values = self._fill()
        stamp_ns = self._node.get_clock().now().nanoseconds
        name = self._node.get_fully_qualified_name()
        self._publisher.publish(messages.to_diagnostics(name, level, text, values, stamp_ns))
