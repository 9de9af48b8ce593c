"""The human's own node, as a process: a joystick's deadman, keys in a terminal, and a guard that hears it die."""

from __future__ import annotations

import os
import pty
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from helpers import Probe, own_domain, spawn_node, wait_for
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool

from vla_ros.contract_file import load_contract
from vla_ros.interface import reading
from vla_ros.ros import messages
from vla_ros.ros.inputs import LATCHING
from vla_ros.ros.teleop_node import JOY_PARAMETERS
from vla_ros.types import NS_PER_S, Pose

CONFIG = Path(__file__).parents[2] / "config"
SAWYER = CONFIG / "sawyer_sim.yaml"
UR5E = CONFIG / "ur5e_servo.yaml"
ENABLE, TURBO, OPEN, STOP = 4, 5, 0, 8
JOY = {"contract": SAWYER, "device": "joy"}


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with own_domain() as environment:
        yield environment


class Ear:
    """What the teleop node publishes, in order of arrival per topic."""

    def __init__(self, probe: Probe) -> None:
        self._deadman = probe.collect(Bool, "teleop/deadman", 100)
        self._stops = probe.collect(Bool, "emergency_stop", LATCHING)
        self.twists = probe.collect(TwistStamped, "teleop/target_twist", 100)
        self.grippers = probe.collect(JointState, "teleop/gripper", 100)
        self.commands = probe.collect(String, "command", 10)
        self._diagnoses = probe.collect(DiagnosticArray, "/diagnostics", 10)

    @property
    def deadman(self) -> list[bool]:
        return [msg.data for msg in self._deadman]

    @property
    def stops(self) -> list[bool]:
        return [msg.data for msg in self._stops]

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(map(len, (self._deadman, self._stops, self.twists, self.grippers, self.commands)))

    def await_diagnosis(self) -> None:
        """Until the node has spoken of itself once more: it does every second, so it lives, and has had time."""
        heard = len(self._diagnoses)
        wait_for(lambda: len(self._diagnoses) > heard, what="teleop's diagnostics")

    def await_deadman(self, *values: bool, since: int | None = None) -> None:
        """Until the deadman has taken these values, in this order. since: as counted by `len(deadman)`; or now."""
        start = len(self._deadman) if since is None else since

        def found() -> bool:
            arriving = iter(self.deadman[start:])
            return all(value in arriving for value in values)

        wait_for(found, what=f"deadman {values}")


class Joystick:
    """A joystick at 50 Hz; silent until it is set."""

    def __init__(self, probe: Probe, age_s: float | None = 0.0) -> None:
        """age_s: how old its stamps are; None: it has no stamps."""
        self._node = probe.node
        self._age_s = age_s
        self._state: tuple[list[float], list[int]] | None = None
        self._publisher = probe.node.create_publisher(Joy, "joy", 1)
        probe.node.create_timer(0.02, self._publish)

    def hold(self, *buttons: int, forward: float = 0.0) -> None:
        """Hold these buttons and no other, and the stick for x at -1 to 1."""
        self._state = [0.0, forward, 0.0, 0.0, 0.0], [int(index in buttons) for index in range(9)]

    def fall_silent(self) -> None:
        self._state = None

    def _publish(self) -> None:
        state = self._state
        if state is not None:
            msg = Joy(axes=state[0], buttons=state[1])
            if self._age_s is not None:
                now_ns = self._node.get_clock().now().nanoseconds
                msg.header.stamp = messages.to_stamp(now_ns - round(self._age_s * NS_PER_S))
            self._publisher.publish(msg)


