"""The table of inputs (`vla_ros.interface.inputs`) with what ROS needs besides: message classes, quality of service.

Quality of service: a stream of samples of which only the newest counts is asked for best effort, depth 1. That
connects to any publisher; a lost sample is followed by the next; what is late is dropped instead of queued, and a
stopped reader holds no writer up. Depth 1 does not tear apart the policy's four messages of one tick: a queue fills
only while the executor is blocked, and then the newest of each are of one tick, or are completed by the next
message; everything taken from the queue stays in the inbox, and the guard joins by stamp. What is said once must
arrive: instructions, the human's gripper and the emergency stop are reliable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.contract import Camera, Contract
from vla_ros.interface.inputs import Decode, Delivery, Input, camera_entry, guard_table, policy_table, stamped
from vla_ros.ros.image_messages import BRIDGED, from_image
from vla_ros.ros.message_types import message_class
from vla_ros.types import Needs


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
# What a recording must have tick by tick, also of a moment in which the machine was busy: what got lost is sent again.
TRACED = _qos(ReliabilityPolicy.RELIABLE, 100)
_QOS = {
    Delivery.NEWEST: NEWEST,
    Delivery.HISTORY: HISTORY,
    Delivery.SAID_ONCE: SAID_ONCE,
    Delivery.LATCHING: LATCHING,
}


@dataclass(frozen=True)
class InputSpec:
    """One input, ready to be subscribed to. The other fields are as in the table's `Input`."""

    channel: str
    topic: str
    message_type: type
    qos: QoSProfile
    decode: Decode
    keep: int = 64


def policy_inputs(contract: Contract, needs: Needs, simulated: bool = False) -> tuple[InputSpec, ...]:
    """What the policy node listens to. Raises ContractError for a view that the contract lacks or that is depth."""
    entries = {entry.channel: entry for entry in policy_table(contract, needs, simulated)}
    cameras = {entry.channel: entry for entry in (_bridged(view, contract.cameras[view]) for view in needs.views)}
    return tuple(_spec(entry) for entry in {**entries, **cameras}.values())


def guard_inputs(contract: Contract, simulated: bool = False) -> tuple[InputSpec, ...]:
    """What the guard listens to, services apart."""
    return tuple(_spec(entry) for entry in guard_table(contract, simulated))


def camera_input(view: str, camera: Camera) -> InputSpec:
    """One view's frames, raw or compressed."""
    return _spec(_bridged(view, camera))


def _bridged(view: str, camera: Camera) -> Input:
    """The table's entry, read through cv_bridge where the encoding is left to that."""
    entry = camera_entry(view, camera)
    if camera.encoding not in BRIDGED:
        return entry
    return replace(entry, decode=stamped(lambda msg: from_image(msg, camera)))


def _spec(entry: Input) -> InputSpec:
    message_type = message_class(entry.type)
    return InputSpec(entry.channel, entry.topic, message_type, _QOS[entry.delivery], entry.decode, entry.keep)
