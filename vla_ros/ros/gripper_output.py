"""How an opening, 0 closed to 1 open, reaches the gripper's driver."""

from __future__ import annotations

import importlib
import time
from typing import Any, Protocol

from rclpy.action import ActionClient
from std_msgs.msg import Float64

from vla_ros.contract import Gripper
from vla_ros.errors import ContractError
from vla_ros.ros import messages
from vla_ros.ros.goal_gate import GoalGate
from vla_ros.ros.inputs import OFFERED


class GripperOutput(Protocol):
    """One way to a driver."""

    def send(self, opening: float) -> None:
        """Ask for an opening. Called every tick."""
        ...


def create_gripper_output(node: Any, gripper: Gripper) -> GripperOutput:
    """The contract's interface. Raises ContractError where control_msgs, which the actions need, is not installed."""
    if gripper.interface == "float64":
        return TopicGripper(node, gripper)
    action = {"gripper_command": "GripperCommand", "parallel_gripper_command": "ParallelGripperCommand"}
    try:
        actions = importlib.import_module("control_msgs.action")
    except ImportError:
        raise ContractError(
            f"gripper.interface {gripper.interface!r} needs ROS's control_msgs, which is not installed; "
            "without it the choice is float64"
        ) from None
    return ActionGripper(node, gripper, getattr(actions, action[gripper.interface]))


class TopicGripper:
    """std_msgs/Float64 on a topic."""

    def __init__(self, node: Any, gripper: Gripper) -> None:
        self._gripper = gripper
        self._publisher = node.create_publisher(Float64, gripper.topic, OFFERED)

    def send(self, opening: float) -> None:
        """Publish."""
        self._publisher.publish(messages.to_float(self._gripper.driver_value(opening)))


class ActionGripper:
    """A goal of GripperCommand or ParallelGripperCommand whenever the opening changes."""

    def __init__(self, node: Any, gripper: Gripper, action: Any) -> None:
        self._gripper = gripper
        self._action = action
        self._client = ActionClient(node, action, gripper.topic)
        self._gate = GoalGate()

    def send(self, opening: float) -> None:
        """Send a goal if the opening is new and the server has answered; a newer goal preempts an older one."""
        goal_id = self._gate.ask(opening, self._client.server_is_ready(), time.monotonic_ns())
        if goal_id is None:
            return
        answer = self._client.send_goal_async(self._goal(self._gripper.driver_value(opening)))
        answer.add_done_callback(lambda future: self._on_answer(goal_id, future))

    def _on_answer(self, goal_id: int, future: Any) -> None:
        accepted = future.exception() is None and future.result().accepted
        self._gate.answered(goal_id, accepted, time.monotonic_ns())

    def _goal(self, value: float) -> Any:
        goal = self._action.Goal()
        if self._gripper.interface == "gripper_command":
            goal.command.position, goal.command.max_effort = value, self._gripper.max_effort
        else:
            goal.command.name, goal.command.position = [self._gripper.joint], [value]
        return goal
