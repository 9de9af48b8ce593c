"""The guard as a process with a robot of its own: how it ends, and what it answers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from helpers import Probe, Process, own_domain, spawn_node, wait_for
from obedient_robot import ObedientRobot
from rig import CONTRACT
from std_srvs.srv import SetBool, Trigger

from vla_ros.types import NS_PER_S

SPEED_M_S = 0.4


@pytest.fixture
def guard_and_robot() -> Iterator[tuple[Process, ObedientRobot]]:
    with (
        own_domain() as env,
        spawn_node("guard_node", env, {"contract": CONTRACT}) as guard,
        Probe(env) as probe,
    ):
        yield guard, ObedientRobot(probe, CONTRACT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_guard_that_is_told_to_end_brings_the_robot_to_rest_first(
    guard_and_robot: tuple[Process, ObedientRobot], number: signal.Signals
) -> None:
    guard, robot = guard_and_robot
    robot.push(SPEED_M_S)
    began_ns = time.monotonic_ns()
    sent = robot.end(guard, number)
    speeds = [float(np.linalg.norm(entry.value)) for entry in sent]
    assert speeds[-1] == 0.0, f"the last command was to move at {speeds[-1]} m/s"
    limits, period_s = robot.contract.limits, 1.0 / robot.contract.rates.guard_hz
    for before, after in pairwise(sent):
        elapsed_s = (after.stamp_ns - before.stamp_ns) / NS_PER_S
        change = float(np.linalg.norm(after.value - before.value))
        # A tick's stamp is read before its steady instant: the two differ by what lies between.
        assert change <= limits.max_linear_acceleration_m_s2 * (elapsed_s + 0.1 * period_s)
    assert len([speed for speed in speeds if 0.0 < speed < SPEED_M_S]) > 2, "it braked"
    assert (sent[-1].received_ns - began_ns) / NS_PER_S < robot.contract.stop_time_s + 0.5
    assert "Traceback" not in guard.output()


def test_a_guard_at_rest_ends_at_once(guard_and_robot: tuple[Process, ObedientRobot]) -> None:
    guard, robot = guard_and_robot
    wait_for(lambda: robot.arm().success, what="the guard arms")
    assert guard.stop(5.0) == 0
    assert not any(entry.value.any() for entry in robot.commands)


def test_arming_is_answered_by_what_was_decided(guard_and_robot: tuple[Process, ObedientRobot]) -> None:
    """An emergency stop that is heard just before is in the same tick as the request."""
    guard, robot = guard_and_robot
    wait_for(lambda: robot.arm().success and robot.arm(False).success, what="the guard arms")
    refused = (False, "not armed: latched by emergency stop: reset first")
    # Which of the two DDS hands over first is not ours to say: tried until the emergency stop is.
    for _ in range(20):
        answer = armed_beside_an_emergency_stop(guard, robot)
        if answer == refused:
            break
        assert answer == (True, "armed"), "the request came first"
    assert answer == refused
    assert robot.arm(False).message == "latched by emergency stop"
    assert not robot.probe.call(Trigger, "guard/reset", Trigger.Request()).success
    release(robot)
    answer = robot.probe.call(Trigger, "guard/reset", Trigger.Request())
    assert (answer.success, answer.message) == (True, "nothing was latched")


def armed_beside_an_emergency_stop(guard: Process, robot: ObedientRobot) -> tuple[bool, str]:
    """What arming is answered where the emergency stop was pressed while the guard slept; the guard is latched then."""
    release(robot)
    client = robot.probe.node.create_client(SetBool, "guard/arm")
    wait_for(client.service_is_ready, what="the service")
    guard.signal(signal.SIGSTOP)
    robot.press(True)
    time.sleep(0.02)  # it is sent first
    answer = client.call_async(SetBool.Request(data=True))
    time.sleep(0.05)
    guard.signal(signal.SIGCONT)
    wait_for(answer.done, what="the answer")
    wait_for(lambda: robot.arm(False).message == "latched by emergency stop", what="the latch")
    return answer.result().success, answer.result().message


def release(robot: ObedientRobot) -> None:
    """Let go of the emergency stop, and of the latch."""
    robot.press(False)
    wait_for(lambda: robot.probe.call(Trigger, "guard/reset", Trigger.Request()).success, what="a reset")
