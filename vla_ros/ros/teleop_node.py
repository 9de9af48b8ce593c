"""A human's commands, from a terminal's keyboard or a joystick, always with a deadman.

The keyboard moves in short pulses. With a joystick (`joy_node`), motion needs the enable button held, as in
teleop_twist_joy, whose parameter names are used here; when the joystick falls silent, or its messages arrive late,
so does this node, and the guard stops.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, String

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.control.human import (
    ANGULAR_PARTS,
    KEYS_HELP,
    LINEAR_PARTS,
    Keyboard,
    Speeds,
    gripper_pulse_s,
    is_late,
    is_pulsing,
    joy_mapping,
    keyboard_gripper,
    keyboard_twist,
    press,
    read_joy,
)
from vla_ros.errors import MessageError, VlaRosError
from vla_ros.geometry import zero_twist
from vla_ros.interface import reading
from vla_ros.ros import messages
from vla_ros.ros.inputs import LATCHING, OFFERED, SAID_ONCE
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.runtime import Diagnosis, DiagnosticsPublisher, Finished, create_steady_timer, now, run_node
from vla_ros.ros.status import OK
from vla_ros.ros.terminal import SingleKeys
from vla_ros.types import NS_PER_S, Twist


def _index(name: str, default: int, description: str) -> Parameter:
    return Parameter(name, default, f"{description}; -1 for none", minimum=-1, maximum=63)


def _scales(name: str, parts: tuple[str, ...], default: float, unit: str) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(f"{name}.{part}", default, f"{unit} at full {part}; negative turns the axis round", -5.0, 5.0)
        for part in parts
    )


JOY_PARAMETERS = (
    _index("axis_linear.x", 1, "Joystick axis for x"),
    _index("axis_linear.y", 0, "Joystick axis for y"),
    _index("axis_linear.z", 4, "Joystick axis for z"),
    _index("axis_angular.roll", -1, "Joystick axis for roll"),
    _index("axis_angular.pitch", -1, "Joystick axis for pitch"),
    _index("axis_angular.yaw", 3, "Joystick axis for yaw"),
    *_scales("scale_linear", LINEAR_PARTS, 0.1, "m/s"),
    *_scales("scale_linear_turbo", LINEAR_PARTS, 0.25, "m/s"),
    *_scales("scale_angular", ANGULAR_PARTS, 0.3, "rad/s"),
    *_scales("scale_angular_turbo", ANGULAR_PARTS, 0.8, "rad/s"),
    _index("enable_button", 4, "The deadman: hold it to move"),
    _index("enable_turbo_button", 5, "The deadman for turbo speed"),
    _index("gripper_open_button", 0, "Opens the gripper"),
    _index("gripper_close_button", 1, "Closes the gripper"),
    _index("emergency_stop_button", 8, "Emergency stop"),
)
PARAMETERS = (
    Parameter("contract", str, "Path of the robot contract (YAML)"),
    Parameter("device", "keyboard", "What the human holds", choices=("keyboard", "joy")),
    Parameter("linear_speed_m_s", 0.15, "Keyboard: linear speed", minimum=0.001, maximum=2.0),
    Parameter("angular_speed_rad_s", 0.5, "Keyboard: angular speed", minimum=0.001, maximum=5.0),
    *JOY_PARAMETERS,
)
_PERIOD_S = 0.05
_LAST_WORDS_S = 0.5
_WARN_EVERY_S = 5.0


class TeleopNode(Node):
    """Publishes teleop commands while the deadman is held, and whether it is held."""

    def __init__(self) -> None:
        super().__init__("teleop")
        values = declare(self, PARAMETERS)
        contract = load_contract(values["contract"])
        self._base, self._joint = contract.frames.base, contract.gripper.joint
        self._twist = self.create_publisher(TwistStamped, channels.TELEOP_TWIST, OFFERED)
        self._gripper = self.create_publisher(JointState, channels.TELEOP_GRIPPER, OFFERED)
        self._deadman = self.create_publisher(Bool, channels.TELEOP_DEADMAN, OFFERED)
        self._emergency_stop = self.create_publisher(Bool, contract.emergency_stop.topic, LATCHING)
        self._is_held: bool | None = None  # nothing said yet
        self._guard_says = "guard not heard yet"
        self.create_subscription(DiagnosticArray, "guard/status", self._on_guard, OFFERED)
        self._diagnostics = DiagnosticsPublisher(self, self._diagnose)
        # Last, since a failure after it would leave the terminal changed.
        device = _KeyboardDevice if values["device"] == "keyboard" else _JoyDevice
        self._device: _KeyboardDevice | _JoyDevice = device(self, values, contract)

    def command(self, deadman: bool, twist: Twist, gripper: float | None) -> None:
        """Publish a command while the deadman is held. Its release is repeated: a loss would lock the policy out."""
        stamp_ns = now(self).ros_ns
        if deadman:
            self._twist.publish(messages.to_twist_stamped(twist, stamp_ns, self._base))
            if gripper is not None:
                self._gripper.publish(messages.to_gripper(gripper, self._joint, stamp_ns))
        self._deadman.publish(messages.to_bool(deadman))
        self._is_held = deadman

    def emergency_stop(self) -> None:
        """Latch the guard. Released at once, since the latch holds: else nobody could reset it."""
        self._emergency_stop.publish(messages.to_bool(True))
        self._emergency_stop.publish(messages.to_bool(False))
        self.get_logger().warning("emergency stop")

    @property
    def guard_says(self) -> str:
        """The guard's status in words."""
        return self._guard_says

    def close(self) -> None:
        """Let last words arrive and, whatever happens, let go of the terminal.

        A deadman that is held now was not let go by the human: the guard is to miss it, not the policy to take over.
        """
        try:
            if self._is_held is False:
                self._deadman.publish(messages.to_bool(False))
            _deliver(self._deadman, self._emergency_stop, *self._device.publishers)
        finally:
            self._device.close()

    def _on_guard(self, msg: Any) -> None:
        for status in reading.from_diagnostics(msg):
            self._guard_says = f"{status.values.get('mode', '')}: {status.message}"

    def _diagnose(self) -> Diagnosis:
        return OK, "deadman held" if self._is_held else "deadman released", {"guard": self._guard_says}


