"""The whole loop in processes of its own: simulated robot, relay, guard, policy, and a probe that hears everything.

The policy draws circles in free space at 0.3 m/s for ever, so that every stop is a stop of something.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import relay
from geometry_msgs.msg import TwistStamped
from helpers import Probe, Process, own_domain, spawn_node, wait_for
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from records import Records
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from sweeping_policy import SPEED_M_S, distance_to_circle

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.ros import messages
from vla_ros.ros.inputs import NEWEST, OFFERED
from vla_ros.types import NS_PER_S, Twist

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "config" / "sawyer_sim.yaml"
PLUGINS = ROOT / "test" / "plugins"
NO_SHARED_MEMORY = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "test" / "ros" / "loopback_udp.xml"),
}
"""Read why in that file. The probe keeps its own, which it can share with nobody."""
SENTENCE = "go round and round"
AT_CRUISE = 0.95
"""What part of its speed the commanded motion has at least while it goes round."""
STOP, CONTINUE, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL


class Rig:
    """Processes by name: sim, relay, guard, policy, and teleop where a test wants one."""

    def __init__(self, env: Mapping[str, str], contract: Path, fault_file: Path, stack: ExitStack) -> None:
        self.contract: Contract = load_contract(contract)
        self._contract_file = contract
        self.env = {**env, **NO_SHARED_MEMORY, "PYTHONPATH": str(PLUGINS)}
        self.env_without_learning = {**self.env, "PYTHONPATH": f"{PLUGINS / 'without_learning'}:{PLUGINS}"}
        self._fault_file = fault_file
        self._stack = stack
        self._processes: dict[str, Process] = {}
        self.probe = stack.enter_context(Probe(env))
        self.records = Records(self.probe)
        node = self.probe.node
        self._command = node.create_publisher(String, "command", OFFERED)
        self._deadman = node.create_publisher(Bool, "teleop/deadman", NEWEST)
        self._teleop_twist = node.create_publisher(TwistStamped, "teleop/target_twist", NEWEST)
        self._human: Twist | None = None
        self._human_lock = threading.Lock()
        node.create_timer(0.025, self._be_human)
        for name in ("sim", "relay", "guard", "policy"):
            self.start(name)

    def start(self, name: str, *arguments: str) -> None:
        """Start a process; it takes the place of an earlier one of that name. arguments: for teleop."""
        contract = {"contract": str(self._contract_file)}
        if name == "sim":
            process = spawn_node("sim_node", self.env, {**contract, "task": "reach-v3"}, relay.REMAPPINGS)
        elif name == "relay":
            process = Process([sys.executable, relay.__file__], self.env)
        elif name == "teleop":
            process = Process([sys.executable, str(PLUGINS / "scripted_teleop.py"), *arguments], self.env)
        elif name == "guard":
            process = spawn_node("guard_node", self.env_without_learning, {**contract, "use_sim_time": True})
        else:
            options = ["motion=sweep", f"file={self._fault_file}"]
            policy = {"policy": "faulty_policy:create", "policy_options": options, "autostart": True}
            process = spawn_node("policy_node", self.env_without_learning, {**contract, "use_sim_time": True, **policy})
        self._processes[name] = self._stack.enter_context(process)

    def pid(self, name: str) -> int:
        """Process id of a process by its name, or of the policy's `worker`."""
        if name != "worker":
            return self._processes[name].pid
        return int(re.findall(r"loaded in process (\d+)", self.output("policy"))[-1])

    def output(self, name: str) -> str:
        """What it has printed."""
        return self._processes[name].output()

    def signal(self, name: str, number: int) -> int:
        """Send a signal; returns the steady instant just before."""
        instant_ns = time.monotonic_ns()
        os.kill(self.pid(name), number)
        return instant_ns

    def spoil(self, topic_and_kind: str) -> int:
        """Let the relay spoil a topic, such as "ee_pose drop"; "" ends it. Returns the steady instant just before."""
        instant_ns = time.monotonic_ns()
        self.set_parameter("relay", "fault", topic_and_kind)
        return instant_ns

    def set_parameter(self, node: str, name: str, text: str) -> None:
        """A parameter of a node that takes text."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        assert self.probe.call(SetParameters, f"{node}/set_parameters", request).results[0].successful

    def mislead(self, fault: str) -> int:
        """Let the policy misbehave, by a name of faulty_policy.FAULTS or "hang". Returns the instant just before."""
        instant_ns = time.monotonic_ns()
        draft = self._fault_file.with_suffix(".new")
        draft.write_text(fault)
        draft.replace(self._fault_file)
        return instant_ns

    def say(self, sentence: str) -> int:
        """Give an instruction. Returns the steady instant just before."""
        wait_for(lambda: self._command.get_subscription_count() >= 2, what="guard and policy hear commands")
        instant_ns = time.monotonic_ns()
        self._command.publish(String(data=sentence))
        return instant_ns

    def arm(self) -> Any:
        """One attempt; the answer says why it was refused."""
        return self.probe.call(SetBool, "guard/arm", SetBool.Request(data=True))

    def reset(self) -> Any:
        """Release the latch."""
        return self.probe.call(Trigger, "guard/reset", Trigger.Request())

    def reconfigure_policy(self) -> None:
        """What an operator does after the worker died."""
        steps = ("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE")
        for step in steps:
            request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{step}")))
            assert self.probe.call(ChangeState, "policy/change_state", request, 60.0).success, step

    def take_over(self, linear: tuple[float, float, float]) -> int:
        """Hold the deadman and move at [m/s] until told otherwise. Returns the steady instant just before."""
        instant_ns = time.monotonic_ns()
        self._human = Twist(np.array(linear), np.zeros(3))
        self._be_human()
        return instant_ns

    def hand_back(self) -> int:
        """Let go of the deadman. Returns the steady instant just before."""
        with self._human_lock:
            self._human = None
            instant_ns = time.monotonic_ns()
            self._deadman.publish(Bool(data=False))
        return instant_ns

    def _be_human(self) -> None:
        with self._human_lock:
            if self._human is not None:
                stamp_ns = self.records.ros_ns(time.monotonic_ns())
                base = self.contract.frames.base
                self._teleop_twist.publish(messages.to_twist_stamped(self._human, stamp_ns, base))
                self._deadman.publish(Bool(data=True))

    def get_going(self) -> None:
        """Whatever happened before: all alive, no fault, armed, told to, and going round at full speed."""
        self._mend()
        self.mislead("")
        self.spoil("")
        self.reset()
        wait_for(lambda: self.arm().success, what="the guard arms")
        self.say(SENTENCE)
        self.await_motion()

    def _mend(self) -> None:
        """What a failed test may have left behind."""
        self.stop("teleop")
        self.hand_back()
        for name, process in list(self._processes.items()):
            if process.running():
                process.signal(CONTINUE)
            else:
                self.start(name)
        if is_alive(self.pid("worker")):
            self.signal("worker", CONTINUE)
        else:
            self._processes["policy"].signal(KILL)
            self.start("policy")

    def stop(self, name: str) -> None:
        """End a process that the loop does not need, if it runs."""
        process = self._processes.pop(name, None)
        if process is not None and process.running():
            process.signal(KILL)
            process.wait()

    def await_motion(self, timeout_s: float = 30.0) -> None:
        """Until it goes round, at speed."""
        try:
            wait_for(self._is_going_round, timeout_s, "going round")
        except AssertionError as error:
            words = [self.records.newest("guard/status"), self.records.newest("policy/status")]
            raise AssertionError(f"{error}; last words: {words}") from None

    def _is_going_round(self) -> bool:
        ticks = self.records.last("guard/trace", 0.3)
        place = self.records.newest("sim/commanded_pose")
        if len(ticks) < 12 or place is None or any(tick.value["text"] != "policy in command" for tick in ticks):
            return False
        speeds = [float(np.linalg.norm(tick.value["command"]["linear"])) for tick in ticks]
        return distance_to_circle(place) < 0.03 and min(speeds) > 0.0 and min(speeds[-3:]) > AT_CRUISE * SPEED_M_S

    def rests(self, for_s: float) -> bool:
        """Whether nothing is commanded for a while from now on: a wait that ends early if something is."""
        from_ns = time.monotonic_ns()
        end_ns = from_ns + round(for_s * NS_PER_S)

        def moved() -> bool:
            return any(entry.value != 0.0 for entry in self.records.since("target_twist", from_ns))

        wait_for(lambda: moved() or time.monotonic_ns() > end_ns, for_s + 5.0)
        return not moved()

    def realtime_factor(self, from_ns: int) -> float:
        """Simulated seconds per second since a steady instant."""
        now_ns = time.monotonic_ns()
        return (self.records.ros_ns(now_ns) - self.records.ros_ns(from_ns)) / (now_ns - from_ns)


@contextmanager
def running_rig(contract: Path = CONTRACT) -> Iterator[Rig]:
    """The loop, going round."""
    with own_domain() as env, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fault_file = Path(folder) / "fault"
        fault_file.write_text("")
        rig = Rig(env, contract, fault_file, stack)
        wait_for(lambda: rig.records.newest("policy/status"), 90.0, "the policy node is active")
        rig.get_going()
        yield rig


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def peak_mb(pid: int) -> float:
    """The most resident memory that a process ever had."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) / 1000.0
