"""A required emergency stop of a moving robot: pressed, and fallen silent. Only reset and arm lead out of both."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from faults import Bound, Table, expect_stop
from helpers import own_domain, wait_for
from rig import CONTRACT, Rig
from std_msgs.msg import Bool

from vla_ros.ros.inputs import LATCHING

GUARD = "guard/status"
PERIOD_S = 0.1


class Button:
    """Says all the time whether it is pressed, until it is muted."""

    def __init__(self, rig: Rig) -> None:
        self._lock = threading.Lock()
        self._pressed: bool | None = False
        node = rig.probe.node
        self._publisher = node.create_publisher(Bool, rig.contract.emergency_stop.topic, LATCHING)
        node.create_timer(PERIOD_S, self._say)

    def set(self, pressed: bool | None) -> int:
        """None mutes it. Returns the steady instant just before."""
        with self._lock:
            instant_ns = time.monotonic_ns()
            self._pressed = pressed
        self._say()
        return instant_ns

    def _say(self) -> None:
        with self._lock:
            if self._pressed is not None:
                self._publisher.publish(Bool(data=self._pressed))


@pytest.fixture(scope="module")
def module() -> Iterator[tuple[Rig, Button, Table]]:
    mapping = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    mapping["emergency_stop"]["required"] = True
    with own_domain() as env, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        contract, fault_file = Path(folder) / "contract.yaml", Path(folder) / "fault"
        contract.write_text(yaml.safe_dump(mapping), encoding="utf-8")
        fault_file.write_text("")
        rig, table = Rig(env, contract, fault_file, stack), Table()
        button = Button(rig)
        wait_for(lambda: rig.records.newest("policy/status"), 90.0, "the policy node is active")
        yield rig, button, table
        table.write()
        print("\n" + "\n".join(table.lines()))


@pytest.fixture
def rig(module: tuple[Rig, Button, Table]) -> Rig:
    rig, button, _ = module
    button.set(False)
    rig.get_going()
    return rig


@pytest.fixture
def button(module: tuple[Rig, Button, Table]) -> Button:
    return module[1]


@pytest.fixture
def table(module: tuple[Rig, Button, Table]) -> Table:
    return module[2]


def test_pressed(rig: Rig, button: Button, table: Table) -> None:
    fault_ns = button.set(True)
    one_tick = Bound(1.0 / rig.contract.rates.guard_hz)
    table.add(expect_stop(rig, "emergency stop pressed", fault_ns, one_tick, (GUARD, "(emergency stop)")))
    assert rig.arm().message == "not armed: latched by emergency stop: reset first"
    assert rig.reset().message == "not reset: emergency stop is still on"
    button.set(False)
    expect_only_reset_and_arm_to_lead_out(rig)


def test_silent(rig: Rig, button: Button, table: Table) -> None:
    fault_ns = button.set(None)
    bound = Bound(rig.contract.emergency_stop.silence_s)
    table.add(expect_stop(rig, "emergency stop silent", fault_ns, bound, (GUARD, "(emergency stop not heard for")))
    assert "latched" in rig.arm().message
    assert rig.reset().message.startswith("not reset: emergency stop not heard")
    button.set(False)
    expect_only_reset_and_arm_to_lead_out(rig)


def expect_only_reset_and_arm_to_lead_out(rig: Rig) -> None:
    assert rig.rests(0.5), "its end alone moves nothing"
    assert "latched" in rig.arm().message
    wait_for(lambda: rig.reset().success, what="a reset")
    assert rig.rests(0.5), "nor does a reset"
    assert rig.arm().success
    rig.await_motion()