def _deliver(*publishers: Publisher) -> None:
    """Wait until what was published has arrived, so that it does not die with its publisher; _LAST_WORDS_S in all."""
    deadline_ns = time.monotonic_ns() + round(_LAST_WORDS_S * NS_PER_S)
    for publisher in publishers:
        publisher.wait_for_all_acked(Duration(nanoseconds=max(0, deadline_ns - time.monotonic_ns())))


class _KeyboardDevice:
    """Keys from the terminal, polled by a steady timer."""

    def __init__(self, node: TeleopNode, values: Mapping[str, Any], contract: Contract) -> None:
        self._node = node
        self._gripper_s = gripper_pulse_s(contract.gripper.max_rate_per_s)
        self._speeds = Speeds(values["linear_speed_m_s"], values["angular_speed_rad_s"])
        self._keyboard = Keyboard()
        self._shown = ""
        self._command = node.create_publisher(String, channels.COMMAND, SAID_ONCE)
        self.publishers = (self._command,)
        create_steady_timer(node, _PERIOD_S, self._tick)
        self._keys = SingleKeys()
        if not self._keys.available:
            raise VlaRosError("keyboard teleop needs a terminal in the foreground; with a joystick, pass device:=joy")
        sys.stdout.write(KEYS_HELP + "\n")

    def close(self) -> None:
        self._keys.close()
        sys.stdout.write("\n")

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        for key in self._keys.read():
            if key == " ":
                self._node.emergency_stop()
            elif key == "x":
                self._command.publish(messages.to_string("stop"))
            elif key == "q":
                self._node.command(False, zero_twist(), None)
                raise Finished
            else:
                self._keyboard = press(self._keyboard, key, now_ns, self._gripper_s)
        held = is_pulsing(self._keyboard, now_ns)
        twist = keyboard_twist(self._keyboard, self._speeds, now_ns)
        self._node.command(held, twist, keyboard_gripper(self._keyboard, now_ns))
        self._show()

    def _show(self) -> None:
        line = f"{self._speeds.linear_m_s * self._keyboard.fraction:.2f} m/s  {self._node.guard_says}"
        if line != self._shown:
            self._shown = line
            sys.stdout.write(f"\r\x1b[K{line[:100]}")
            sys.stdout.flush()


class _JoyDevice:
    """sensor_msgs/Joy: one command per message, none without."""

    publishers: tuple[Publisher, ...] = ()

    def __init__(self, node: TeleopNode, values: Mapping[str, Any], contract: Contract) -> None:
        self._node = node
        self._max_age_s = contract.timeouts.deadman_s
        self._mapping = joy_mapping({parameter.name: values[parameter.name] for parameter in JOY_PARAMETERS})
        self._was_stopped = False
        node.create_subscription(Joy, "joy", self._on_joy, SAID_ONCE)
        node.get_logger().info(f"hold button {self._mapping.enable_button} to move")

    def close(self) -> None:
        """A joystick needs no putting back."""

    def _on_joy(self, msg: Any) -> None:
        joy = read_joy(msg.axes, msg.buttons, self._mapping)
        if joy.emergency_stop and not self._was_stopped:
            self._node.emergency_stop()
        self._was_stopped = joy.emergency_stop
        # A stop is obeyed however late it comes; a deadman from the past may have been let go since.
        if not self._is_late(msg):
            self._node.command(joy.deadman, joy.twist, joy.gripper)

    def _is_late(self, msg: Any) -> bool:
        """A joystick does not know simulated time: then its stamps are not comparable."""
        if self._node.get_parameter("use_sim_time").value:
            return False
        now_ns = now(self._node).ros_ns
        try:
            stamp_ns = reading.from_stamp(msg.header.stamp)
        except MessageError as error:
            self._warn(f"a joystick message is ignored: {error}")
            return True
        late = is_late(stamp_ns, now_ns, self._max_age_s)
        if late:
            age_s = (now_ns - stamp_ns) / NS_PER_S
            self._warn(f"a joystick message is ignored: {age_s:.1f} s old by its stamp; at most {self._max_age_s:g} s")
        return late

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=_WARN_EVERY_S)


INTERFACES = {
    "joy (sensor_msgs/Joy)": "in: the joystick, for device joy",
    "guard/status (diagnostic_msgs/DiagnosticArray)": "in: shown in the terminal",
    "teleop/target_twist, teleop/gripper, teleop/deadman": "out: the human's commands, to the guard",
    "emergency_stop (std_msgs/Bool)": "out: space bar or button",
    "command (std_msgs/String)": "out: key x tells the policy to stop",
}


def main(args: list[str] | None = None) -> int:
    """Entry point of `teleop_node`."""
    return run_node(TeleopNode, args, help_text("teleop_node", __doc__ or "", PARAMETERS, INTERFACES))
