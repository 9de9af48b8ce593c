"""Take a snapshot of a running graph: who publishes what, how often, and whether our nodes could read it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.errors import MessageError
from vla_ros.live_check import Endpoint, LiveGraph, LiveTopic
from vla_ros.ros.inputs import InputSpec, camera_input, guard_inputs, policy_inputs
from vla_ros.types import NS_PER_S, Needs

_ROBOTS_CHANNELS = {channels.EE_POSE, channels.EE_TWIST, channels.JOINT_STATES, channels.EMERGENCY_STOP}
_DISCOVERY_S = 1.0
_PATIENCE_S = 5.0
_POLL_S = 0.1
_DEPTH = 50  # here every message counts, not just the newest
_SEND_GOAL = "_action/send_goal"


def snapshot_of_running_graph(contract: Contract, duration_s: float, namespace: str = "") -> LiveGraph:
    """Listen as a node of our own, in the robot's namespace. Remappings on the command line count.

    Where somebody publishes /clock, that is the time.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C stays Python's: the caller's to handle
    try:
        node = Node("vla_ros_check", namespace=namespace)
        # The robot is found first, at its own pace, and its clock a moment after.
        _spin_until(node, lambda: node.count_publishers(contract.feedback.ee_pose.topic) > 0, _PATIENCE_S)
        _spin(node, _DISCOVERY_S)
        if node.count_publishers("/clock"):
            node.set_parameters([Parameter("use_sim_time", Parameter.Type.BOOL, True)])
            _spin_until(node, lambda: node.get_clock().now().nanoseconds > 0, _PATIENCE_S)
        return take_snapshot(node, contract, duration_s)
    finally:
        rclpy.try_shutdown()


def take_snapshot(node: Node, contract: Contract, duration_s: float) -> LiveGraph:
    """Subscribe to all that the robot publishes and listen for duration_s. The node must not be spinning elsewhere."""
    listeners = [_Listener(node, spec) for spec in robot_inputs(contract)]
    _spin(node, duration_s)
    topics = {heard.spec.topic: _live_topic(node, heard.spec.topic, heard) for heard in listeners}
    commands = [contract.outputs.pose, contract.outputs.twist, contract.gripper.topic]
    topics |= {topic: _live_topic(node, topic, None) for topic in commands}
    for listener in listeners:
        listener.stop()
    return LiveGraph(duration_s, topics, _actions(node, contract.gripper.topic))


def robot_inputs(contract: Contract) -> tuple[InputSpec, ...]:
    """The inputs that come from the robot and its drivers, depth cameras included."""
    specs = [*policy_inputs(contract, Needs(views=())), *guard_inputs(contract)]
    by_channel = {spec.channel: spec for spec in specs if spec.channel in _ROBOTS_CHANNELS}
    cameras = [camera_input(view, camera) for view, camera in contract.cameras.items()]
    return (*cameras, *by_channel.values())


@dataclass
class _Heard:
    """What has arrived on a topic. arrivals_s: steady time; ages_s: ROS now - stamp; refused: by the error's kind."""

    arrivals_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    frame_id: str | None = None
    refused: Counter[str] = field(default_factory=Counter)
    first_text: dict[str, str] = field(default_factory=dict)


class _Listener:
    def __init__(self, node: Node, spec: InputSpec) -> None:
        self.spec = spec
        self.heard = _Heard()
        self._node = node
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=spec.qos.reliability)
        self._subscription = node.create_subscription(spec.message_type, spec.topic, self._listen, qos)

    def stop(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _listen(self, msg: Any) -> None:
        self.heard.arrivals_s.append(time.monotonic())
        if hasattr(msg, "header"):
            self.heard.frame_id = msg.header.frame_id
        try:
            _, stamp_ns = self.spec.decode(msg)
        except MessageError as error:
            self.heard.refused[error.kind] += 1
            self.heard.first_text.setdefault(error.kind, str(error))
            return
        if stamp_ns is not None:
            self.heard.ages_s.append((self._node.get_clock().now().nanoseconds - stamp_ns) / NS_PER_S)


def _spin(node: Node, duration_s: float) -> None:
    _spin_until(node, lambda: False, duration_s)


def _spin_until(node: Node, condition: Callable[[], bool], timeout_s: float) -> None:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end_s = time.monotonic() + timeout_s
    while (left_s := end_s - time.monotonic()) > 0.0 and not condition():
        executor.spin_once(timeout_sec=min(left_s, _POLL_S))
    executor.remove_node(node)
    executor.shutdown()


def _live_topic(node: Node, topic: str, listener: _Listener | None) -> LiveTopic:
    heard = _Heard() if listener is None else listener.heard
    since_first_s = time.monotonic() - heard.arrivals_s[0] if heard.arrivals_s else 0.0
    own = (node.get_name(), node.get_namespace())
    subscriptions = node.get_subscriptions_info_by_topic(topic)
    return LiveTopic(
        publishers=tuple(_endpoint(info) for info in node.get_publishers_info_by_topic(topic)),
        subscribers=tuple(_endpoint(info) for info in subscriptions if (info.node_name, info.node_namespace) != own),
        heard=len(heard.arrivals_s),
        rate_hz=len(heard.arrivals_s) / since_first_s if heard.arrivals_s else None,
        frame_id=heard.frame_id,
        age_s=statistics.median(heard.ages_s) if heard.ages_s else None,
        refused={heard.first_text[kind]: count for kind, count in heard.refused.items()},
    )


def _endpoint(info: Any) -> Endpoint:
    qos = info.qos_profile
    return Endpoint(
        node=f"{info.node_namespace.rstrip('/')}/{info.node_name}",
        type=info.topic_type,
        reliable=qos.reliability == ReliabilityPolicy.RELIABLE,
        transient_local=qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


def _actions(node: Node, name: str) -> dict[str, str]:
    service = f"{node.resolve_topic_name(name)}/{_SEND_GOAL}"
    for found, types in node.get_service_names_and_types():
        if found == service:
            return {name: types[0].removesuffix("_SendGoal")}
    return {}
