"""A replay as a bag: its decisions on topics of their own, beside the recording, readable without this package."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from live_runs import ROS_NS, SYSTEM_NS, LightSeeker, LiveRun, eventful, small_contract
from mcap.reader import NonSeekingReader, make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from vla_ros.bags import PUBLISHERS_NOTE, BagReader
from vla_ros.errors import BagError
from vla_ros.replay.bag_output import (
    COMMAND_POSE,
    COMMAND_TWIST,
    GRIPPER,
    PLAN,
    POLICY_POSE,
    STATUS,
    TOPICS,
    Clock,
    clock_of,
    write_bag,
)
from vla_ros.replay.decision_log import gather
from vla_ros.replay.decisions import Decision, Replayed, in_order
from vla_ros.replay.judging.action_errors import chunks_of
from vla_ros.replay.recording import Recording
from vla_ros.replay.run import Replay, Terms
from vla_ros.types import NS_PER_S

STORE = get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eventful(LiveRun()).write(tmp_path_factory.mktemp("bags") / "lived")


@pytest.fixture(scope="module")
def replayed(bag: Path) -> Replayed:
    replay = Replay(Terms(bag, small_contract()), "light seeker", LightSeeker())
    return gather(small_contract(), {}, list(replay.decisions()), replay.outcome())


@pytest.fixture(scope="module")
def output(bag: Path, replayed: Replayed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "replayed"
    write_bag(path, in_order(replayed), small_contract(), Recording(bag), with_inputs=True)
    return path


def messages(path: Path, topic: str) -> list[tuple[int, Any]]:
    """(stamp of reception, message)"""
    with Reader(path) as reader:
        wanted = [one for one in reader.connections if one.topic == topic]
        return [(stamp, STORE.deserialize_cdr(data, one.msgtype)) for one, stamp, data in reader.messages(wanted)]


def ros_ns(message: Any) -> int:
    return int(message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec)


def test_every_decision_is_there_on_a_topic_of_its_own(output: Path, replayed: Replayed) -> None:
    commanded = [tick for tick in replayed.guard if tick.command is not None]
    poses = [message for _, message in messages(output, f"/{COMMAND_POSE}")]
    assert [ros_ns(pose) for pose in poses] == [tick.now.ros_ns for tick in commanded]
    for pose, tick in zip(poses, commanded, strict=True):
        assert (pose.pose.position.x, pose.pose.position.z) == tuple(tick.command.pose.position[[0, 2]])
        assert pose.pose.orientation.w == tick.command.pose.quaternion[3]
        assert pose.header.frame_id == small_contract().frames.base
    twists = [message.twist.linear.z for _, message in messages(output, f"/{COMMAND_TWIST}")]
    assert twists == [float(tick.command.twist.linear[2]) for tick in commanded]
    targets = [tick for tick in replayed.policy if tick.target is not None]
    assert [ros_ns(message) for _, message in messages(output, f"/{POLICY_POSE}")] == [
        tick.now.ros_ns for tick in targets
    ]
    openings = [tick.command.gripper for tick in commanded if tick.command.gripper is not None]
    to_driver = small_contract().gripper.driver_value
    assert [message.data for _, message in messages(output, f"/{GRIPPER}")] == [to_driver(one) for one in openings]


def test_plans_are_paths_stamped_row_by_row(output: Path, replayed: Replayed) -> None:
    chunks = tuple(chunks_of(replayed.policy))
    plans = [message for _, message in messages(output, f"/{PLAN}")]
    assert len(plans) == len(chunks) > 30
    for plan, chunk in zip(plans, chunks, strict=True):
        assert ros_ns(plan) == chunk.t_obs_ns and len(plan.poses) == len(chunk.rows)
        assert ros_ns(plan.poses[3]) == chunk.t_obs_ns + round(3 * chunk.dt_s * NS_PER_S)
        np.testing.assert_array_equal([plan.poses[3].pose.position.x, plan.poses[3].pose.position.y], chunk.rows[3, :2])


def test_the_guards_words_come_when_they_change_and_a_latch_is_an_error(output: Path, replayed: Replayed) -> None:
    said = [message.status[0] for _, message in messages(output, f"/{STATUS}")]
    assert 10 < len(said) < len(replayed.guard) / 2
    values = [{pair.key: pair.value for pair in one.values} for one in said]
    assert {one["source"] for one in values} == {"policy", "teleop", "nobody"}
    latched = next(index for index, one in enumerate(values) if one["mode"] == "latched")
    assert said[latched].level == 2 and "emergency stop" in said[latched].message
    assert said[0].level == 0


def test_the_recording_lies_beside_it_byte_for_byte(output: Path, bag: Path) -> None:
    contract = small_contract()
    topics = [f"/{contract.cameras['front'].topic}", "/ee_pose", "/joint_states", "/command", "/target_pose"]
    with BagReader(bag) as before, BagReader(output) as after:
        assert list(after.messages(topics)) == list(before.messages(topics))
        assert "/policy/trace" not in after.topics


def test_what_a_robot_obeys_is_noted_as_the_guards(output: Path) -> None:
    """So that nobody plays it to a robot by accident; what was replayed has names that no robot obeys."""
    with BagReader(output) as reader:
        noted = json.loads(reader.notes[PUBLISHERS_NOTE])
    assert noted == {"/target_pose": ["/guard"], "/gripper_command": ["/guard"]}
    assert not {name.rpartition("/")[2] for name in (COMMAND_POSE, COMMAND_TWIST, GRIPPER)} & {
        "target_pose",
        "target_twist",
        "gripper_command",
    }


def test_decisions_are_received_by_the_recorders_clock(output: Path) -> None:
    received, pose = messages(output, f"/{COMMAND_POSE}")[40]
    after_s = (ros_ns(pose) - ROS_NS) / NS_PER_S
    assert (received - SYSTEM_NS) / NS_PER_S == pytest.approx(7.0 + after_s, abs=0.01)
    with (output / "replayed.mcap").open("rb") as file:
        stamps = [message.log_time for *_, message in NonSeekingReader(file).iter_messages(log_time_order=False)]
    assert stamps == sorted(stamps)


def test_without_inputs_and_in_a_namespace_there_are_only_decisions(
    bag: Path, replayed: Replayed, tmp_path: Path
) -> None:
    write_bag(tmp_path / "bag", in_order(replayed), small_contract(), Recording(bag), namespace="robot1")
    with BagReader(tmp_path / "bag") as reader:
        assert {name: topic.type for name, topic in reader.topics.items()} == {
            f"/robot1/{name}": type_ for name, type_ in TOPICS.items()
        }


def test_others_read_it_by_the_definitions_in_it(output: Path) -> None:
    """As Foxglove does: no message definition but those in the file."""
    counts: Counter[str] = Counter()
    with (output / "replayed.mcap").open("rb") as file:
        for _, channel, _, decoded in make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages():
            assert decoded is not None
            counts[channel.topic] += 1
    described = yaml.safe_load((output / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    told = {entry["topic_metadata"]["name"]: entry["message_count"] for entry in described["topics_with_message_count"]}
    assert described["storage_identifier"] == "mcap" and {name: n for name, n in told.items() if n} == dict(counts)
    assert {f"/{name}" for name in TOPICS} <= set(counts)


def test_a_bag_that_is_cut_short_leaves_nothing(bag: Path, replayed: Replayed, tmp_path: Path) -> None:
    def cut_short() -> Iterator[Decision]:
        yield from in_order(replayed)[:300]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bag(tmp_path / "bag", cut_short(), small_contract(), Recording(bag), with_inputs=True)
    assert not list(tmp_path.iterdir())


def test_a_bag_is_not_written_over(output: Path, bag: Path, replayed: Replayed) -> None:
    with pytest.raises(BagError, match="exists already"):
        write_bag(output, in_order(replayed), small_contract(), Recording(bag))


def test_the_clock_goes_between_what_was_received_and_on_beyond_it() -> None:
    clock = Clock(np.array([100, 200, 300]), np.array([1100, 1240, 1300]))
    assert [clock.received(stamp) for stamp in (100, 150, 200, 250)] == [1100, 1170, 1240, 1270]
    assert clock.received(90) == 1090 and clock.received(320) == 1320
    assert Clock(np.zeros(0, np.int64), np.zeros(0, np.int64)).received(7) == 7


def test_the_clock_of_a_bag_is_that_of_its_measured_poses(bag: Path, replayed: Replayed) -> None:
    clock = clock_of(Recording(bag), small_contract(), "")
    with BagReader(bag) as reader:
        assert [message.stamp_ns for message in reader.messages(["/ee_pose"])] == sorted(clock.received_ns.tolist())
    assert (np.diff(clock.stamps_ns) > 0).all()
