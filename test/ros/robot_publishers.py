"""A robot that only publishes, as a process: `robot_publishers.py FAULT,FAULT,...`. All else keeps the contract."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PointStamped, PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Float64

from vla_ros.ros import image_messages, messages
from vla_ros.types import Frame, Pose
from vla_ros.types import JointState as Joints

SKEWS_NS = {"old_stamps": -5_000_000_000, "future_stamps": 5_000_000_000}


class Robot(Node):
    """Publishes what test_live_graph's contract promises."""

    def __init__(self, faults: set[str]) -> None:
        super().__init__("robot")
        self._faults = faults
        self._frames = 0
        reliability = ReliabilityPolicy.BEST_EFFORT if "deaf_stop" in faults else ReliabilityPolicy.RELIABLE
        pose_type = PointStamped if "pose_type" in faults else PoseStamped
        self._front = self.create_publisher(Image, "camera/front/image_raw", qos_profile_sensor_data)
        self._wrist = self.create_publisher(CompressedImage, "camera/wrist/image_raw/compressed", 1)
        self._pose = self.create_publisher(pose_type, "ee_pose", 1)
        self._joints = self.create_publisher(JointState, "joint_states", 1)
        self._stop = self.create_publisher(Bool, "emergency_stop", QoSProfile(depth=1, reliability=reliability))
        if "two_poses" in faults:
            self._other_pose = self.create_publisher(PoseStamped, "ee_pose", 1)
        if "no_listener" not in faults:
            self.create_subscription(PoseStamped, "target_pose", lambda _: None, 1)
            self.create_subscription(Float64, "gripper_command", lambda _: None, 1)
        self._timers = [
            self.create_timer(1.0 / 10.0, self._publish_images),
            self.create_timer(1.0 / 25.0, self._publish_feedback),
        ]

    def _stamp_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds) + sum(SKEWS_NS.get(fault, 0) for fault in self._faults)

    def _publish_images(self) -> None:
        size = (32, 32, 3) if "size" in self._faults else (48, 64, 3)
        encoding = "bgr8" if "encoding" in self._faults else "rgb8"
        frame_id = "camera" if "camera_frame" in self._faults else "camera_front"
        frame = Frame(np.zeros(size, np.uint8), encoding)
        self._frames += 1
        skipped = "slow_camera" in self._faults and self._frames % 5 != 0
        if "silent_camera" not in self._faults and not skipped:
            self._front.publish(image_messages.to_image(frame, self._stamp_ns(), frame_id))
        self._wrist.publish(image_messages.to_compressed_image(Frame(JPEG, "jpeg"), self._stamp_ns(), "camera_wrist"))

    def _publish_feedback(self) -> None:
        self._pose.publish(self._pose_message())
        names = ("shoulder",) if "missing_joint" in self._faults else ("gripper", "elbow", "shoulder")
        self._joints.publish(messages.to_joint_state(Joints(names, np.zeros(len(names))), self._stamp_ns()))
        self._stop.publish(messages.to_bool(False))

    def _pose_message(self) -> Any:
        if "pose_type" in self._faults:
            return PointStamped()
        frame = "map" if "base_frame" in self._faults else "base_link"
        msg = messages.to_pose_stamped(Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), self._stamp_ns(), frame)
        if "nan" in self._faults:
            msg.pose.position.y = float("nan")
        if "not_unit" in self._faults:
            msg.pose.orientation.w = 0.5
        return msg


def _jpeg() -> Any:
    import cv2

    return cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].reshape(-1)


JPEG = _jpeg()


def main() -> None:
    """Publish until killed."""
    rclpy.init()
    robot = Robot(set(sys.argv[1].split(",")))
    print("publishing")
    rclpy.spin(robot)


if __name__ == "__main__":
    main()
