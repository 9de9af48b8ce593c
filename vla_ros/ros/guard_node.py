"""The guard: the only publisher of what the robot obeys. It starts disarmed, and imports neither torch nor a model."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_rules import why_not_arm, why_not_reset
from vla_ros.control.guard_state import GuardConfig, GuardState, Mode
from vla_ros.ros import messages
from vla_ros.ros.gripper_output import create_gripper_output
from vla_ros.ros.inbox import Inbox, subscribe
from vla_ros.ros.inputs import OFFERED, TRACED, guard_inputs
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.runtime import NO_EVENTS, Diagnosis, DiagnosticsPublisher, create_steady_timer, now, run_node
from vla_ros.ros.status import ERROR, StatusPublisher, level_of
from vla_ros.types import Sample

PARAMETERS = (
    Parameter("contract", str, "Path of the robot contract (YAML)"),
    Parameter("shadow", False, "Decide and tell, but publish nothing to the robot"),
    Parameter("trace", True, "Publish guard/trace, one JSON line per tick, which replay follows"),
)
_LAST_WORDS_S = 0.1


class GuardNode(Node):
    """Callbacks store, the steady timer decides: `guard_step` once per tick."""

    def __init__(self) -> None:
        super().__init__("guard")
        values = declare(self, PARAMETERS)
        contract = load_contract(values["contract"])
        self._config = GuardConfig(contract, values["shadow"])
        self._state = GuardState()
        self._inbox = Inbox(self.get_logger())
        self._commanded = self._to_ourselves(PoseStamped, channels.COMMANDED_POSE, TRACED)
        self._pose = self.create_publisher(PoseStamped, contract.outputs.pose, OFFERED)
        self._twist = self.create_publisher(TwistStamped, contract.outputs.twist, OFFERED)
        self._gripper = create_gripper_output(self, contract.gripper)
        self._trace = self._to_ourselves(String, "guard/trace", TRACED) if values["trace"] else None
        self._status = StatusPublisher(self._to_ourselves(DiagnosticArray, "guard/status"), "guard")
        self._last: GuardResult | None = None
        simulated = self.get_parameter("use_sim_time").value
        subscribe(self, guard_inputs(contract, simulated), self._inbox)
        self.create_service(SetBool, channels.ARM, self._on_arm)
        self.create_service(Trigger, channels.RESET, self._on_reset)
        self._diagnostics = DiagnosticsPublisher(self, self._diagnose)
        create_steady_timer(self, 1.0 / contract.rates.guard_hz, self._tick)
        self.get_logger().info(f"guarding {contract.name}: disarmed" + (", in shadow" if values["shadow"] else ""))

    def close(self) -> None:
        """Bring the robot to rest before falling silent: what its driver does then knows none of our limits."""
        contract = self._config.contract
        self._decide_now(channels.ARM, False)
        for _ in range(math.ceil(contract.stop_time_s * contract.rates.guard_hz) + 2):
            if self._last is None or self._last.command is None:
                break
            time.sleep(1.0 / contract.rates.guard_hz)
            self._tick()
        for publisher in (self._pose, self._twist):
            publisher.wait_for_all_acked(Duration(seconds=_LAST_WORDS_S))

    def _to_ourselves(self, message_type: type, topic: str, qos: QoSProfile = OFFERED) -> Any:
        return self.create_publisher(message_type, topic, qos, event_callbacks=NO_EVENTS)

    def _tick(self) -> None:
        instant = now(self)
        result = guard_step(self._state, self._inbox.drain(), instant, self._config)
        self._publish(result)
        self._tell(result)
        self._state, self._last = result.state, result

    def _publish(self, result: GuardResult) -> None:
        base, stamp_ns = self._config.contract.frames.base, result.now.ros_ns
        if result.command is not None:
            self._pose.publish(messages.to_pose_stamped(result.command.pose, stamp_ns, base))
            self._twist.publish(messages.to_twist_stamped(result.command.twist, stamp_ns, base))
            if result.command.gripper is not None:
                self._gripper.send(result.command.gripper)
        if result.commanded_pose is not None:
            self._commanded.publish(messages.to_pose_stamped(result.commanded_pose, stamp_ns, base))

    def _tell(self, result: GuardResult) -> None:
        status = result.status
        if result.state.mode is not self._state.mode:
            self.get_logger().info(f"{result.state.mode.value}: {status.text}")
        self._status.publish(level_of(status.is_fault), status.text, status.values, result.now)
        if self._trace is not None:
            self._trace.publish(messages.to_trace(result.trace))

    def _on_arm(self, request: Any, response: Any) -> Any:
        self._decide_now(channels.ARM, bool(request.data))
        state = self._state
        if request.data:
            response.success = state.mode is Mode.ARMED
            refused = why_not_arm(state, now(self), self._config.contract)
            response.message = "armed" if response.success else f"not armed: {refused}"
        else:
            response.success = True
            response.message = f"latched by {state.latched_by}" if state.mode is Mode.LATCHED else "disarmed"
        return response

    def _on_reset(self, _request: Any, response: Any) -> Any:
        was_latched = self._state.mode is Mode.LATCHED
        self._decide_now(channels.RESET, None)
        refused = why_not_reset(self._state, now(self), self._config.contract)
        words = "reset; still disarmed" if was_latched else "nothing was latched"
        response.success, response.message = not refused, f"not reset: {refused}" if refused else words
        return response

    def _decide_now(self, channel: str, value: bool | None) -> None:
        """A request is decided in a tick of its own, with all that was heard before, so that its answer is true."""
        self._inbox.put(Sample(channel, value, None, now(self).steady_ns))
        self._tick()

    def _diagnose(self) -> Diagnosis:
        refused = {f"unreadable {name}": str(count) for name, count in self._inbox.error_counts.items()}
        if self._last is None:
            return ERROR, "no tick yet", refused
        return level_of(self._last.status.is_fault), self._last.status.text, {**self._last.status.values, **refused}


INTERFACES = {
    "command (std_msgs/String)": 'in: the instruction; empty or "stop" stops',
    "policy/target_pose, policy/target_twist, policy/gripper, policy/instruction": "in: one tick of the policy",
    "teleop/target_twist, teleop/target_pose, teleop/gripper, teleop/deadman": "in: the human, who comes first",
    "emergency_stop (std_msgs/Bool)": "in: true latches until guard/reset",
    "guard/arm (std_srvs/SetBool), guard/reset (std_srvs/Trigger)": "services: nothing moves before arming",
    "target_pose, target_twist, gripper_command": "out: what the robot obeys, by the contract's outputs",
    "guard/commanded_pose (geometry_msgs/PoseStamped)": "out: every tick, in every mode",
    "guard/status, guard/trace, /diagnostics": "out: who is in command and why, per tick and in words",
}


def main(args: list[str] | None = None) -> int:
    """Entry point of `guard_node`."""
    # Fast DDS's shared memory has locks between processes: who is stopped while it holds one blocks all who send to it
    # for a second. The guard waits for nobody. (ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST brings shared memory back.)
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    return run_node(GuardNode, args, help_text("guard_node", __doc__ or "", PARAMETERS, INTERFACES))
