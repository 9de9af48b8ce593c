"""The policy's node: looks, asks the worker, and follows its chunk. A lifecycle node that never imports torch.

configure loads the contract and the policy's worker; only an active node publishes commands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String

from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.control.policy_report import PolicyResult
from vla_ros.control.policy_rules import lasting
from vla_ros.control.policy_state import PolicyConfig, PolicyOutput, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.errors import PolicyError, VlaRosError
from vla_ros.policy.client import WorkerClient
from vla_ros.ros import messages
from vla_ros.ros.image_messages import require_readable
from vla_ros.ros.inbox import Inbox, subscribe
from vla_ros.ros.inputs import OFFERED, TRACED, policy_inputs
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.runtime import NO_EVENTS, Diagnosis, DiagnosticsPublisher, now, run_node, stop_requested
from vla_ros.ros.status import OK, WARNING, StatusPublisher, level_of
from vla_ros.types import Sample

PARAMETERS = (
    Parameter("contract", str, "Path of the robot contract (YAML)"),
    Parameter("policy", "hold", "Name of an installed policy (vla_ros policies lists them), or module:function"),
    Parameter("policy_options", (), "Options of the policy, each key=value"),
    Parameter("policy_python", "", "Python interpreter of the worker; empty: the one that runs this node"),
    Parameter("load_timeout_s", 120.0, "How long the policy may take to load", minimum=1.0, maximum=3600.0),
    Parameter("autostart", False, "Configure and activate without being told"),
    Parameter("trace", True, "Publish policy/trace, one JSON line per tick, which replay follows"),
)

_CLOSE_TIMEOUT_S = 2.0
_SWITCH_INTERVAL_S = 1e-4
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """Callbacks store, the timer decides: `policy_tick` once per tick, on the node's clock."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._values = declare(self, PARAMETERS)
        load_contract(self._values["contract"])  # a wrong contract ends the process before it joins the graph
        self._state = PolicyState()
        self._inbox = Inbox(self.get_logger())
        self._worker: WorkerClient | None = None
        self._timer: Any = None
        self._subscriptions_made: list[Any] = []
        self._publishers_made: list[Any] = []
        self._last: PolicyResult | None = None
        self._diagnostics = DiagnosticsPublisher(self, self._diagnose)

    def autostart(self) -> None:
        """Configure and activate, if the parameter says so. Raises PolicyError where that fails."""
        if not self._values["autostart"]:
            return
        if self.trigger_configure() != SUCCESS or self.trigger_activate() != SUCCESS:
            raise PolicyError("the policy could not be started; the reason is above")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and validate everything. Fails, in words, and leaves nothing behind."""
        try:
            self._configure()
        except VlaRosError as error:
            self.get_logger().error(str(error))
            self._release()
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to tick. The instruction and a request in flight are remembered, plans and observations not."""
        was = self._state
        remembered = was.streams.only((channels.COMMAND,))
        self._state = PolicyState(
            streams=remembered, pending=was.pending, next_id=was.next_id, trouble=lasting(was.trouble)
        )
        self._timer = self.create_timer(1.0 / self._config.contract.rates.policy_hz, self._tick)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop ticking; the guard stops the robot, since the policy falls silent."""
        self._stop_ticking()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the worker go, and forget the instruction: a policy that is loaded anew waits to be told."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End for good."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, with nothing running."""
        self._release()
        return SUCCESS

    def close(self) -> None:
        """Let the worker go when the process ends."""
        self._release()

    def _configure(self) -> None:
        values = self._values
        contract = load_contract(values["contract"])
        require_readable(contract)
        self._worker = WorkerClient(
            values["policy_python"] or sys.executable,
            values["policy"],
            Path(values["contract"]).resolve(),
            _options(values["policy_options"]),
            log=lambda line: self.get_logger().info(f"worker: {line}"),
        )
        needs = self._worker.start(values["load_timeout_s"], stop_requested)
        self._config = PolicyConfig(contract, needs)
        self._publish_on = {
            channels.POLICY_POSE: self._publisher(PoseStamped, channels.POLICY_POSE),
            channels.POLICY_TWIST: self._publisher(TwistStamped, channels.POLICY_TWIST),
            channels.POLICY_GRIPPER: self._publisher(JointState, channels.POLICY_GRIPPER),
            channels.POLICY_PROVENANCE: self._publisher(Header, channels.POLICY_PROVENANCE),
        }
        self._trace = self._publisher(String, "policy/trace", TRACED) if values["trace"] else None
        self._status = StatusPublisher(self._publisher(DiagnosticArray, "policy/status"), "policy")
        simulated = self.get_parameter("use_sim_time").value
        self._subscriptions_made = subscribe(self, policy_inputs(contract, needs, simulated), self._inbox)
        self.get_logger().info(f"policy {values['policy']!r} loaded in process {self._worker.pid}")

    def _publisher(self, message_type: type, topic: str, qos: QoSProfile = OFFERED) -> Any:
        publisher = self.create_lifecycle_publisher(message_type, topic, qos, event_callbacks=NO_EVENTS)
        self._publishers_made.append(publisher)
        return publisher

    def _tick(self) -> None:
        assert self._worker is not None, "the timer lives only between configure and cleanup"
        instant = now(self)
        replies = [Sample(channels.WORKER, reply, None, instant.steady_ns) for reply in self._worker.poll()]
        result = policy_tick(self._state, (*self._inbox.drain(), *replies), instant, self._config)
        if result.request is not None:
            self._worker.submit(result.request)
        if result.output is not None:
            self._publish(result.output)
        self._say(result)
        self._state, self._last = result.state, result
        self._status.publish(level_of(result.status.reason.is_fault), result.status.text, result.status.values, instant)
        if self._trace is not None:
            self._trace.publish(messages.to_trace(result.trace))

    def _publish(self, output: PolicyOutput) -> None:
        contract, stamp_ns, target = self._config.contract, output.stamp_ns, output.target
        base = contract.frames.base
        encoded = {
            channels.POLICY_POSE: messages.to_pose_stamped(target.pose, stamp_ns, base),
            channels.POLICY_TWIST: messages.to_twist_stamped(target.twist, stamp_ns, base),
            channels.POLICY_GRIPPER: messages.to_gripper(target.gripper, contract.gripper.joint, stamp_ns),
            channels.POLICY_PROVENANCE: messages.to_provenance(output.provenance, stamp_ns),
        }
        for channel, message in encoded.items():
            self._publish_on[channel].publish(message)

    def _say(self, result: PolicyResult) -> None:
        before = None if self._last is None else self._last.status.reason
        if result.status.reason is not before:
            # Two lines, because rclpy refuses one line that logs with two severities.
            if result.status.reason.is_fault:
                self.get_logger().warning(result.status.text)
            else:
                self.get_logger().info(result.status.text)

    def _diagnose(self) -> Diagnosis:
        refused = {f"unreadable {name}": str(count) for name, count in self._inbox.error_counts.items()}
        if self._worker is None:
            return WARNING, "not configured", refused
        if self._timer is None or self._last is None:
            return OK, "inactive", refused
        status = self._last.status
        return level_of(status.reason.is_fault), status.text, {**status.values, **refused}

    def _stop_ticking(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self._timer = self._last = None

    def _release(self) -> None:
        self._stop_ticking()
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        for publisher in self._publishers_made:
            self.destroy_publisher(publisher)
        self._subscriptions_made, self._publishers_made = [], []
        self._state = PolicyState()
        self._inbox.drain()
        if self._worker is not None:
            self._worker.close(_CLOSE_TIMEOUT_S)
            self._worker = None


def _options(words: Sequence[str]) -> dict[str, str]:
    """key=value words -> mapping. Raises PolicyError for a word without "="."""
    pairs = [word.partition("=") for word in words if word]
    wrong = [key for key, equals, _ in pairs if not equals or not key]
    if wrong:
        raise PolicyError(f"policy option {wrong[0]!r} is not of the form key=value")
    return {key: value for key, _, value in pairs}


INTERFACES = {
    "camera/<view>/image_raw (sensor_msgs/Image or CompressedImage)": "in: the views that the policy needs",
    "command (std_msgs/String)": 'in: the instruction; a new one takes effect at once, empty or "stop" stops',
    "joint_states, ee_pose, ee_twist": "in: the robot's feedback, by the contract",
    "guard/commanded_pose (geometry_msgs/PoseStamped)": "in: the origin of a model's relative rows",
    "policy/target_pose, policy/target_twist, policy/gripper, policy/instruction": "out: one tick, to the guard",
    "policy/status, policy/trace, /diagnostics": "out: what it does and why not, in words and per tick",
    "~/change_state and the other lifecycle services": "configure loads the policy, activate lets it speak",
}


def create() -> PolicyNode:
    """The node, started already if its autostart parameter says so."""
    node = PolicyNode()
    try:
        node.autostart()
    except BaseException:
        node.close()
        node.destroy_node()
        raise
    return node


def main(args: list[str] | None = None) -> int:
    """Entry point of `policy_node`."""
    # The worker's link is a thread: it must not wait 5 ms, Python's own choice, for an interpreter that is busy.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    return run_node(create, args, help_text("policy_node", __doc__ or "", PARAMETERS, INTERFACES))
