"""A robot that stands still, with cameras that show noise: all that the policy needs, at next to no cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMessage

from vla_ros.contract import Contract
from vla_ros.ros import image_messages, messages
from vla_ros.ros.inputs import OFFERED
from vla_ros.ros.runtime import create_steady_timer
from vla_ros.types import Frame, JointState, Pose

_PICTURES = 4
# Added to the frames' period, in ticks of the policy. Were the period a multiple of the tick's, every frame would wait
# equally long for its tick; the golden section spreads the waits evenly.
_SHIFT_TICKS = 0.382


class SyntheticRobot:
    """Publishes feedback at the contract's rate, and all views with one stamp at (almost) theirs, from a given node.

    sent: stamp -> the steady instant just before the last view was published, both in ns.
    """

    def __init__(self, node: Node, contract: Contract) -> None:
        self.sent: dict[int, int] = {}
        self._contract = contract
        self._pose = Pose(np.mean([contract.limits.workspace_m.min, contract.limits.workspace_m.max], axis=0), _UPRIGHT)
        joints = contract.feedback.joint_states
        self._joints = JointState(joints.joints, np.zeros(len(joints.joints)))
        self._ee_pose = node.create_publisher(PoseStamped, contract.feedback.ee_pose.topic, OFFERED)
        self._joint_states = node.create_publisher(JointStateMessage, joints.topic, OFFERED)
        self._cameras = [
            node.create_publisher(Image, camera.topic, qos_profile_sensor_data) for camera in contract.cameras.values()
        ]
        self._pictures = [_pictures(contract, seed) for seed in range(_PICTURES)]
        rate_hz = next(iter(contract.cameras.values())).rate_hz
        create_steady_timer(node, 1.0 / contract.feedback.ee_pose.rate_hz, self._feel)
        create_steady_timer(node, 1.0 / rate_hz + _SHIFT_TICKS / contract.rates.policy_hz, self._look)

    def _feel(self) -> None:
        stamp_ns = time.time_ns()
        self._ee_pose.publish(messages.to_pose_stamped(self._pose, stamp_ns, self._contract.frames.base))
        self._joint_states.publish(messages.to_joint_state(self._joints, stamp_ns))

    def _look(self) -> None:
        stamp_ns = time.time_ns()
        pictures = self._pictures[len(self.sent) % _PICTURES]
        for picture in pictures:
            picture.header.stamp = messages.to_stamp(stamp_ns)
        for camera, picture in zip(self._cameras[:-1], pictures, strict=False):
            camera.publish(picture)
        self.sent[stamp_ns] = time.monotonic_ns()
        self._cameras[-1].publish(pictures[-1])


_UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


def _pictures(contract: Contract, seed: int) -> list[Any]:
    noise = np.random.default_rng(seed)
    return [
        image_messages.to_image(
            Frame(noise.integers(0, 256, (camera.height, camera.width, 3), np.uint8), "rgb8"), 0, camera.frame
        )
        for camera in contract.cameras.values()
    ]
