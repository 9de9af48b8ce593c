"""The robot driver's own rules, without a robot."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.driver import Driver, DriverStatus

SECOND = 1_000_000_000
HERE = np.array([0.0, 0.6, 0.2])
THERE = np.array([0.1, 0.7, 0.3])


def test_without_any_command_the_robot_holds() -> None:
    driver = Driver(timeout_s=0.25, width=3)
    assert driver.status(10 * SECOND) is DriverStatus.NEVER_COMMANDED
    assert np.array_equal(driver.obeyed(10 * SECOND, HERE), HERE)


def test_a_fresh_command_is_obeyed_and_a_stale_one_is_not() -> None:
    driver = Driver(timeout_s=0.25, width=3).receive(THERE, SECOND)
    assert np.array_equal(driver.obeyed(SECOND + SECOND // 4, HERE), THERE)
    late = SECOND + SECOND // 4 + 1
    assert driver.status(late) is DriverStatus.SILENT
    assert np.array_equal(driver.obeyed(late, HERE), HERE)


def test_commands_that_resume_are_obeyed_again() -> None:
    driver = Driver(timeout_s=0.25, width=3).receive(HERE, 0).receive(THERE, 5 * SECOND)
    assert driver.status(5 * SECOND) is DriverStatus.OBEYING


def test_what_is_not_finite_is_refused_and_refreshes_nothing() -> None:
    driver = Driver(timeout_s=0.25, width=3).receive(THERE, 0)
    for broken in (np.array([np.nan, 0.0, 0.0]), np.array([0.0, np.inf, 0.0]), np.zeros(4)):
        driver = driver.receive(broken, SECOND)
    driver = driver.receive_gripper(float("nan"))
    assert driver.refused == 4
    assert driver.gripper == 0.5
    assert driver.status(SECOND) is DriverStatus.SILENT


def test_the_gripper_keeps_its_hold_when_commands_cease() -> None:
    driver = Driver(timeout_s=0.25, width=3).receive_gripper(-3.0).receive(THERE, 0)
    assert driver.gripper == 0.0
    assert driver.status(SECOND) is DriverStatus.SILENT
    assert driver.gripper == 0.0


def test_a_command_is_copied() -> None:
    command = THERE.copy()
    driver = Driver(timeout_s=0.25, width=3).receive(command, 0)
    command[:] = 9.0
    assert np.array_equal(driver.obeyed(0, HERE), THERE)


def test_a_world_put_back_forgets_commands_but_not_counts() -> None:
    driver = Driver(timeout_s=0.25, width=3).receive(THERE, 0).receive_gripper(float("inf")).forget()
    assert driver.status(0) is DriverStatus.NEVER_COMMANDED
    assert driver.refused == 1