def test_the_enable_button_is_the_deadman_and_scales_the_stick(env: dict[str, str]) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY) as teleop:
        ear, joystick = Ear(probe), Joystick(probe)
        joystick.hold(forward=0.5)
        ear.await_deadman(False)
        assert ear.twists == []
        joystick.hold(ENABLE, forward=0.5)
        wait_for(lambda: ear.deadman[-1] and ear.twists, what="the deadman held, and a twist")
        twist = ear.twists[-1]
        assert twist.header.frame_id == "base"
        assert reading.from_twist_stamped(twist, "base").linear == pytest.approx([0.05, 0.0, 0.0])
        joystick.hold(TURBO, OPEN, forward=-1.0)
        wait_for(lambda: ear.twists[-1].twist.linear.x == pytest.approx(-0.25), what="turbo")
        wait_for(lambda: ear.grippers and ear.grippers[-1].position[0] == 1.0, what="the gripper opens")
        joystick.hold(forward=-1.0)
        wait_for(lambda: not ear.deadman[-1], what="the deadman released")
        ear.await_deadman(False)
        heard = ear.counts
        ear.await_diagnosis()
        assert not any(ear.deadman[heard[0] :])
        assert ear.counts[2:] == heard[2:]
        assert teleop.stop() == 0
        assert "Traceback" not in teleop.output()


def test_the_joysticks_parameter_file_names_every_axis_and_button(env: dict[str, str]) -> None:
    file = CONFIG / "joystick.yaml"
    (section,) = yaml.safe_load(file.read_text(encoding="utf-8")).values()
    given = {
        f"{name}.{part}" if part else name
        for name, value in section["ros__parameters"].items()
        for part in (value if isinstance(value, dict) else [""])
    }
    assert given == {parameter.name for parameter in JOY_PARAMETERS}
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY, ("--params-file", str(file))) as teleop:
        ear, joystick = Ear(probe), Joystick(probe)
        joystick.hold(TURBO, forward=1.0)
        wait_for(lambda: ear.twists and ear.twists[-1].twist.linear.x == pytest.approx(0.25), what="turbo")
        assert "is not known here" not in teleop.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_teleop_that_is_ended_while_its_deadman_is_held_does_not_let_it_go(
    env: dict[str, str], number: signal.Signals
) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY) as teleop:
        ear, joystick = Ear(probe), Joystick(probe)
        joystick.hold(ENABLE, forward=1.0)
        ear.await_deadman(True)
        teleop.signal(number)
        assert teleop.wait() == 0
        wait_for(lambda: not probe.node.count_publishers("teleop/deadman"), what="teleop is gone")
        assert all(ear.deadman)


def test_an_empty_status_does_no_harm(env: dict[str, str]) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY) as teleop:
        ear = Ear(probe)
        statuses = probe.node.create_publisher(DiagnosticArray, "guard/status", 1)
        wait_for(statuses.get_subscription_count, what="teleop listens to the guard")
        statuses.publish(DiagnosticArray())
        ear.await_diagnosis()
        ear.await_diagnosis()
        assert teleop.stop() == 0
        assert "Traceback" not in teleop.output()


def test_a_silent_joystick_makes_a_silent_teleop(env: dict[str, str]) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY):
        ear, joystick = Ear(probe), Joystick(probe)
        ear.await_diagnosis()
        assert ear.counts == (0, 0, 0, 0, 0)
        joystick.hold(ENABLE, forward=1.0)
        ear.await_deadman(True)
        joystick.fall_silent()
        ear.await_diagnosis()
        heard = ear.counts
        ear.await_diagnosis()
        assert ear.counts == heard
        assert all(ear.deadman)


def test_the_stop_button_latches_once_per_press_and_lets_go(env: dict[str, str]) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY):
        ear, joystick = Ear(probe), Joystick(probe)
        joystick.hold()
        ear.await_deadman(False)
        joystick.hold(STOP)
        wait_for(lambda: ear.stops == [True, False], what="an emergency stop")
        ear.await_diagnosis()
        assert ear.stops == [True, False]
        joystick.hold()
        ear.await_deadman(False)
        joystick.hold(STOP)
        wait_for(lambda: ear.stops == [True, False, True, False], what="another one")


