"""Records a running graph to a rosbag2 folder (MCAP) that ros2 bag, Foxglove and rosbags read.

Messages are stored as they arrive, undecoded. The bag grows under OUTPUT.part and gets its name when the recording
ends; after a kill, all but the last second can be saved with `python -m vla_ros.bags OUTPUT.part NEW_BAG`.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vla_ros.bag_types import define
from vla_ros.bags import PUBLISHERS_NOTE, BagWriter, Message, Qos
from vla_ros.errors import BagError
from vla_ros.ros.message_types import message_class
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.runtime import Diagnosis, DiagnosticsPublisher, Finished, create_steady_timer, run_node
from vla_ros.ros.status import OK, WARNING

DISCOVERY_PERIOD_S = 0.25
FLUSH_PERIOD_S = 1.0
REPORT_PERIOD_S = 5.0
QUEUE_DEPTH = 100  # a burst, or a moment of a busy disk
OUTSIDE_NAMESPACES = ("/clock", "/diagnostics", "/tf", "/tf_static")

PARAMETERS = (
    Parameter("output", "", "folder of the new bag; empty: runs/<date>-<time>/bag"),
    Parameter("topics", (), "topics to record; empty: all in this node's namespace, and /clock, /diagnostics, /tf*"),
    Parameter("exclude", ("/rosout", "/parameter_events"), "topics not to record"),
    Parameter("max_duration_s", 0.0, "stop after so many seconds of wall time; 0: never", minimum=0.0),
    Parameter("max_size_mb", 0.0, "stop after so many megabytes of messages; 0: never", minimum=0.0),
)
INTERFACES = {
    "every topic chosen (any type)": "in: raw, with the publishers' quality of service; latched messages included",
    "/diagnostics (diagnostic_msgs/DiagnosticArray)": "out: what is being recorded, 1 Hz",
}


class RecordNode(Node):
    """Looks for topics, subscribes as their publishers offer, and writes bytes. Stamps are ROS time of reception."""

    def __init__(self) -> None:
        super().__init__("record")
        values = declare(self, PARAMETERS)
        self._chosen = {self.resolve_topic_name(name) for name in values["topics"]}
        self._excluded = {self.resolve_topic_name(name) for name in values["exclude"]}
        self._max_duration_s, self._max_bytes = values["max_duration_s"], values["max_size_mb"] * 1e6
        self._subscriptions_by_topic: dict[str, Subscription] = {}
        self._refused: set[str] = set()
        self._published_by: dict[str, set[str]] = {}
        self._stamps = _Stamps(self)
        self._started_s = time.monotonic()
        self._writer = BagWriter(Path(values["output"] or f"runs/{datetime.now():%Y%m%d-%H%M%S}/bag"))
        create_steady_timer(self, DISCOVERY_PERIOD_S, self._discover)
        create_steady_timer(self, FLUSH_PERIOD_S, self._flush)
        create_steady_timer(self, REPORT_PERIOD_S, lambda: self.get_logger().info(self._summary()))
        DiagnosticsPublisher(self, self._diagnose)
        self.get_logger().info(f"recording to {self._writer.output}; Ctrl-C ends it")
        self._discover()

    def _discover(self) -> None:
        if not self._stamps.running():
            return
        for topic, types in self.get_topic_names_and_types():
            offered = self.get_publishers_info_by_topic(topic) if self._wanted(topic) else []
            if offered:
                self._published_by.setdefault(topic, set()).update(_full_name(one) for one in offered)
                self._record(topic, types, offered)

    def _wanted(self, topic: str) -> bool:
        if topic in self._excluded or topic in self._refused:
            return False
        if self._chosen:
            return topic in self._chosen
        hidden = any(part.startswith("_") for part in topic.split("/"))
        namespace = self.get_namespace().rstrip("/") + "/"
        return not hidden and (topic.startswith(namespace) or topic in OUTSIDE_NAMESPACES)

    def _record(self, topic: str, types: Sequence[str], offered: Sequence[TopicEndpointInfo]) -> None:
        qos = _qos_for(offered)
        previous = self._subscriptions_by_topic.get(topic)
        if previous is not None and not _asks_too_much(previous.qos_profile, qos):
            return
        try:
            if len(types) != 1:
                raise BagError(f"it has several types: {', '.join(types)}")
            kind = message_class(types[0])
            if previous is None:
                self._writer.add_topic(topic, define(types[0]), [_as_bag_qos(one.qos_profile) for one in offered])
        except BagError as error:
            self._refused.add(topic)
            self.get_logger().warning(f"{topic} is not recorded: {error}")
            return
        if previous is not None:  # a publisher came that offers less: ask for no more than it gives
            self.destroy_subscription(previous)
        self._subscriptions_by_topic[topic] = self.create_subscription(
            kind, topic, functools.partial(self._write, topic), qos, raw=True
        )

    def _write(self, topic: str, data: bytes, info: dict[str, int]) -> None:
        self._writer.write(Message(topic, self._stamps.of(info), data))

    def _flush(self) -> None:
        self._writer.flush()
        for limit, reached, unit in (
            (self._max_duration_s, time.monotonic() - self._started_s, "s"),
            (self._max_bytes, self._writer.bytes_written, "bytes"),
        ):
            if limit and reached >= limit:
                self.get_logger().info(f"the limit of {limit:g} {unit} is reached")
                raise Finished

    def _summary(self) -> str:
        counts = self._writer.counts
        return (
            f"{sum(counts.values())} messages of {len(counts)} topics, {self._writer.bytes_written / 1e6:.1f} MB, "
            f"{time.monotonic() - self._started_s:.0f} s"
        )

    def _diagnose(self) -> Diagnosis:
        if not self._stamps.running():
            return WARNING, "waiting for /clock", {}
        level = WARNING if self._refused else OK
        values = {"output": str(self._writer.output), "not recorded": ", ".join(sorted(self._refused))}
        return level, f"recording: {self._summary()}", values

    def close(self) -> None:
        """Finish the bag and say what is in it."""
        self._writer.note(
            PUBLISHERS_NOTE, json.dumps({topic: sorted(who) for topic, who in self._published_by.items()})
        )
        self._writer.close()
        counts = "".join(f"\n  {count:8d}  {topic}" for topic, count in sorted(self._writer.counts.items()))
        self.get_logger().info(f"{self._writer.output}: {self._summary()}{counts}")


class _Stamps:
    """Time of reception [ns]: the system clock's, or the simulated clock's where use_sim_time says so."""

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._simulated = node.get_parameter("use_sim_time").value
        self._last_ns = 0
        self._ties = 0

    def running(self) -> bool:
        """False until a simulated clock has ticked: a stamp of 0 would make the bag decades long."""
        return not self._simulated or self._clock.now().nanoseconds > 0

    def of(self, info: dict[str, int]) -> int:
        """A simulated clock stands between its ticks. What arrives meanwhile is set apart by a nanosecond each,
        because readers sort by stamp and would lose the order of arrival."""
        if not self._simulated:
            return info["received_timestamp"]
        now_ns = self._clock.now().nanoseconds
        self._ties = self._ties + 1 if now_ns == self._last_ns else 0
        self._last_ns = now_ns
        return now_ns + self._ties


def _qos_for(offered: Iterable[TopicEndpointInfo]) -> QoSProfile:
    """The most that every publisher of the topic can give."""
    profiles = [one.qos_profile for one in offered]
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=QUEUE_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _asks_too_much(asked: QoSProfile, possible: QoSProfile) -> bool:
    return any(
        wanted == strong and given != strong
        for wanted, given, strong in (
            (asked.reliability, possible.reliability, ReliabilityPolicy.RELIABLE),
            (asked.durability, possible.durability, DurabilityPolicy.TRANSIENT_LOCAL),
        )
    )


def _as_bag_qos(profile: QoSProfile) -> Qos:
    return Qos(
        reliable=profile.reliability == ReliabilityPolicy.RELIABLE,
        transient_local=profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        depth=profile.depth,
    )


def _full_name(endpoint: TopicEndpointInfo) -> str:
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `record_node`."""
    return run_node(RecordNode, args, help_text("record_node", __doc__ or "", PARAMETERS, INTERFACES))
