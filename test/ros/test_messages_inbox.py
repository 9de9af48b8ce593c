"""The table of inputs, and the inbox: what is stored, in which order, how old, and what becomes of the unreadable."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from helpers import Process, own_domain
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_profile_sensor_data,
)
from rclpy.signals import SignalHandlerOptions

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.errors import ContractError
from vla_ros.ros import messages
from vla_ros.ros.inbox import WARN_EVERY_S, Inbox, steady_reception, subscribe
from vla_ros.ros.inputs import OFFERED, InputSpec, guard_inputs, policy_inputs
from vla_ros.types import Needs, Pose, Sample

MS = 1_000_000
LOGGER = logging.getLogger("test_inbox")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(HERE.parent.parent / "config" / "sawyer_sim.yaml")


class SteadyClock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.ns = 1_000_000 * MS

    def __call__(self) -> int:
        return self.ns


def received(age_ns: int = 0) -> dict[str, int]:
    return {"received_timestamp": time.time_ns() - age_ns}


def spec_of(specs: tuple[InputSpec, ...], channel: str) -> InputSpec:
    return next(spec for spec in specs if spec.channel == channel)


def pose_message(stamp_ns: int, frame: str = "base") -> Any:
    return messages.to_pose_stamped(Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), stamp_ns, frame)


def test_the_policy_hears_its_views_and_nothing_it_does_not_need(contract: Contract) -> None:
    plain = {spec.channel for spec in policy_inputs(contract, Needs(views=("wrist",)))}
    assert plain == {
        *(channels.camera("wrist"), channels.COMMAND, channels.EE_POSE, channels.EE_TWIST),
        *(channels.JOINT_STATES, channels.COMMANDED_POSE),
    }
    simulated = {spec.channel for spec in policy_inputs(contract, Needs(views=("wrist",)), simulated=True)}
    assert simulated == plain | {channels.SIM_RESET}
    oracle = {spec.channel for spec in policy_inputs(contract, Needs(views=(), privileged=True))}
    assert oracle == (plain - {channels.camera("wrist")}) | {channels.PRIVILEGED}


def test_a_view_that_the_contract_lacks_is_refused_by_naming_the_choices(contract: Contract) -> None:
    with pytest.raises(ContractError, match=r"'wirst'.*front, wrist, top"):
        policy_inputs(contract, Needs(views=("front", "wirst")))


def test_the_guard_hears_commands_feedback_and_stops_but_no_camera(contract: Contract) -> None:
    heard = {spec.channel for spec in guard_inputs(contract)}
    assert not any(channel.startswith("camera/") for channel in heard)
    assert {channels.EMERGENCY_STOP, channels.TELEOP_DEADMAN, channels.COMMAND, channels.EE_POSE} <= heard


def test_subscriptions_connect_to_the_publishers_they_are_meant_for(contract: Contract) -> None:
    specs = {spec.channel: spec for spec in policy_inputs(contract, Needs(("front",), True)) + guard_inputs(contract)}
    said_once = {channels.COMMAND, channels.TELEOP_GRIPPER, channels.EMERGENCY_STOP, channels.SIM_RESET}
    for spec in specs.values():
        assert qos_check_compatible(OFFERED, spec.qos)[0] == QoSCompatibility.OK
        hears_best_effort = qos_check_compatible(qos_profile_sensor_data, spec.qos)[0] != QoSCompatibility.ERROR
        assert hears_best_effort == (spec.channel not in said_once)


def test_samples_come_decoded_and_in_order_of_reception(contract: Contract) -> None:
    inbox = Inbox(LOGGER)
    specs = guard_inputs(contract)
    hear_pose = inbox.listen(spec_of(specs, channels.EE_POSE))
    hear_command = inbox.listen(spec_of(specs, channels.COMMAND))
    now_ns = time.monotonic_ns()
    hear_pose(pose_message(5), received(20 * MS))
    hear_command(messages.to_string("reach"), received(30 * MS))
    inbox.put(Sample(channels.RESET, None, None, now_ns - 25 * MS))
    samples = inbox.drain()
    assert [sample.channel for sample in samples] == [channels.COMMAND, channels.RESET, channels.EE_POSE]
    assert [sample.stamp_ns for sample in samples] == [None, None, 5]
    assert samples[0].value == "reach" and isinstance(samples[2].value, Pose)
    assert samples[2].received_ns == pytest.approx(now_ns - 20 * MS, abs=5 * MS)
    assert inbox.drain() == ()


def test_a_paused_tick_does_not_fill_the_memory(contract: Contract) -> None:
    inbox = Inbox(LOGGER)
    spec = spec_of(guard_inputs(contract), channels.EE_POSE)
    hear = inbox.listen(spec)
    for stamp in range(10 * spec.keep):
        hear(pose_message(stamp), received())
        inbox.put(Sample(channels.WORKER, stamp, None, stamp))
    samples = inbox.drain()
    assert [s.stamp_ns for s in samples if s.channel == channels.EE_POSE] == list(range(9 * spec.keep, 10 * spec.keep))
    assert len(samples) < 3 * spec.keep


def test_a_step_of_the_system_clock_swaps_no_samples_of_one_channel(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteadyClock()
    inbox = Inbox(LOGGER, clock)
    hear_word = inbox.listen(spec_of(guard_inputs(contract), channels.COMMAND))

    def hear(word: str, received_system_ns: int, system_ns: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: system_ns)
        hear_word(messages.to_string(word), {"received_timestamp": received_system_ns})

    hear("reach", 100_000 * MS, 100_000 * MS)
    clock.ns += 10 * MS
    hear("stop", 100_010 * MS, 103_600 * MS)  # set forward by an hour while it waited
    (first, second) = inbox.drain()
    assert [first.value, second.value] == ["reach", "stop"]
    assert first.received_ns <= second.received_ns <= clock.ns

    hear("push", 100_010 * MS, 103_600 * MS)
    (third,) = inbox.drain()
    assert second.received_ns <= third.received_ns, "nor from one tick to the next"


def test_samples_put_by_another_thread_all_arrive() -> None:
    inbox = Inbox(LOGGER)
    got: list[Sample[Any]] = []
    rooms = threading.Semaphore(50)  # no more on the way than the inbox keeps

    def put_all() -> None:
        for number in range(2000):
            rooms.acquire()
            inbox.put(Sample(channels.WORKER, number, None, number))

    putter = threading.Thread(target=put_all)
    putter.start()
    deadline = time.monotonic() + 20.0
    while len(got) < 2000 and time.monotonic() < deadline:
        drained = inbox.drain()
        got.extend(drained)
        for _ in drained:
            rooms.release()
    putter.join(1.0)
    assert [sample.value for sample in got] == list(range(2000))


def test_unreadable_messages_are_counted_and_warned_of_now_and_then(
    contract: Contract, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SteadyClock()
    inbox = Inbox(LOGGER, clock)
    hear_pose = inbox.listen(spec_of(guard_inputs(contract), channels.EE_POSE))
    wrong_frame, bad = pose_message(1, frame="camera"), pose_message(2)
    bad.pose.position.x = float("nan")

    def warnings_after(*wrong: Any) -> list[str]:
        caplog.clear()
        for msg in wrong:
            hear_pose(msg, received())
        assert inbox.drain() == ()
        return [record.getMessage() for record in caplog.records]

    first = warnings_after(wrong_frame, wrong_frame, bad, wrong_frame)
    assert len(first) == 2 and "wrong_frame" in first[0] and "not_finite" in first[1]
    clock.ns += int(WARN_EVERY_S * 1000) * MS - 1
    assert warnings_after(wrong_frame) == []
    clock.ns += 1
    (again,) = warnings_after(wrong_frame, wrong_frame)
    assert again.startswith("ee_pose: refused 5 so far (wrong_frame): the frame is 'camera'")
    assert inbox.error_counts == {"ee_pose: wrong_frame": 6, "ee_pose: not_finite": 1}


def test_one_unreadable_message_does_not_hide_the_readable(contract: Contract) -> None:
    inbox = Inbox(LOGGER)
    hear = inbox.listen(spec_of(guard_inputs(contract), channels.EE_POSE))
    for stamp, frame in ((1, "base"), (2, "camera"), (3, "base")):
        hear(pose_message(stamp, frame), received())
    assert [sample.stamp_ns for sample in inbox.drain()] == [1, 3]


def test_reception_is_converted_to_steady_time_and_never_lies_in_the_future() -> None:
    assert steady_reception(received_system_ns=700, system_ns=1000, steady_ns=50_000) == 49_700
    assert steady_reception(received_system_ns=1200, system_ns=1000, steady_ns=50_000) == 50_000
    assert steady_reception(received_system_ns=0, system_ns=10**18, steady_ns=50_000) == 50_000


PUBLISHER = """
import time
import numpy as np, rclpy
from vla_ros.control.channels import COMMANDED_POSE
from vla_ros.ros.inputs import OFFERED
from vla_ros.ros.messages import to_pose_stamped
from vla_ros.types import Pose
from geometry_msgs.msg import PoseStamped
rclpy.init()
node = rclpy.create_node("publisher")
publisher = node.create_publisher(PoseStamped, COMMANDED_POSE, OFFERED)
number = 0
while True:
    pose = Pose(np.array([float(number), 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    publisher.publish(to_pose_stamped(pose, time.time_ns(), "base"))
    number += 1
    time.sleep(0.05)
"""


@pytest.fixture
def listener() -> Iterator[tuple[Node, SingleThreadedExecutor, dict[str, str]]]:
    with own_domain() as env:
        context = Context()
        rclpy.init(context=context, domain_id=int(env["ROS_DOMAIN_ID"]), signal_handler_options=SignalHandlerOptions.NO)
        node = Node("listener", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        yield node, executor, env
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_inputs_that_may_meet_a_publisher_that_does_not_fit_are_watched_and_no_others(
    contract: Contract, listener: tuple[Node, SingleThreadedExecutor, dict[str, str]]
) -> None:
    node, _, _ = listener
    specs = guard_inputs(contract)
    made = subscribe(node, specs, Inbox(node.get_logger()))
    watched = {spec.channel for spec, subscription in zip(specs, made, strict=True) if subscription.event_handlers}
    offers = [
        QoSProfile(depth=1, reliability=reliability, durability=durability)
        for reliability in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
        for durability in (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)
    ]
    may_not_fit = {
        spec.channel
        for spec in specs
        if any(qos_check_compatible(offer, spec.qos)[0] != QoSCompatibility.OK for offer in offers)
    }
    assert watched == may_not_fit == {channels.COMMAND, channels.TELEOP_GRIPPER, channels.EMERGENCY_STOP}
    for subscription in made:
        node.destroy_subscription(subscription)


def test_receive_ages_are_right_behind_a_blocked_executor(
    contract: Contract, listener: tuple[Node, SingleThreadedExecutor, dict[str, str]]
) -> None:
    """A publisher in another process stamps with the wall clock, so that stamps tell when each message left."""
    node, executor, env = listener
    inbox = Inbox(node.get_logger())
    specs = policy_inputs(contract, Needs(views=()))
    subscribe(node, [spec_of(specs, channels.COMMANDED_POSE)], inbox)
    block_ns = 300 * MS

    def spin_until_samples() -> tuple[Sample[Any], ...]:
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
            if samples := inbox.drain():
                return samples
        raise AssertionError("nothing received")

    with Process([sys.executable, "-c", PUBLISHER], env):
        for _ in range(5):  # on a busy machine the publisher may rest just then
            spin_until_samples()
            time.sleep(block_ns / 1e9)  # nobody takes messages now; the queue fills
            unblocked_ns = time.monotonic_ns()
            samples: list[Sample[Any]] = []
            while len(samples) < 4:
                samples.extend(spin_until_samples())
            steady_minus_system = time.monotonic_ns() - time.time_ns()
            if samples[0].received_ns < unblocked_ns - block_ns // 2:
                break

    assert samples[0].received_ns < unblocked_ns - block_ns // 2
    numbers = [sample.value.position[0] for sample in samples]
    assert numbers == [numbers[0] + index for index in range(len(numbers))]
    for sample in samples:
        assert sample.stamp_ns is not None
        transport_ns = sample.received_ns - (sample.stamp_ns + steady_minus_system)
        assert -2 * MS < transport_ns < block_ns // 2
    assert inbox.error_counts == {}
