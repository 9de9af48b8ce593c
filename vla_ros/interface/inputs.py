"""The table of inputs: which topic feeds which channel, how it is delivered, and how its messages are read.

Live nodes subscribe to these tables, and a bag is read by them, so that both see the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vla_ros.contract import Camera, Contract
from vla_ros.control import channels
from vla_ros.errors import ContractError
from vla_ros.images import DEPTH
from vla_ros.interface import image_reading, reading
from vla_ros.types import Needs

Decode = Callable[[Any], tuple[Any, int | None]]

# A simulator says here that the world was put back. Nobody listens on a real robot, whose world cannot be.
SIM_RESET_TOPIC = "sim/was_reset"

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_JOINT_STATE, _HEADER = "sensor_msgs/msg/JointState", "std_msgs/msg/Header"
_POSE, _TWIST = "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/TwistStamped"
_BOOL, _EMPTY, _STRING = "std_msgs/msg/Bool", "std_msgs/msg/Empty", "std_msgs/msg/String"


class Delivery(Enum):
    """NEWEST: only the newest counts; HISTORY: the past counts as well; SAID_ONCE: must arrive; LATCHING: and must not
    be overwritten by what comes behind it."""

    NEWEST = "newest"
    HISTORY = "history"
    SAID_ONCE = "said once"
    LATCHING = "latching"


@dataclass(frozen=True)
class Input:
    """One input. type: such as "sensor_msgs/msg/Image".

    decode: message -> (value for the channel, header stamp in ROS ns or None); raises MessageError.
    keep: how many messages a paused tick may let pile up.
    """

    channel: str
    topic: str
    type: str
    delivery: Delivery
    decode: Decode
    keep: int = 64


def policy_table(contract: Contract, needs: Needs, simulated: bool = False) -> tuple[Input, ...]:
    """What the policy listens to. Raises ContractError for a view that the contract lacks or that is depth."""
    feedback = contract.feedback
    cameras = [camera_entry(view, _colour_camera(contract, view)) for view in needs.views]
    twist = [] if feedback.ee_twist is None else [_twist(contract, channels.EE_TWIST, feedback.ee_twist.topic)]
    return (
        *cameras,
        _command(),
        *([_sim_reset()] if simulated else []),
        _pose(contract, channels.EE_POSE, feedback.ee_pose.topic),
        *twist,
        _joint_states(contract),
        _pose(contract, channels.COMMANDED_POSE, channels.COMMANDED_POSE, Delivery.HISTORY),
        *([_privileged()] if needs.privileged else []),
    )


def guard_table(contract: Contract, simulated: bool = False) -> tuple[Input, ...]:
    """What the guard listens to, services apart."""
    stop_topic = contract.emergency_stop.topic
    once, newest, bool_ = Delivery.SAID_ONCE, Delivery.NEWEST, _unstamped(reading.from_bool)
    return (
        _command(),
        *([_sim_reset()] if simulated else []),
        _pose(contract, channels.EE_POSE, contract.feedback.ee_pose.topic),
        _joint_states(contract),
        _pose(contract, channels.POLICY_POSE, channels.POLICY_POSE),
        _twist(contract, channels.POLICY_TWIST, channels.POLICY_TWIST),
        _gripper(channels.POLICY_GRIPPER, newest),
        Input(channels.POLICY_PROVENANCE, channels.POLICY_PROVENANCE, _HEADER, newest, _provenance),
        _pose(contract, channels.TELEOP_POSE, channels.TELEOP_POSE),
        _twist(contract, channels.TELEOP_TWIST, channels.TELEOP_TWIST),
        _gripper(channels.TELEOP_GRIPPER, once),
        Input(channels.TELEOP_DEADMAN, channels.TELEOP_DEADMAN, _BOOL, newest, bool_),
        Input(channels.EMERGENCY_STOP, stop_topic, _BOOL, Delivery.LATCHING, bool_),
    )


def camera_entry(view: str, camera: Camera) -> Input:
    """One view's frames, raw or compressed. Frames are large and alike: few are kept."""
    if camera.transport == "raw":
        type_, read = IMAGE, image_reading.from_image
    else:
        type_, read = COMPRESSED_IMAGE, image_reading.from_compressed_image
    decode = stamped(lambda msg: read(msg, camera))
    return Input(channels.camera(view), camera.topic, type_, Delivery.NEWEST, decode, keep=4)


def stamped(read: Callable[[Any], Any]) -> Decode:
    """How a message with a header is decoded. read: message -> value."""
    return lambda msg: (read(msg), reading.from_stamp(msg.header.stamp))


def _colour_camera(contract: Contract, view: str) -> Camera:
    colour = [name for name, camera in contract.cameras.items() if camera.encoding not in DEPTH]
    if view not in colour:
        choices = ", ".join(colour) or "none"
        raise ContractError(f"the policy needs view {view!r}; {contract.name} has these colour cameras: {choices}")
    return contract.cameras[view]


def _command() -> Input:
    return Input(channels.COMMAND, channels.COMMAND, _STRING, Delivery.SAID_ONCE, _unstamped(reading.from_string))


def _sim_reset() -> Input:
    return Input(channels.SIM_RESET, SIM_RESET_TOPIC, _EMPTY, Delivery.LATCHING, _unstamped(lambda _msg: None))


def _privileged() -> Input:
    decode = stamped(reading.from_numbers)
    return Input(channels.PRIVILEGED, channels.PRIVILEGED, _JOINT_STATE, Delivery.NEWEST, decode)


def _joint_states(contract: Contract) -> Input:
    source = contract.feedback.joint_states
    decode = stamped(lambda msg: reading.from_joint_state(msg, source.joints))
    return Input(channels.JOINT_STATES, source.topic, _JOINT_STATE, Delivery.NEWEST, decode)


def _pose(contract: Contract, channel: str, topic: str, delivery: Delivery = Delivery.NEWEST) -> Input:
    decode = stamped(lambda msg: reading.from_pose_stamped(msg, contract.frames.base))
    return Input(channel, topic, _POSE, delivery, decode)


def _twist(contract: Contract, channel: str, topic: str) -> Input:
    decode = stamped(lambda msg: reading.from_twist_stamped(msg, contract.frames.base))
    return Input(channel, topic, _TWIST, Delivery.NEWEST, decode)


def _gripper(channel: str, delivery: Delivery) -> Input:
    return Input(channel, channel, _JOINT_STATE, delivery, stamped(reading.from_gripper))


def _unstamped(read: Callable[[Any], Any]) -> Decode:
    return lambda msg: (read(msg), None)


def _provenance(msg: Any) -> tuple[Any, int]:
    return reading.from_provenance(msg), reading.from_stamp(msg.stamp)
