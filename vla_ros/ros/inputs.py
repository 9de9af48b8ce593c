"""The table of inputs: which topic feeds which channel, by which quality of service, and how its messages are read.

Live nodes subscribe to these tables, and a bag reader reads by them, so that both see the same samples.

Quality of service: a stream of samples of which only the newest counts is asked for best effort, depth 1. That
connects to any publisher; a lost sample is followed by the next; what is late is dropped instead of queued, and a
stopped reader holds no writer up. Depth 1 does not tear apart the policy's four messages of one tick: a queue fills
only while the executor is blocked, and then the newest of each are of one tick, or are completed by the next
message; everything taken from the queue stays in the inbox, and the guard joins by stamp. What is said once must
arrive: instructions, the human's gripper and the emergency stop are reliable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Empty, Header, String

from vla_ros.contract import Camera, Contract
from vla_ros.control import channels
from vla_ros.errors import ContractError
from vla_ros.images import DEPTH
from vla_ros.ros import image_messages, messages
from vla_ros.types import Needs

Decode = Callable[[Any], tuple[Any, int | None]]


def _qos(reliability: ReliabilityPolicy, depth: int) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
        liveliness=LivelinessPolicy.AUTOMATIC,
    )


NEWEST = _qos(ReliabilityPolicy.BEST_EFFORT, 1)
# The policy looks up what was commanded at t_obs: here the past counts as well.
HISTORY = _qos(ReliabilityPolicy.BEST_EFFORT, 10)
SAID_ONCE = _qos(ReliabilityPolicy.RELIABLE, 1)
# A stop must not be overwritten by the release behind it.
LATCHING = _qos(ReliabilityPolicy.RELIABLE, 10)
# What our own nodes offer on command topics: a reliable offer satisfies every subscription.
OFFERED = SAID_ONCE
# A simulator says here that the world was put back. Nobody listens on a real robot, whose world cannot be.
SIM_RESET_TOPIC = "sim/was_reset"


@dataclass(frozen=True)
class InputSpec:
    """One input. decode: message -> (value for the channel, header stamp in ROS ns or None); raises MessageError.

    keep: how many messages a paused tick may let pile up.
    """

    channel: str
    topic: str
    message_type: type
    qos: QoSProfile
    decode: Decode
    keep: int = 64


def policy_inputs(contract: Contract, needs: Needs, simulated: bool = False) -> tuple[InputSpec, ...]:
    """What the policy node listens to. Raises ContractError for a view that the contract lacks or that is depth."""
    feedback = contract.feedback
    cameras = [camera_input(view, _colour_camera(contract, view)) for view in needs.views]
    twist = [] if feedback.ee_twist is None else [_twist(contract, channels.EE_TWIST, feedback.ee_twist.topic)]
    return (
        *cameras,
        _command(),
        *([_sim_reset()] if simulated else []),
        _pose(contract, channels.EE_POSE, feedback.ee_pose.topic),
        *twist,
        _joint_states(contract),
        _pose(contract, channels.COMMANDED_POSE, channels.COMMANDED_POSE, HISTORY),
        *([_privileged()] if needs.privileged else []),
    )


def guard_inputs(contract: Contract, simulated: bool = False) -> tuple[InputSpec, ...]:
    """What the guard listens to, services apart."""
    stop_topic = contract.emergency_stop.topic
    return (
        _command(),
        *([_sim_reset()] if simulated else []),
        _pose(contract, channels.EE_POSE, contract.feedback.ee_pose.topic),
        _joint_states(contract),
        _pose(contract, channels.POLICY_POSE, channels.POLICY_POSE),
        _twist(contract, channels.POLICY_TWIST, channels.POLICY_TWIST),
        _gripper(channels.POLICY_GRIPPER, NEWEST),
        InputSpec(channels.POLICY_PROVENANCE, channels.POLICY_PROVENANCE, Header, NEWEST, _provenance),
        _pose(contract, channels.TELEOP_POSE, channels.TELEOP_POSE),
        _twist(contract, channels.TELEOP_TWIST, channels.TELEOP_TWIST),
        _gripper(channels.TELEOP_GRIPPER, SAID_ONCE),
        InputSpec(channels.TELEOP_DEADMAN, channels.TELEOP_DEADMAN, Bool, NEWEST, _unstamped(messages.from_bool)),
        InputSpec(channels.EMERGENCY_STOP, stop_topic, Bool, LATCHING, _unstamped(messages.from_bool)),
    )


def camera_input(view: str, camera: Camera) -> InputSpec:
    """One view's frames, raw or compressed. Frames are large and alike: few are kept."""
    if camera.transport == "raw":
        message_type, read = Image, image_messages.from_image
    else:
        message_type, read = CompressedImage, image_messages.from_compressed_image
    return InputSpec(
        channels.camera(view), camera.topic, message_type, NEWEST, _stamped(lambda msg: read(msg, camera)), keep=4
    )


def _colour_camera(contract: Contract, view: str) -> Camera:
    colour = [name for name, camera in contract.cameras.items() if camera.encoding not in DEPTH]
    if view not in colour:
        choices = ", ".join(colour) or "none"
        raise ContractError(f"the policy needs view {view!r}; {contract.name} has these colour cameras: {choices}")
    return contract.cameras[view]


def _command() -> InputSpec:
    return InputSpec(channels.COMMAND, channels.COMMAND, String, SAID_ONCE, _unstamped(messages.from_string))


def _sim_reset() -> InputSpec:
    return InputSpec(channels.SIM_RESET, SIM_RESET_TOPIC, Empty, LATCHING, _unstamped(lambda _msg: None))


def _privileged() -> InputSpec:
    return InputSpec(channels.PRIVILEGED, channels.PRIVILEGED, JointState, NEWEST, _stamped(messages.from_numbers))


def _joint_states(contract: Contract) -> InputSpec:
    source = contract.feedback.joint_states
    decode = _stamped(lambda msg: messages.from_joint_state(msg, source.joints))
    return InputSpec(channels.JOINT_STATES, source.topic, JointState, NEWEST, decode)


def _pose(contract: Contract, channel: str, topic: str, qos: QoSProfile = NEWEST) -> InputSpec:
    decode = _stamped(lambda msg: messages.from_pose_stamped(msg, contract.frames.base))
    return InputSpec(channel, topic, PoseStamped, qos, decode)


def _twist(contract: Contract, channel: str, topic: str) -> InputSpec:
    decode = _stamped(lambda msg: messages.from_twist_stamped(msg, contract.frames.base))
    return InputSpec(channel, topic, TwistStamped, NEWEST, decode)


def _gripper(channel: str, qos: QoSProfile) -> InputSpec:
    return InputSpec(channel, channel, JointState, qos, _stamped(messages.from_gripper))


def _stamped(read: Callable[[Any], Any]) -> Decode:
    return lambda msg: (read(msg), messages.from_stamp(msg.header.stamp))


def _unstamped(read: Callable[[Any], Any]) -> Decode:
    return lambda msg: (read(msg), None)


def _provenance(msg: Any) -> tuple[Any, int]:
    return messages.from_provenance(msg), messages.from_stamp(msg.stamp)