def test_a_message_delayed_on_its_way_holds_no_deadman_but_stops(env: dict[str, str]) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, JOY) as teleop:
        ear, joystick = Ear(probe), Joystick(probe, age_s=1.0)
        joystick.hold(ENABLE, STOP, forward=1.0)
        wait_for(lambda: ear.stops == [True, False], what="an emergency stop")
        ear.await_diagnosis()
        assert ear.deadman == []
        assert ear.twists == []
        assert "1.0 s old by its stamp" in teleop.output()


@pytest.mark.parametrize(("age_s", "use_sim_time"), [(None, False), (1.0, True)])
def test_stamps_that_say_nothing_are_not_asked(env: dict[str, str], age_s: float | None, use_sim_time: bool) -> None:
    with Probe(env) as probe, spawn_node("teleop_node", env, {**JOY, "use_sim_time": use_sim_time}):
        ear, joystick = Ear(probe), Joystick(probe, age_s)
        joystick.hold(ENABLE)
        ear.await_deadman(True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_guard_obeys_the_held_button_and_stops_when_teleop_is_killed(
    env: dict[str, str], number: signal.Signals
) -> None:
    with (
        Probe(env) as probe,
        spawn_node("guard_node", env, {"contract": SAWYER}),
        spawn_node("teleop_node", env, JOY) as teleop,
    ):
        joystick = Joystick(probe)
        statuses = probe.collect(DiagnosticArray, "guard/status")
        measured = probe.node.create_publisher(PoseStamped, "ee_pose", 1)
        pose = Pose(np.array([0.0, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))

        def publish_pose() -> None:
            stamp_ns = probe.node.get_clock().now().nanoseconds
            measured.publish(messages.to_pose_stamped(pose, stamp_ns, "base"))

        def guard_says(text: str) -> bool:
            return bool(statuses) and text in statuses[-1].status[0].message

        probe.node.create_timer(0.02, publish_pose)
        arm = SetBool.Request(data=True)
        wait_for(lambda: probe.call(SetBool, "guard/arm", arm).success, what="the guard arms")
        joystick.hold()
        wait_for(lambda: guard_says("no instruction"), what="an armed guard without an instruction")
        joystick.hold(ENABLE)
        wait_for(lambda: guard_says("teleop in command"), what="the human in command")
        joystick.hold()
        wait_for(lambda: guard_says("no instruction"), what="the human out of command")
        joystick.hold(ENABLE)
        wait_for(lambda: guard_says("teleop in command"), what="the human in command again")
        teleop.signal(number)
        wait_for(lambda: guard_says("teleop fell silent while its deadman was held"), what="a stop")


class Terminal:
    """Keyboard teleop in a terminal of its own; killed at the end of `with`."""

    def __init__(self, env: dict[str, str], contract: Path = UR5E) -> None:
        self._shown = ""
        self._status: int | None = None
        self._child, self._file = pty.fork()
        if self._child == 0:
            code = "import sys; from vla_ros.ros.teleop_node import main; sys.exit(main())"
            os.execve(sys.executable, [sys.executable, "-c", code, "--ros-args", "-p", f"contract:={contract}"], env)
        os.set_blocking(self._file, False)

    def press(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def signal(self, number: int) -> None:
        os.kill(self._child, number)

    def shows(self, text: str) -> bool:
        with suppress(OSError):
            self._shown += os.read(self._file, 65536).decode(errors="replace")
        return text in self._shown

    def reads_single_keys(self) -> bool:
        flags: int = termios.tcgetattr(self._file)[3]
        return not flags & termios.ICANON and not flags & termios.ECHO

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        wait_for(self._ended, what="the end of teleop")
        assert self._status is not None
        return self._status

    def _ended(self) -> bool:
        self.shows("")
        if self._status is None:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if not self._ended():
            self.signal(signal.SIGKILL)
            os.waitpid(self._child, 0)
        if kind is not None:
            print(f"--- the terminal showed:\n{self._shown}")
        os.close(self._file)


def test_a_key_moves_for_a_pulse_and_the_release_is_said_again_and_again(env: dict[str, str]) -> None:
    with Probe(env) as probe, Terminal(env) as terminal:
        ear = Ear(probe)
        wait_for(lambda: ear.deadman.count(False) >= 5, what="a released deadman, repeated")
        assert not any(ear.deadman)
        assert ear.twists == []
        assert terminal.reads_single_keys()
        idle = len(ear.deadman)
        terminal.press("w")
        ear.await_deadman(True, False, since=idle)
        assert ear.twists[-1].header.frame_id == load_contract(UR5E).frames.base
        assert {msg.twist.linear.x for msg in ear.twists} == {0.15}
        stamps_ns = [reading.from_stamp(msg.header.stamp) for msg in ear.twists]
        assert stamps_ns[-1] - stamps_ns[0] <= 0.3 * NS_PER_S
        assert terminal.shows("0.15 m/s")


def test_the_gripper_is_told_in_its_own_pulse_alone(env: dict[str, str]) -> None:
    with Probe(env) as probe, Terminal(env) as terminal:
        ear = Ear(probe)
        ear.await_deadman(False)
        idle = len(ear.deadman)
        terminal.press("g")
        ear.await_deadman(True, False, since=idle)
        assert {tuple(msg.position) for msg in ear.grippers} == {(0.0,)}
        assert {msg.twist.linear.x for msg in ear.twists} == {0.0}
        stamps_ns = [reading.from_stamp(msg.header.stamp) for msg in ear.grippers]
        # This contract's gripper takes 0.5 s for its range.
        assert 0.4 * NS_PER_S < stamps_ns[-1] - stamps_ns[0] <= 0.6 * NS_PER_S
        told = len(ear.grippers)
        idle = len(ear.deadman)
        terminal.press("w")
        ear.await_deadman(True, False, since=idle)
        assert len(ear.grippers) == told


def test_last_words_arrive_before_the_node_ends(env: dict[str, str]) -> None:
    with Probe(env) as probe, Terminal(env) as terminal:
        ear = Ear(probe)
        ear.await_deadman(False)
        idle = len(ear.deadman)
        terminal.press("w")
        ear.await_deadman(True, since=idle)
        terminal.press("x q")
        assert terminal.wait() == 0
        wait_for(lambda: ear.stops == [True, False], 2.0, "the emergency stop")
        wait_for(lambda: not ear.deadman[-1], 2.0, "the deadman's release")
        wait_for(lambda: [msg.data for msg in ear.commands] == ["stop"], 2.0, "the policy's stop")


def test_an_interrupt_in_the_middle_of_a_pulse_does_not_let_go(env: dict[str, str]) -> None:
    with Probe(env) as probe, Terminal(env) as terminal:
        ear = Ear(probe)
        ear.await_deadman(False)
        idle = len(ear.deadman)
        terminal.press("w")
        ear.await_deadman(True, since=idle)
        terminal.press("\x03")
        assert terminal.wait() == 0
        wait_for(lambda: not probe.node.count_publishers("teleop/deadman"), what="teleop is gone")
        assert ear.deadman[-1]


@pytest.mark.parametrize("how", ["q", "\x03", signal.SIGTERM])
def test_every_end_puts_the_terminal_back(env: dict[str, str], how: str | signal.Signals) -> None:
    with Terminal(env) as terminal:
        wait_for(lambda: terminal.shows("guard not heard yet"), what="teleop's start")
        assert terminal.reads_single_keys()
        if isinstance(how, str):
            terminal.press(how)
        else:
            terminal.signal(how)
        assert terminal.wait() == 0
        assert not terminal.reads_single_keys()
        assert not terminal.shows("Traceback")


def test_without_a_terminal_the_keyboard_is_refused_in_one_line(env: dict[str, str]) -> None:
    with spawn_node("teleop_node", env, {"contract": SAWYER}) as teleop:
        assert teleop.wait() == 2
        (line,) = teleop.output().splitlines()
        assert line.startswith("error: keyboard teleop needs a terminal")
