"""What the tests with real ROS share: domains of their own, processes, a probe node, waiting for conditions."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

# Domains up to 101 keep DDS's ports below Linux's ephemeral ones; 0 is everybody's, 76 is test/launch's, 77 is the
# package's own.
DOMAIN_IDS = [number for number in range(10, 102) if number not in (76, 77)]

# Read by this process's own DDS participants as well.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@contextmanager
def own_domain() -> Iterator[dict[str, str]]:
    """An environment with a ROS domain that no other test on this machine uses at the same time."""
    for number in DOMAIN_IDS:
        with (Path(tempfile.gettempdir()) / f"vla_ros_test_domain_{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            domain = {"ROS_DOMAIN_ID": str(number), "VLA_ROS_SIM_DOMAIN_ID": str(number)}
            yield {**os.environ, **domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
            return
    raise RuntimeError("all ROS domains for tests are taken")


def wait_for(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "condition") -> Any:
    """Poll until the condition is true; returns its value. Fails the test, naming `what`, after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


class Process:
    """A child process in its own group; everything it prints is in `output()`. Killed at the end of `with`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        # The child holds this file alone: no pipe that could fill up, and nothing to read while it runs.
        self._log = tempfile.NamedTemporaryFile(mode="w+b", prefix="vla_ros_test_", suffix=".log")  # noqa: SIM115
        self._child = subprocess.Popen(
            command,
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._child.pid

    def output(self) -> str:
        """What it has printed so far, stdout and stderr."""
        return Path(self._log.name).read_text(errors="replace")

    def running(self) -> bool:
        """True while it has not ended."""
        return self._child.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, not to its children."""
        self._child.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Its exit status, negative for a signal."""
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process still runs after {timeout_s:g} s; it said:\n{self.output()}") from None

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, then its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.running():
            os.killpg(self.pid, signal.SIGKILL)
            self._child.wait()
        if error is not None:
            print(f"--- output of {self._child.args!r}:\n{self.output()}")
        self._log.close()


def spawn_node(
    module: str, env: Mapping[str, str], parameters: Mapping[str, object] | None = None, extra: Sequence[str] = ()
) -> Process:
    """Start `vla_ros.ros.<module>`'s main as a process. parameters: passed with -p; extra: further ROS arguments."""
    code = f"import sys; from vla_ros.ros.{module} import main; sys.exit(main())"
    pairs = [word for name, value in (parameters or {}).items() for word in ("-p", f"{name}:={_yaml(value)}")]
    ros_args = ["--ros-args", *pairs, *extra] if pairs or extra else []
    return Process([sys.executable, "-c", code, *ros_args], env)


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value)


class Probe:
    """A node of the test's own in a given domain, spinning in a background thread until the end of `with`."""

    def __init__(self, env: Mapping[str, str], name: str = "probe", namespace: str = "") -> None:
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=int(env["ROS_DOMAIN_ID"]),
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = Node(name, namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def collect(self, kind: type, topic: str, qos: Any = 10, raw: bool = False) -> list[Any]:
        """Subscribe; the returned list grows as messages arrive."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos, raw=raw)
        return received

    def call(self, kind: type, service: str, request: Any, timeout_s: float = 20.0) -> Any:
        """Call a service once it is there; returns its response."""
        client = self.node.create_client(kind, service)
        wait_for(client.service_is_ready, timeout_s, f"service {service}")
        future = client.call_async(request)
        wait_for(future.done, timeout_s, f"answer of service {service}")
        return future.result()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        # The thread first: destroying what it still waits on is a segmentation fault.
        self._executor.shutdown()
        self._thread.join(10.0)
        if not self._thread.is_alive():
            self.node.destroy_node()
        self._context.try_shutdown()
