"""The robot contract: everything vla_ros must know of one robot, from one YAML file.

These are the dataclasses; `vla_ros.contract_file` reads them from YAML and refuses what is wrong.
Field names are the YAML keys. Every limit is required: a contract without limits is no contract.
The ranges are wide: they catch wrong units (milliseconds, millimetres, degrees), not bad taste.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from vla_ros.contract_values import frame_id, identifier, joint_name, non_negative, topic_name, up_to, within

# As sensor_msgs/image_encodings names them; those of the last line are read through cv_bridge.
Encoding: TypeAlias = Literal[
    "rgb8", "bgr8", "rgba8", "bgra8", "mono8", "16UC1", "32FC1", "jpeg", "png",
    "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8", "uyvy", "yuyv", "yuv422", "yuv422_yuy2",
    "mono16", "rgb16", "bgr16", "rgba16", "bgra16",
]  # fmt: skip
Name = Annotated[str, identifier]
Topic = Annotated[str, topic_name]
FrameId = Annotated[str, frame_id]
JointName = Annotated[str, joint_name]
Pixels = Annotated[int, within(1, 8192, "pixels")]
Hertz = Annotated[float, up_to(1000.0, "Hz")]
Seconds = Annotated[float, up_to(10.0, "s")]
Metres = Annotated[float, up_to(20.0, "m")]
Angle = Annotated[float, up_to(3.2, "rad")]
Coordinate = Annotated[float, within(-20.0, 20.0, "m")]
JointPosition = Annotated[float, within(-50.0, 50.0, "rad or m")]
Vector3 = tuple[Coordinate, Coordinate, Coordinate]


@dataclass(frozen=True)
class Camera:
    """One view. topic: the very topic of the images, "/compressed" included if it ends so, relative to the namespace.

    max_age_s bounds receive age and stamp age alike.
    """

    topic: Topic
    transport: Literal["raw", "compressed"]
    encoding: Encoding
    width: Pixels
    height: Pixels
    rate_hz: Hertz
    max_age_s: Seconds
    frame: FrameId
    required: bool = True


@dataclass(frozen=True)
class Feedback:
    """One stamped feedback topic of the robot."""

    topic: Topic
    rate_hz: Hertz
    max_age_s: Seconds
    required: bool = True


@dataclass(frozen=True)
class JointFeedback(Feedback):
    """joint_states: the joints that the policy is given, in this order; others on the topic are ignored."""

    joints: tuple[JointName, ...] = ()


@dataclass(frozen=True)
class FeedbackTopics:
    """ee_pose is what the guard lives on and always required."""

    ee_pose: Feedback
    joint_states: JointFeedback
    ee_twist: Feedback | None = None


@dataclass(frozen=True)
class Frames:
    """base: the frame of every pose and twist; tool: the point that they speak of."""

    base: FrameId
    tool: FrameId


@dataclass(frozen=True)
class Units:
    """The units of the robot's topics. REP 103 leaves no choice; the contract says so in writing."""

    length: Literal["m"]
    angle: Literal["rad"]


@dataclass(frozen=True)
class Rates:
    """Tick rates [Hz]."""

    policy_hz: Hertz
    guard_hz: Annotated[Hertz, within(10.0, 1000.0, "Hz")]


@dataclass(frozen=True)
class Outputs:
    """Topics that the robot's driver obeys, published by the guard alone."""

    pose: Topic = "target_pose"
    twist: Topic = "target_twist"


@dataclass(frozen=True)
class Gripper:
    """How the driver wants the gripper's opening. closed_at, open_at: driver's value for 0 (closed) and 1 (open).

    at_start: the opening, 0..1, that the robot has before anybody has commanded it.
    """

    interface: Literal["float64", "gripper_command", "parallel_gripper_command"]
    topic: Topic
    closed_at: float
    open_at: float
    max_rate_per_s: Annotated[float, up_to(1000.0, "per second")]
    at_start: Annotated[float, within(0.0, 1.0, "of its range")]
    joint: JointName = "gripper"
    max_effort: Annotated[float, non_negative] = 0.0

    def driver_value(self, opening: float) -> float:
        """The driver's value for an opening of 0 to 1."""
        return self.closed_at + opening * (self.open_at - self.closed_at)

    def opening(self, driver_value: float) -> float:
        """The opening for a driver's value: the inverse of `driver_value`."""
        return (driver_value - self.closed_at) / (self.open_at - self.closed_at)


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the base frame [m]."""

    min: Vector3
    max: Vector3


@dataclass(frozen=True)
class JointLimit:
    """Where a joint's range ends [rad or m]."""

    min: JointPosition
    max: JointPosition


@dataclass(frozen=True)
class Limits:
    """What the guard never exceeds, or stops at. `max_target_jump_*`: from the commanded pose to a target."""

    workspace_m: Box
    max_linear_velocity_m_s: Annotated[float, up_to(10.0, "m/s")]
    max_linear_acceleration_m_s2: Annotated[float, up_to(200.0, "m/s2")]
    max_angular_velocity_rad_s: Annotated[float, up_to(20.0, "rad/s")]
    max_angular_acceleration_rad_s2: Annotated[float, up_to(500.0, "rad/s2")]
    max_target_jump_m: Metres
    max_target_jump_rad: Angle
    max_following_error_m: Metres | None = None
    max_following_error_rad: Angle | None = None
    joints: Mapping[JointName, JointLimit] = field(default_factory=dict)
    joint_margin: Annotated[float, up_to(10.0, "rad or m")] | None = None


@dataclass(frozen=True)
class Timeouts:
    """How long silence is believed. driver_s is the robot driver's own command timeout, a fact, not a setting."""

    policy_s: Seconds
    teleop_s: Seconds
    deadman_s: Seconds
    inference_s: Annotated[float, up_to(60.0, "s")]
    clock_s: Annotated[float, up_to(1.0, "s")]
    frozen_camera_s: Seconds
    driver_s: Annotated[float, up_to(2.0, "s")]


@dataclass(frozen=True)
class EmergencyStop:
    """required: the topic must be heard at least every silence_s, or that is an emergency stop."""

    topic: Topic
    required: bool
    silence_s: Annotated[float, up_to(2.0, "s")]


@dataclass(frozen=True)
class Contract:
    """One robot. stop_time_s: commanded motion is at zero this long after a stop is decided.

    drive: differential of a base that cannot move sideways. Of a velocity it is then sent what lies along the tool's x
    axis, so that what the workspace allows is what the base does.
    """

    name: Name
    description: str
    command_interface: Literal["pose", "twist"]
    units: Units
    frames: Frames
    rates: Rates
    cameras: Mapping[Name, Camera]
    max_camera_skew_s: Seconds
    feedback: FeedbackTopics
    outputs: Outputs
    gripper: Gripper
    limits: Limits
    timeouts: Timeouts
    stop_time_s: Annotated[float, up_to(5.0, "s")]
    emergency_stop: EmergencyStop
    drive: Literal["omnidirectional", "differential"] = "omnidirectional"
