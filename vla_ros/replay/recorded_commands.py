"""What the robot was sent when a bag was recorded, where no trace tells: by the topics that it obeys."""

from __future__ import annotations

from vla_ros.bags import Message
from vla_ros.contract import Contract
from vla_ros.control.safety import Motion
from vla_ros.errors import MessageError
from vla_ros.geometry import difference
from vla_ros.interface import reading
from vla_ros.replay.decisions import RecordedCommand
from vla_ros.replay.recording import Recording
from vla_ros.replay.topics import deserialize, full_name
from vla_ros.types import NS_PER_S, Pose

_POSE, _TWIST, _FLOAT = "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/TwistStamped", "std_msgs/msg/Float64"


class RecordedOutputs:
    """Commands, one for each message of the topic that the robot obeys by the contract.

    A pose's twist is what leads to it from the one before; a twist's pose is the measured one. The gripper's opening is
    the newest that was sent by topic; actions are not in a bag.
    """

    def __init__(self, recording: Recording, contract: Contract, namespace: str) -> None:
        self._contract = contract
        is_pose = contract.command_interface == "pose"
        obeyed = contract.outputs.pose if is_pose else contract.outputs.twist
        self._obeyed = full_name(obeyed, namespace)
        self._type = _POSE if is_pose else _TWIST
        wanted = {self._obeyed: self._type, full_name(contract.gripper.topic, namespace): _FLOAT}
        self.topics = tuple(name for name, type_ in wanted.items() if recording.types.get(name) == type_)
        self._last: tuple[int, Pose] | None = None
        self._measured: Pose | None = None
        self._gripper: float | None = None

    def measured(self, pose: Pose) -> None:
        """Where the robot is."""
        self._measured = pose

    def hear(self, message: Message) -> RecordedCommand | None:
        """The command in a message; None where it is none, or not a whole one yet."""
        try:
            if message.topic == self._obeyed:
                return self._commanded(message)
            value = reading.from_float(deserialize(message.data, _FLOAT))
            self._gripper = self._contract.gripper.opening(value)
        except MessageError:  # the robot's driver does not read it either
            pass
        return None

    def _commanded(self, message: Message) -> RecordedCommand | None:
        msg, base = deserialize(message.data, self._type), self._contract.frames.base
        stamp_ns = reading.from_stamp(msg.header.stamp)
        if self._type == _TWIST:
            twist = reading.from_twist_stamped(msg, base)
            motion = None if self._measured is None else Motion(self._measured, twist, self._gripper)
            return None if motion is None else RecordedCommand(stamp_ns, motion)
        pose, last = reading.from_pose_stamped(msg, base), self._last
        self._last = (stamp_ns, pose)
        if last is None or stamp_ns <= last[0]:
            return None
        twist = difference(last[1], pose, (stamp_ns - last[0]) / NS_PER_S)
        return RecordedCommand(stamp_ns, Motion(pose, twist, self._gripper))
