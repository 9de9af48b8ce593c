"""Compare a snapshot of a running graph with the contract. Pure: `vla_ros.ros.live_graph` takes the snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vla_ros.contract import Contract, Feedback
from vla_ros.control.streams import MAX_FUTURE_S

_SLOWEST = 0.8  # of the contract's rate: cameras and short measurements waver
_IMAGE = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
_POSE = "geometry_msgs/msg/PoseStamped"
_TWIST = "geometry_msgs/msg/TwistStamped"
_ACTIONS = {
    "gripper_command": "control_msgs/action/GripperCommand",
    "parallel_gripper_command": "control_msgs/action/ParallelGripperCommand",
}


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscription of a topic. Discovery says nothing of a queue's depth, so it is not here."""

    node: str
    type: str
    reliable: bool
    transient_local: bool = False


@dataclass(frozen=True)
class LiveTopic:
    """A topic while it was listened to.

    heard: messages; rate_hz: from the first message to the end of listening, None without one; frame_id: of the
    last header; age_s: median of now - stamp on arrival; refused: why our nodes cannot read a message -> how often.
    """

    publishers: tuple[Endpoint, ...] = ()
    subscribers: tuple[Endpoint, ...] = ()
    heard: int = 0
    rate_hz: float | None = None
    frame_id: str | None = None
    age_s: float | None = None
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveGraph:
    """What was seen in duration_s. topics: the contract's spelling -> topic; actions: -> type, of those served."""

    duration_s: float
    topics: Mapping[str, LiveTopic]
    actions: Mapping[str, str] = field(default_factory=dict)

    def topic(self, name: str) -> LiveTopic:
        """The topic, an empty one if nobody has it."""
        return self.topics.get(name, LiveTopic())


@dataclass(frozen=True)
class ExpectedInput:
    """What the contract says of a topic that vla_ros listens to. max_age_s: None for messages without a stamp."""

    path: str
    topic: str
    type: str
    required: bool
    rate_hz: float
    max_age_s: float | None = None
    frame: str | None = None
    reliable: bool = False
    one_publisher: bool = True


def expected_inputs(contract: Contract) -> tuple[ExpectedInput, ...]:
    """The topics that the robot and its drivers publish."""
    cameras = [
        ExpectedInput(
            f"cameras.{view}",
            camera.topic,
            _IMAGE[camera.transport],
            camera.required,
            camera.rate_hz * _SLOWEST,
            camera.max_age_s,
            camera.frame,
        )
        for view, camera in contract.cameras.items()
    ]
    feedback = contract.feedback
    twist = [] if feedback.ee_twist is None else [_feedback("ee_twist", feedback.ee_twist, _TWIST)]
    stop = contract.emergency_stop
    return (
        *cameras,
        _feedback("ee_pose", feedback.ee_pose, _POSE),
        *twist,
        _feedback("joint_states", feedback.joint_states, "sensor_msgs/msg/JointState"),
        ExpectedInput(
            "emergency_stop",
            stop.topic,
            "std_msgs/msg/Bool",
            stop.required,
            1.0 / stop.silence_s if stop.required else 0.0,
            reliable=True,
            one_publisher=False,
        ),
    )


def _feedback(name: str, source: Feedback, message_type: str) -> ExpectedInput:
    rate_hz = source.rate_hz * _SLOWEST
    return ExpectedInput(f"feedback.{name}", source.topic, message_type, source.required, rate_hz, source.max_age_s)


def mismatches(contract: Contract, graph: LiveGraph) -> list[str]:
    """Everything in which the running graph differs from the contract, in words; empty if nothing does."""
    found: list[str] = []
    for expected in expected_inputs(contract):
        name = f"{expected.path} ({expected.topic})"
        faults = _input_faults(expected, graph.topic(expected.topic), graph.duration_s)
        found.extend(f"{name}: {text}" for text in faults)
    found.extend(_output_faults(contract, graph))
    found.extend(_gripper_faults(contract, graph))
    return found


