"""Where callbacks put what arrived, and ticks fetch it: callbacks store, ticks decide."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Protocol

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy

from vla_ros.errors import MessageError
from vla_ros.ros.inputs import InputSpec
from vla_ros.types import NS_PER_S, Sample

KEEP_OTHERS = 64  # samples of one channel that came by a service
WARN_EVERY_S = 5.0


class Logger(Protocol):
    """What rclpy's and Python's loggers share."""

    def warning(self, message: str, /) -> Any:
        """Say something that needs attention."""
        ...


class Inbox:
    """Messages as they arrived, with the steady instant of their reception. Bounded, and safe from any thread.

    Messages are decoded as they arrive, in the time before the tick and not in the tick's own. What cannot be decoded
    is counted and warned of, the first time at once and then every WARN_EVERY_S for each kind.
    """

    def __init__(self, logger: Logger, steady_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """steady_ns: the steady clock, the same as rclpy's on Linux."""
        self._logger = logger
        self._steady_ns = steady_ns
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Sample[Any]]] = {}
        self._newest_ns: dict[str, int] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self._warned_ns: dict[tuple[str, str], int] = {}

    def listen(self, spec: InputSpec) -> Callable[[Any, Mapping[str, int]], None]:
        """A subscription's callback for this input."""
        return partial(self._store, spec)

    def put(self, sample: Sample[Any]) -> None:
        """Add something that came another way than by a topic."""
        self._append(sample, KEEP_OTHERS)

    def drain(self) -> tuple[Sample[Any], ...]:
        """Everything readable that arrived since the last call, in order of reception."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        return tuple(sorted(chain.from_iterable(waiting.values()), key=lambda sample: sample.received_ns))

    @property
    def error_counts(self) -> Mapping[str, int]:
        """How many messages could not be read, by "channel: kind"."""
        return {f"{channel}: {kind}": count for (channel, kind), count in list(self._errors.items())}

    def _store(self, spec: InputSpec, msg: Any, info: Mapping[str, int]) -> None:
        received_ns = steady_reception(info["received_timestamp"], time.time_ns(), self._steady_ns())
        try:
            value, stamp_ns = spec.decode(msg)
        except MessageError as error:
            self._refuse(spec.channel, error)
            return
        self._append(Sample(spec.channel, value, stamp_ns, received_ns), spec.keep)

    def _append(self, sample: Sample[Any], keep: int) -> None:
        """Reception is reckoned by way of the system clock: a step of it must not swap two samples of one channel."""
        with self._lock:
            received_ns = max(sample.received_ns, self._newest_ns.get(sample.channel, sample.received_ns))
            self._newest_ns[sample.channel] = received_ns
            waiting = self._waiting.setdefault(sample.channel, deque(maxlen=keep))
            waiting.append(replace(sample, received_ns=received_ns))

    def _refuse(self, channel: str, error: MessageError) -> None:
        key, now_ns = (channel, error.kind), self._steady_ns()
        self._errors[key] += 1
        warned_ns = self._warned_ns.get(key)
        if warned_ns is None or now_ns - warned_ns >= WARN_EVERY_S * NS_PER_S:
            self._warned_ns[key] = now_ns
            self._logger.warning(f"{channel}: refused {self._errors[key]} so far ({error.kind}): {error}")


def subscribe(node: Any, specs: Iterable[InputSpec], inbox: Inbox) -> list[Any]:
    """Let a node's subscriptions fill the inbox. Returns them, to be destroyed with node.destroy_subscription."""
    # rclpy hands over (msg, info) because the callback cannot be called with the message alone.
    return [
        node.create_subscription(
            spec.message_type, spec.topic, inbox.listen(spec), spec.qos, event_callbacks=_events(spec.qos)
        )
        for spec in specs
    ]


def _events(qos: QoSProfile) -> SubscriptionEventCallbacks:
    """rclpy's warning of a publisher that does not fit, for those who may meet one: best effort takes every offer.

    As in `runtime.NO_EVENTS`.
    """
    return SubscriptionEventCallbacks(use_default_callbacks=qos.reliability != ReliabilityPolicy.BEST_EFFORT)


def steady_reception(received_system_ns: int, system_ns: int, steady_ns: int) -> int:
    """The steady instant of a reception that the middleware stamped with the system clock; never later than now.

    0 is a middleware that does not stamp: the callback's instant is then the best that is known.
    """
    if received_system_ns <= 0:
        return steady_ns
    return steady_ns - max(0, system_ns - received_system_ns)
