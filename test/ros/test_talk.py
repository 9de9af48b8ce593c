"""say, arm, disarm, reset, status, wait, restart: real commands against a real guard and policy, in a namespace."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from helpers import Probe, Process, own_domain, spawn_node, wait_for
from std_msgs.msg import Bool

from vla_ros import supervise
from vla_ros.contract_file import load_contract
from vla_ros.errors import VlaRosError
from vla_ros.interface import reading
from vla_ros.ros import messages
from vla_ros.ros.inputs import LATCHING, NEWEST, OFFERED
from vla_ros.ros.talk import Graph, Heard
from vla_ros.types import Pose

CONTRACT = Path(__file__).parents[2] / "config" / "sawyer_sim.yaml"
NAMESPACE = "arm1"
TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


def command(env: Mapping[str, str], *words: str) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", *words], env=env, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


class Robot:
    """Guard and policy as processes, and a probe that is the robot: it stands still and says where."""

    def __init__(self, env: Mapping[str, str], guard: Process, policy: Process, probe: Probe) -> None:
        self.env, self.guard, self.policy, self.probe = env, guard, policy, probe
        self._pose = probe.node.create_publisher(PoseStamped, "ee_pose", OFFERED)
        self._stop = probe.node.create_publisher(Bool, "emergency_stop", LATCHING)
        self._frame = load_contract(CONTRACT).frames.base
        self.policy_statuses = probe.collect(DiagnosticArray, "policy/status", NEWEST)

    def command(self, *words: str) -> Said:
        """Options of `words` come before these."""
        name, *rest = words
        return command(self.env, name, "--timeout", "30", *rest, "--namespace", NAMESPACE)

    def appear(self) -> None:
        """Begin to say where it is, for ever."""
        pose = Pose(np.array([0.0, 0.6, 0.2]), np.array([0.0, 0.0, 0.0, 1.0]))

        def publish() -> None:
            stamp_ns = self.probe.node.get_clock().now().nanoseconds
            self._pose.publish(messages.to_pose_stamped(pose, stamp_ns, self._frame))

        self.probe.node.create_timer(0.02, publish)

    def emergency_stop(self, pressed: bool) -> None:
        wait_for(lambda: self._stop.get_subscription_count() == 1, what="the guard listens to the emergency stop")
        self._stop.publish(Bool(data=pressed))


@pytest.fixture
def robot() -> Iterator[Robot]:
    where = ("-r", f"__ns:=/{NAMESPACE}")
    parameters = {"contract": str(CONTRACT)}
    with (
        own_domain() as env,
        spawn_node("guard_node", env, parameters, where) as guard,
        spawn_node("policy_node", env, {**parameters, "autostart": True}, where) as policy,
        Probe(env, namespace=NAMESPACE) as probe,
    ):
        yield Robot(env, guard, policy, probe)


@pytest.mark.parametrize("words", [("arm",), ("say", "push the puck"), ("status",), ("wait",), ("restart",)])
def test_nobody_there_is_one_sentence_that_says_where_it_looked(words: tuple[str, ...]) -> None:
    with own_domain() as env:
        said = command(env, *words, "--timeout", "0.3", "--namespace", NAMESPACE)
    assert said.status == 2
    assert len(said.err.splitlines()) == 1
    assert f"ROS domain {env['ROS_DOMAIN_ID']} (LOCALHOST), namespace /{NAMESPACE}" in said.err


def test_whoever_waits_on_a_graph_listens_to_its_processes_and_notices_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_path = tmp_path / "nodes.log"
    flood = "for _ in range(300): print('x' * 1000)\nraise SystemExit(3)"  # more than a pipe holds
    with own_domain() as env:
        monkeypatch.setenv("ROS_DOMAIN_ID", env["ROS_DOMAIN_ID"])
        with (
            pytest.raises(VlaRosError, match=rf"talker ended with exit status 3; .* is in {log_path}"),
            supervise.running([supervise.Process("talker", (sys.executable, "-c", flood))], log_path) as supervisor,
            Graph(NAMESPACE, TIMEOUT_S, supervisor.require_alive) as graph,
        ):
            graph.wait_until_up()
    assert log_path.read_text() == f"[talker] {'x' * 1000}\n" * 300


def test_arming_and_latching_are_told_in_the_guards_own_words(robot: Robot) -> None:
    said = robot.command("arm")
    assert said.status == 1
    assert said.out.startswith("not armed: ")

    robot.appear()
    assert robot.command("arm", "--wait", "20") == Said(0, "armed\n", "")
    assert robot.command("disarm") == Said(0, "disarmed\n", "")

    robot.emergency_stop(True)
    said = robot.command("reset")
    assert said.status == 1
    assert said.out.startswith("not reset: ")
    robot.emergency_stop(False)
    assert robot.command("reset") == Said(0, "reset; still disarmed\n", "")


def test_status_is_a_table_of_guard_and_policy(robot: Robot) -> None:
    assert robot.command("wait").status == 0
    said = robot.command("status")
    assert said.status == 0
    assert [line.split()[0] for line in said.out.splitlines() if line[0] != " "] == ["guard", "policy"]
    assert any(line.split() == ["mode", "disarmed"] for line in said.out.splitlines())


def test_say_reaches_both_and_says_who_is_missing(robot: Robot) -> None:
    assert robot.command("wait").status == 0
    wait_for(lambda: robot.policy_statuses, what="the policy's status")
    assert robot.command("say", "push the puck") == Said(0, "heard by guard and policy\n", "")
    count = len(robot.policy_statuses)
    wait_for(lambda: len(robot.policy_statuses) > count, what="the policy's next status")
    before, *_, after = [reading.from_diagnostics(msg)[0].message for msg in robot.policy_statuses]
    assert "no instruction yet" in before
    assert "instruction" not in after

    robot.policy.stop()
    assert robot.command("say", "push it more", "--timeout", "5") == Said(
        1, "heard by guard\n", "but policy is not there\n"
    )
    assert robot.command("say", " Stop ").status == 0, "a stop needs the guard alone"


def test_a_stop_succeeds_by_the_guard_alone_and_names_a_policy_that_hangs(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot.appear()
    assert robot.command("wait").status == 0
    assert robot.command("arm", "--wait", "20").status == 0
    monkeypatch.setenv("ROS_DOMAIN_ID", robot.env["ROS_DOMAIN_ID"])
    statuses = robot.probe.collect(DiagnosticArray, "guard/status", NEWEST)
    with Graph(NAMESPACE, TIMEOUT_S / 3) as graph:
        assert graph.say("push the puck") == Heard(("guard", "policy"))
        robot.policy.signal(signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            assert graph.say("stop") == Heard(("guard",), ("policy",))
            assert time.monotonic() - began_s < 5.0
            wait_for(
                lambda: reading.from_diagnostics(statuses[-1])[0].message == "nobody in command: told to stop",
                what="the guard, armed, was told to stop",
            )
            assert robot.command("say", "stop").status == 0
        finally:
            robot.policy.signal(signal.SIGCONT)


def test_restart_loads_a_policy_anew_whose_worker_died(robot: Robot) -> None:
    assert robot.command("wait").status == 0
    (worker,) = psutil.Process(robot.policy.pid).children()
    worker.send_signal(signal.SIGKILL)
    worker.wait(TIMEOUT_S)
    said = robot.command("restart")
    assert said.status == 0, said
    assert [line.removesuffix(" ...") for line in said.out.splitlines()[:-1]] == [
        "deactivate",
        "cleanup",
        "configure",
        "activate",
    ]
    (other,) = psutil.Process(robot.policy.pid).children()
    assert other.pid != worker.pid