def _input_faults(expected: ExpectedInput, live: LiveTopic, duration_s: float) -> Iterator[str]:
    if not live.publishers:
        if expected.required:
            yield "nobody publishes it"
        return
    if expected.one_publisher and len(live.publishers) > 1:
        yield f"{len(live.publishers)} publishers: {_nodes(live.publishers)}; there must be one"
    wrong_types = sorted({publisher.type for publisher in live.publishers} - {expected.type})
    if wrong_types:
        yield f"is {', '.join(wrong_types)}; the contract means {expected.type}"
    deaf = [publisher for publisher in live.publishers if expected.reliable and not publisher.reliable]
    if deaf:
        yield f"best effort from {_nodes(tuple(deaf))} never reaches us: we subscribe reliable; publish it reliable"
    if not wrong_types and not deaf:
        yield from _message_faults(expected, live, duration_s)


def _message_faults(expected: ExpectedInput, live: LiveTopic, duration_s: float) -> Iterator[str]:
    if live.rate_hz is None:
        if expected.rate_hz > 0.0:
            yield f"no message within {duration_s:g} s"
        return
    if live.rate_hz < expected.rate_hz:
        yield f"arrives at {live.rate_hz:.3g} Hz; at least {expected.rate_hz:.3g} Hz is needed"
    for text, count in live.refused.items():
        yield f"{count} of {live.heard} messages refused: {text}"
    if expected.frame is not None and live.frame_id != expected.frame:
        yield f"frame {live.frame_id!r}; the contract says {expected.frame!r}"
    if live.age_s is not None and expected.max_age_s is not None:
        yield from _stamp_faults(live.age_s, expected.max_age_s)


def _stamp_faults(age_s: float, max_age_s: float) -> Iterator[str]:
    if age_s > max_age_s:
        yield f"stamps are {age_s:.3g} s old on arrival, max_age_s is {max_age_s:g}; are the clocks synchronised?"
    if age_s < -MAX_FUTURE_S:
        yield f"stamps are {-age_s:.3g} s in the future; are the clocks synchronised?"


def _output_faults(contract: Contract, graph: LiveGraph) -> Iterator[str]:
    obeyed = contract.command_interface
    for interface, topic, message_type in (
        ("pose", contract.outputs.pose, _POSE),
        ("twist", contract.outputs.twist, _TWIST),
    ):
        live = graph.topic(topic)
        for text in _publishing_faults(live, message_type, obeyed=interface == obeyed):
            yield f"outputs.{interface} ({topic}): {text}"


def _gripper_faults(contract: Contract, graph: LiveGraph) -> Iterator[str]:
    gripper = contract.gripper
    name = f"gripper ({gripper.topic})"
    if gripper.interface == "float64":
        live = graph.topic(gripper.topic)
        yield from (f"{name}: {text}" for text in _publishing_faults(live, "std_msgs/msg/Float64", obeyed=True))
        return
    wanted, served = _ACTIONS[gripper.interface], graph.actions.get(gripper.topic)
    if served is None:
        yield f"{name}: no node serves this action; the contract means {wanted}"
    elif served != wanted:
        yield f"{name}: the action is {served}; the contract means {wanted}"


def _publishing_faults(live: LiveTopic, message_type: str, obeyed: bool) -> Iterator[str]:
    """The guard publishes reliable and volatile, and nobody else may."""
    if obeyed and not live.subscribers:
        yield "nobody subscribes to it: nothing would move"
    for subscriber in live.subscribers:
        if subscriber.type != message_type:
            yield f"{subscriber.node} expects {subscriber.type}; the guard publishes {message_type}"
        elif subscriber.transient_local:
            yield f"{subscriber.node} subscribes transient local and never hears the guard, which is volatile"
    if len(live.publishers) > 1:
        yield f"{len(live.publishers)} publishers: {_nodes(live.publishers)}; only the guard may command the robot"


def _nodes(endpoints: tuple[Endpoint, ...]) -> str:
    return ", ".join(endpoint.node for endpoint in endpoints)
