"""The simulated robot as a ROS robot: cameras, feedback and `/clock` out, commands in, a driver's own timeout.

It obeys the guard and nobody else, and keeps its own pace: ROS time is the simulation's. Lives in ROS domain 77 (or
VLA_ROS_SIM_DOMAIN_ID) on this machine only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Empty, Float64
from std_srvs.srv import Trigger

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.errors import ContractError, SimError
from vla_ros.images import encode
from vla_ros.interface import reading
from vla_ros.interface.inputs import SIM_RESET_TOPIC
from vla_ros.ros import image_messages, messages
from vla_ros.ros.inbox import Inbox, subscribe
from vla_ros.ros.inputs import NEWEST, OFFERED, InputSpec
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.runtime import Diagnosis, DiagnosticsPublisher, create_steady_timer, isolate, run_node
from vla_ros.ros.status import ERROR, OK, WARNING
from vla_ros.sim.driver import Driver
from vla_ros.sim.pacing import Pace
from vla_ros.sim.photographer import Photographer
from vla_ros.sim.robots import ROBOT_KINDS, kind_of
from vla_ros.sim.simulated import STEP_NS, SimState
from vla_ros.sim.variations import parse
from vla_ros.sim.views import image_size
from vla_ros.types import NS_PER_S, FloatArray, Frame, ImageArray

_TASKS = ("", *(task for kind in ROBOT_KINDS for task in kind.tasks))
_TASK_HELP = "One of the contract's robot, read at start and by sim/reset; empty: the robot's usual one"
PARAMETERS = (
    Parameter("contract", str, "Path of the simulated robot's contract (YAML)"),
    Parameter("task", "", _TASK_HELP, choices=_TASKS, read_only=False),
    Parameter("variation", "test:0", "Where things are: split (train or test) and index", read_only=False, read=parse),
    Parameter("realtime_factor", 1.0, "Simulated seconds per second", minimum=0.05, maximum=20.0),
    Parameter("cameras", True, "Draw and publish the contract's cameras"),
)

# Time zero means "no time yet" to ROS.
_EPOCH_NS = NS_PER_S
_ENCODINGS = ("rgb8", "jpeg", "png")
# Commands of the guard that were on their way when the world was put back are for the last world.
_DEAF_AFTER_RESET_NS = NS_PER_S // 10


class SimNode(Node):
    """One robot, stepped by a steady timer."""

    def __init__(self) -> None:
        super().__init__("sim", parameter_overrides=[RosParameter("use_sim_time", value=False)])
        self._values = declare(self, PARAMETERS)
        self._contract = contract = load_contract(self._values["contract"])
        self._kind = kind_of(contract)
        views = tuple(contract.cameras)
        self._kind.check_views(views)
        task, variation = self._values["task"] or self._kind.usual_task, parse(self._values["variation"])
        self._robot = self._kind.make(task, variation, views, image_size(contract.cameras, views))
        self._driver = Driver(contract.timeouts.driver_s, len(self._robot.holding()))
        self._deaf_until_ns = 0
        self._pace = Pace(STEP_NS / NS_PER_S, self._values["realtime_factor"])
        self._inbox = Inbox(self.get_logger())
        subscribe(self, _commands(contract), self._inbox)
        self._open_publishers()
        self._photographer = self._open_cameras() if self._values["cameras"] and contract.cameras else None
        self.create_service(Trigger, "sim/reset", self._on_reset)
        self._diagnostics = DiagnosticsPublisher(self, self._diagnose)
        create_steady_timer(self, self._pace.period_s, self._on_timer)
        self.get_logger().info(f"{self._robot.task}, variation {self._robot.variation}")

    def close(self) -> None:
        """Let the cameras go."""
        if self._photographer is not None:
            self._photographer.close()

    def _open_publishers(self) -> None:
        feedback = self._contract.feedback
        self._clock_publisher = self.create_publisher(Clock, "/clock", NEWEST)
        self._ee_pose = self.create_publisher(PoseStamped, feedback.ee_pose.topic, OFFERED)
        self._ee_twist = self.create_publisher(
            TwistStamped, feedback.ee_twist.topic if feedback.ee_twist else channels.EE_TWIST, OFFERED
        )
        self._joint_states = self.create_publisher(JointState, feedback.joint_states.topic, OFFERED)
        self._commanded = self.create_publisher(PoseStamped, "sim/commanded_pose", OFFERED)
        self._privileged = self.create_publisher(JointState, channels.PRIVILEGED, OFFERED)
        self._success = self.create_publisher(Bool, channels.SUCCESS, OFFERED)
        self._was_reset = self.create_publisher(Empty, SIM_RESET_TOPIC, OFFERED)

    def _open_cameras(self) -> Photographer:
        cameras = self._contract.cameras
        kinds = {(camera.width, camera.height, camera.rate_hz) for camera in cameras.values()}
        if len(kinds) != 1:
            raise ContractError("cameras: the simulated robot's cameras are alike in width, height and rate_hz")
        if any(camera.encoding not in _ENCODINGS for camera in cameras.values()):
            raise ContractError(f"cameras: the simulated robot's encodings are {', '.join(_ENCODINGS)}")
        width, height, rate_hz = kinds.pop()
        self._steps_per_frame = max(1, round(1.0 / (rate_hz * STEP_NS / NS_PER_S)))
        self._images = {
            view: self.create_publisher(
                Image if camera.transport == "raw" else CompressedImage, camera.topic, qos_profile_sensor_data
            )
            for view, camera in cameras.items()
        }
        photographer = Photographer(tuple(cameras), (width, height), self._on_pictures, self._robot.look)
        photographer.prepare(self._robot.physics[0])
        return photographer

    def _on_timer(self) -> None:
        for _ in range(self._pace.steps_due(time.monotonic_ns())):
            self._step()

    def _step(self) -> None:
        steady_ns = time.monotonic_ns()
        before = self._robot.state()
        for sample in self._inbox.drain():
            # An opening carries no stamp: it is as old as the instant at which it is heard.
            stamp_ns = _EPOCH_NS + before.time_ns if sample.stamp_ns is None else sample.stamp_ns
            if stamp_ns <= self._deaf_until_ns:
                continue
            if sample.channel == "gripper":
                self._driver = self._driver.receive_gripper(sample.value)
            else:
                self._driver = self._driver.receive(sample.value, sample.received_ns)
        try:
            self._robot.step(self._driver.obeyed(steady_ns, self._robot.holding()), self._driver.gripper)
        except SimError as error:
            self.get_logger().error(f"{error}; putting the world back")
            self._reset_world()
        self._publish(self._robot.state())

    def _publish(self, state: SimState) -> None:
        stamp_ns, base = _EPOCH_NS + state.time_ns, self._contract.frames.base
        self._ee_pose.publish(messages.to_pose_stamped(state.pose, stamp_ns, base))
        self._ee_twist.publish(messages.to_twist_stamped(state.twist, stamp_ns, base))
        self._joint_states.publish(messages.to_joint_state(state.joints, stamp_ns))
        self._commanded.publish(messages.to_pose_stamped(state.commanded, stamp_ns, base))
        self._privileged.publish(messages.to_numbers(state.privileged, stamp_ns))
        self._success.publish(messages.to_bool(state.success))
        if self._photographer is not None and (state.time_ns // STEP_NS) % self._steps_per_frame == 0:
            # Drawing takes as long as a network's thoughts: what nobody looks at is not drawn.
            watched = tuple(view for view, images in self._images.items() if images.get_subscription_count())
            if watched:
                self._photographer.shoot(stamp_ns, *self._robot.physics, watched)
        # Last, so that who ticks on this clock has heard this step's state already.
        self._clock_publisher.publish(messages.to_clock(stamp_ns))

    def _on_pictures(self, stamp_ns: int, pictures: Mapping[str, ImageArray]) -> None:
        for view, picture in pictures.items():
            camera = self._contract.cameras[view]
            if camera.transport == "raw":
                message = image_messages.to_image(Frame(picture, "rgb8"), stamp_ns, camera.frame)
            else:
                message = image_messages.to_compressed_image(encode(picture, camera.encoding), stamp_ns, camera.frame)
            self._images[view].publish(message)

    def _on_reset(self, _request: Any, response: Any) -> Any:
        try:
            self._reset_world()
        except SimError as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        response.message = f"{self._robot.task}, variation {self._robot.variation}"
        return response

    def _reset_world(self) -> None:
        task = self.get_parameter("task").value or self._kind.usual_task
        variation = parse(self.get_parameter("variation").value)
        # Told before, so that the guard is disarmed by then, and after, so that nobody keeps a view of the old world.
        self._was_reset.publish(Empty())
        self._robot.reset(task, variation)
        if self._photographer is not None:
            self._photographer.prepare(self._robot.physics[0])
        self._driver = self._driver.forget()
        self._deaf_until_ns = _EPOCH_NS + self._robot.state().time_ns + _DEAF_AFTER_RESET_NS
        self._pace = self._pace.restarted()
        self._was_reset.publish(Empty())

    def _diagnose(self) -> Diagnosis:
        factor = self._pace.factor(time.monotonic_ns())
        values = {
            "task": self._robot.task,
            "variation": str(self._robot.variation),
            "realtime factor": f"{factor:.3f}",
            "success": str(self._robot.success).lower(),
            "driver": self._driver.status(time.monotonic_ns()).value,
            "commands refused": str(self._driver.refused),
        }
        if self._photographer is not None:
            values["frames missed"] = str(self._photographer.missed)
            if self._photographer.failure is not None:
                return ERROR, self._photographer.failure, values
        slow = factor < 0.95 * self._values["realtime_factor"]
        return (WARNING, f"slower than asked: {factor:.2f} of real time", values) if slow else (OK, "stepping", values)


def _commands(contract: Contract) -> tuple[InputSpec, ...]:
    """What a robot's driver listens to."""
    if contract.gripper.interface != "float64":
        raise ContractError("the simulated robots obey gripper.interface float64")
    base, gripper = contract.frames.base, contract.gripper

    def opening(msg: Any) -> tuple[float, None]:
        return gripper.opening(reading.from_float(msg)), None

    def position(msg: Any) -> tuple[FloatArray, int]:
        return reading.from_pose_stamped(msg, base).position, reading.from_stamp(msg.header.stamp)

    def twist(msg: Any) -> tuple[FloatArray, int]:
        read = reading.from_twist_stamped(msg, base)
        return np.concatenate([read.linear, read.angular]), reading.from_stamp(msg.header.stamp)

    obeyed = {
        "pose": InputSpec("pose", contract.outputs.pose, PoseStamped, NEWEST, position),
        "twist": InputSpec("twist", contract.outputs.twist, TwistStamped, NEWEST, twist),
    }
    return (
        obeyed[contract.command_interface],
        InputSpec("gripper", gripper.topic, Float64, OFFERED, opening),
    )


INTERFACES = {
    "camera/<view>/image_raw (sensor_msgs/Image)": "out: the contract's cameras, at its size and rate",
    "joint_states, ee_pose, ee_twist, sim/commanded_pose": "out: measured, and where the robot was told to be",
    "/clock (rosgraph_msgs/Clock)": "out: simulated time, 80 Hz",
    "sim/success (std_msgs/Bool), sim/privileged_state (sensor_msgs/JointState)": "out: what no real robot has",
    "target_pose or target_twist, gripper_command": "in: the guard's commands, by the contract's interface and outputs",
    "sim/reset (std_srvs/Trigger)": "service: put the world back, by the parameters task and variation",
    "sim/was_reset (std_msgs/Empty)": "out: the world was put back; the guard disarms",
}


def main(args: list[str] | None = None) -> int:
    """Entry point of `sim_node`."""
    os.environ.update(isolate(os.environ))
    return run_node(SimNode, args, help_text("sim_node", __doc__ or "", PARAMETERS, INTERFACES))
