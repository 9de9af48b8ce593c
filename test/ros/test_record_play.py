"""What is recorded comes back byte for byte, in order, at its pace; and a recording is never half a bag."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from helpers import Probe, Process, own_domain, spawn_node, wait_for
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool

from vla_ros.bag_types import define, define_from_text
from vla_ros.bags import PUBLISHERS_NOTE, BagReader, BagWriter, Message, Qos, recover
from vla_ros.ros.playback import Playhead

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
START_NS = 1_700_000_000 * 10**9


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with own_domain() as environment:
        yield environment


def write_bag(path: Path, words: list[tuple[str, float, str]], **publishers: str) -> Path:
    """A bag of String messages. words: (topic, seconds from the start, text)."""
    writer = BagWriter(path)
    for topic in dict.fromkeys(topic for topic, _, _ in words):
        writer.add_topic(topic, define("std_msgs/msg/String"), [Qos(True, False, 0)])
    for topic, at_s, text in words:
        writer.write(Message(topic, START_NS + round(at_s * 1e9), serialize_message(String(data=text))))
    if publishers:
        entries = ", ".join(f'"/{topic}": ["{node}"]' for topic, node in publishers.items())
        writer.note(PUBLISHERS_NOTE, "{" + entries + "}")
    writer.close()
    return path


@dataclass
class Arrival:
    """A message as the test received it."""

    text: str
    at_s: float


def listen(probe: Probe, topic: str = "/said") -> list[Arrival]:
    arrivals: list[Arrival] = []

    def hear(word: Any) -> None:
        arrivals.append(Arrival(word.data, time.monotonic()))

    probe.node.create_subscription(String, topic, hear, 1000)
    return arrivals


def resume(probe: Probe, paused: bool = False) -> str:
    return str(probe.call(SetBool, "play/pause", SetBool.Request(data=paused)).message)


def wait_subscribed(record: Process, *publishers: Publisher) -> None:
    what = "the recorder's subscriptions"
    wait_for(lambda: all(one.get_subscription_count() for one in publishers) or not record.running(), what=what)


def wait_flushed(output: Path, *words: str) -> None:
    """Wait until the recording to `output` has these words on disk."""
    part = output.with_name(output.name + ".part") / output.name / f"{output.name}.mcap"
    wait_for(lambda: all(word.encode() in part.read_bytes() for word in words), what=f"{words} on disk")


def image(number: int) -> Image:
    header = Header(frame_id=f"image {number}")
    return Image(header=header, height=2, width=2, encoding="rgb8", step=6, data=bytes([number] * 12))


def pose(number: int) -> PoseStamped:
    return PoseStamped(header=Header(stamp=Time(sec=number), frame_id=f"pose {number}"))


KINDS = {
    "/camera/front/image_raw": (Image, qos_profile_sensor_data),
    "/ee_pose": (PoseStamped, QoSProfile(depth=100)),
    "/command": (String, LATCHED),
}


def collect_raw(probe: Probe) -> dict[str, list[bytes]]:
    return {topic: probe.collect(kind, topic, qos, raw=True) for topic, (kind, qos) in KINDS.items()}


def counts(received: dict[str, list[bytes]]) -> list[int]:
    return [len(messages) for messages in received.values()]


def test_recorded_from_one_process_played_by_another_equal_byte_for_byte(env: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "bag"
    with Probe(env) as probe, spawn_node("record_node", env, {"output": output}) as record:
        publishers = [probe.node.create_publisher(kind, topic, qos) for topic, (kind, qos) in KINDS.items()]
        images, poses, command = publishers
        command.publish(String(data="said before anyone listened"))
        wait_subscribed(record, *publishers)
        # As they are on the wire: the padding of a message is whatever was in memory when it was published.
        sent = collect_raw(probe)
        diagnoses = probe.collect(DiagnosticArray, "/diagnostics")
        wait_for(lambda: all(one.get_subscription_count() == 2 for one in publishers), what="both readers")
        for number in range(20):
            images.publish(image(number))
            poses.publish(pose(number))
            time.sleep(0.01)  # pace, not synchronisation: a burst may be lost on a sensor topic
        wait_for(lambda: counts(sent) == [20, 20, 1], what="all messages sent")
        wait_flushed(output, "image 19", "pose 19", "before anyone listened")
        wait_for(lambda: any("recording: " in one.status[0].message for one in diagnoses), what="diagnostics")
        assert record.stop() == 0
        assert "Traceback" not in record.output()

    with BagReader(output) as bag:
        stored = list(bag.messages())
        for topic, messages in sent.items():
            assert [message.data for message in stored if message.topic == topic] == messages
        assert [message.stamp_ns for message in stored] == sorted(message.stamp_ns for message in stored)
        assert abs(bag.start_ns - time.time_ns()) < 60e9
        assert not bag.topics["/camera/front/image_raw"].offered[0].reliable
        assert bag.topics["/command"].offered[0].transient_local
        assert "/rosout" not in bag.topics

    with Probe(env) as probe, spawn_node("play_node", env, {"bag": output, "start_paused": True}) as play:
        again = collect_raw(probe)
        wait_for(lambda: all(probe.node.count_publishers(topic) for topic in again), what="the player's topics")
        resume(probe)
        assert play.wait() == 0
        wait_for(lambda: counts(again) == [20, 20, 1], what="all messages again")
        assert again == sent


WITHOUT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rosbags", "mcap"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from vla_ros.commands import nodes
sys.exit(getattr(nodes, sys.argv.pop(1))())
"""


@pytest.mark.parametrize("node", ["record_node", "play_node"])
def test_without_what_bags_need_it_is_one_line_that_says_what_to_install(env: dict[str, str], node: str) -> None:
    with Process([sys.executable, "-c", WITHOUT, node], env) as process:
        assert process.wait() == 2
        (line,) = process.output().splitlines()
        assert line.startswith("error: bags need rosbags and mcap: pip install rosbags mcap")


def test_a_recording_opens_with_the_mcap_readers(env: dict[str, str], tmp_path: Path) -> None:
    with Probe(env) as probe, spawn_node("record_node", env, {"output": tmp_path / "bag"}) as record:
        publisher = probe.node.create_publisher(String, "said", 10)
        wait_subscribed(record, publisher)
        publisher.publish(String(data="hello"))
        wait_flushed(tmp_path / "bag", "hello")
        # SIGTERM while messages keep coming still leaves a whole bag
        probe.node.create_timer(0.001, lambda: publisher.publish(String(data="more")))
        assert record.stop() == 0
        assert "/said" in record.output().splitlines()[-1]
    (file,) = (tmp_path / "bag").glob("*.mcap")
    with file.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        words = [message.data for _, _, _, message in reader.iter_decoded_messages(topics=["/said"])]
    assert words[0] == "hello"
    assert set(words[1:]) <= {"more"}


def test_after_a_kill_all_but_the_last_moment_is_saved(env: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "bag"
    with Probe(env) as probe, spawn_node("record_node", env, {"output": output, "topics": ["said"]}) as record:
        publisher = probe.node.create_publisher(String, "said", 10)
        wait_subscribed(record, publisher)
        for number in range(5):
            publisher.publish(String(data=f"word {number}"))
        wait_flushed(output, "word 4")
        record.signal(signal.SIGKILL)
        record.wait()
    assert not output.exists()
    with spawn_node("record_node", env, {"output": output}) as record:
        assert record.wait() == 2
        assert "bag.part is an unfinished recording" in record.output()
    assert recover(tmp_path / "bag.part", tmp_path / "saved") == 5
    with BagReader(tmp_path / "saved") as bag:
        assert list(bag.topics) == ["/said"]


def test_recording_in_a_namespace_excludes_and_limits(env: dict[str, str], tmp_path: Path) -> None:
    parameters = {"output": tmp_path / "bag", "exclude": ["secret"], "max_duration_s": 2.0}
    with Probe(env) as probe, spawn_node("record_node", env, parameters, ["-r", "__ns:=/left"]) as record:
        publishers = [
            probe.node.create_publisher(String, topic, 10) for topic in ("/left/said", "/left/secret", "/right/said")
        ]
        for publisher in publishers:
            probe.node.create_timer(0.01, partial(publisher.publish, String(data="word")))
        assert record.wait() == 0
        assert "the limit of 2 s is reached" in record.output()
    with BagReader(tmp_path / "bag") as bag:
        assert set(bag.topics) <= {"/left/said", "/diagnostics", "/clock"}
        assert bag.topics["/left/said"].count > 10


def test_recording_never_overwrites(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with spawn_node("record_node", env, {"output": tmp_path / "bag"}) as record:
        assert record.wait() == 2
        assert (
            record.output() == f"error: {tmp_path}/bag exists already and is not overwritten: choose another output\n"
        )


def test_simulated_time_stamps_a_recording_and_keeps_the_order_of_arrival(env: dict[str, str], tmp_path: Path) -> None:
    parameters = {"output": tmp_path / "bag", "use_sim_time": True, "topics": ["said", "/clock"]}
    with Probe(env) as probe, spawn_node("record_node", env, parameters) as record:
        clock, said = probe.node.create_publisher(Clock, "/clock", 10), probe.node.create_publisher(String, "said", 100)
        diagnoses = probe.collect(DiagnosticArray, "/diagnostics")
        wait_for(lambda: any(one.status[0].message == "waiting for /clock" for one in diagnoses), what="no clock said")
        ticks = probe.node.create_timer(0.05, lambda: clock.publish(Clock(clock=Time(sec=100))))
        wait_subscribed(record, said)
        for number in range(50):
            said.publish(String(data=f"word {number:02d}"))
        wait_flushed(tmp_path / "bag", "word 49")
        ticks.cancel()
        assert record.stop() == 0
    with BagReader(tmp_path / "bag") as bag:
        stored = list(bag.messages(["/said"]))
        words = [deserialize_message(message.data, String).data for message in stored]
        assert words == [f"word {number:02d}" for number in range(50)]
        assert all(0 <= message.stamp_ns - 100 * 10**9 < 10**6 for message in stored)
        assert len({message.stamp_ns for message in stored}) == 50


def play_through(env: dict[str, str], bag: Path, **parameters: object) -> tuple[list[Arrival], Process]:
    with Probe(env) as probe, spawn_node("play_node", env, {"bag": bag, "start_paused": True, **parameters}) as play:
        arrivals = listen(probe)
        wait_for(lambda: probe.node.count_publishers("/said"), what="the player")
        resume(probe)
        assert play.wait() == 0
        with BagReader(bag) as reader:
            count = reader.topics["/said"].count
        wait_for(lambda: len(arrivals) >= count, what="the last message")
        return arrivals, play


def test_twice_the_rate_takes_half_the_time(env: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/said", index * 0.05, str(index)) for index in range(21)])
    took = {}
    for rate in (1.0, 2.0):
        arrivals, _ = play_through(env, bag, rate=rate)
        assert [arrival.text for arrival in arrivals] == [str(index) for index in range(21)]
        took[rate] = arrivals[-1].at_s - arrivals[0].at_s
    assert took[1.0] == pytest.approx(1.0, abs=0.2)
    assert took[2.0] == pytest.approx(0.5, abs=0.2)


def test_nothing_comes_while_paused_and_nothing_is_lost(env: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/said", index * 0.05, str(index)) for index in range(60)])
    with Probe(env) as probe, spawn_node("play_node", env, {"bag": bag, "start_paused": True}) as play:
        arrivals, clocks = listen(probe), probe.collect(Clock, "/clock")
        wait_for(lambda: len(clocks) >= 80, what="a second of clock")
        assert arrivals == []
        assert {clock.clock.sec for clock in clocks} == {1_700_000_000}
        assert "playing at 0.0 of 3.0 s" in resume(probe)
        wait_for(lambda: len(arrivals) >= 10, what="ten messages")
        assert "paused at" in resume(probe, paused=True)
        before = len(arrivals)
        seen = len(clocks)
        wait_for(lambda: len(clocks) >= seen + 40, what="half a second of clock")
        assert len(arrivals) <= before + 1
        paused_clock = clocks[-1].clock
        assert (clocks[-20].clock.sec, clocks[-20].clock.nanosec) == (paused_clock.sec, paused_clock.nanosec)
        resume(probe)
        assert play.wait() == 0
        wait_for(lambda: len(arrivals) == 60, what="the rest")
        assert [arrival.text for arrival in arrivals] == [str(index) for index in range(60)]


def test_a_loop_starts_again_and_the_clock_jumps_back(env: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/said", index * 0.1, str(index)) for index in range(5)])
    with Probe(env) as probe, spawn_node("play_node", env, {"bag": bag, "loop": True}) as play:
        arrivals, clocks = listen(probe), probe.collect(Clock, "/clock")
        wait_for(lambda: len(arrivals) >= 12, what="more than two rounds")
        times = [(one.clock.sec, one.clock.nanosec) for one in clocks]
        assert any(later < earlier for earlier, later in pairwise(times))
        assert play.stop() == 0
        texts = "".join(arrival.text for arrival in arrivals)
        assert texts in "01234" * 20


def test_a_clock_in_the_bag_is_played_as_it_is(env: dict[str, str], tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.add_topic("/clock", define("rosgraph_msgs/msg/Clock"))
    for index in range(10):
        tick = serialize_message(Clock(clock=Time(sec=7, nanosec=index)))
        writer.write(Message("/clock", START_NS + index * 10**8, tick))
    writer.close()
    with Probe(env) as probe, spawn_node("play_node", env, {"bag": tmp_path / "bag", "start_paused": True}) as play:
        clocks = probe.collect(Clock, "/clock", 100)
        wait_for(lambda: probe.node.count_publishers("/clock"), what="the player")
        resume(probe)
        assert play.wait() == 0
        wait_for(lambda: [one.clock.nanosec for one in clocks] == list(range(10)), what="the recorded ticks alone")
        assert {one.clock.sec for one in clocks} == {7}


@pytest.mark.parametrize("include", [False, True])
def test_what_a_guard_published_is_left_out_unless_asked_for(
    env: dict[str, str], tmp_path: Path, include: bool
) -> None:
    topics = ("target_pose", "policy/target_pose", "arm/gripper_command", "guard/status", "servo/twist", "said")
    words = [(f"/{topic}", 0.1, topic) for topic in topics]
    bag = write_bag(tmp_path / "bag", words, **{"servo/twist": "/arm/guard", "said": "/somebody"})
    parameters = {"bag": bag, "include_guard_outputs": include, "loop": True, "clock_hz": 0.0}
    expected = set(topics) if include else {"said", "policy/target_pose"}
    with Probe(env) as probe, spawn_node("play_node", env, parameters):

        def played() -> set[str]:
            return {topic for topic in topics if probe.node.count_publishers(f"/{topic}")}

        wait_for(lambda: played() >= expected, what="the player")
        assert played() == expected


def test_a_topic_filter(env: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/said", 0.0, "a"), ("/sung", 0.1, "b")])
    with Probe(env) as probe, spawn_node("play_node", env, {"bag": bag, "topics": ["said"], "loop": True}):
        wait_for(lambda: probe.node.count_publishers("/said"), what="the player")
        assert not probe.node.count_publishers("/sung")
    with spawn_node("play_node", env, {"bag": bag, "topics": ["spoken"]}) as play:
        assert play.wait() == 2
        assert play.output() == f"error: {bag} has no topic /spoken; it has /said, /sung\n"


def test_bad_bags_are_one_line_and_status_two(env: dict[str, str], tmp_path: Path) -> None:
    write_bag(tmp_path / "cut", [("/said", 0.0, "a")] * 50)
    cut = tmp_path / "cut" / "cut.mcap"
    cut.write_bytes(cut.read_bytes()[:1000])
    (tmp_path / "no_metadata").mkdir()
    write_bag(tmp_path / "empty", [])
    write_bag(tmp_path / "guard_only", [("/guard/status", 0.0, "a")])
    _unknown_type(tmp_path / "unknown")
    for name, reason in {
        "nowhere": "does not exist",
        "cut": "cannot read bag",
        "no_metadata": "has no metadata.yaml",
        "empty": "holds no messages",
        "guard_only": "nothing to play but what a guard published",
        "unknown": "message type my_msgs/msg/Thing is not known here: install package my_msgs",
    }.items():
        with spawn_node("play_node", env, {"bag": tmp_path / name}) as play:
            assert play.wait() == 2, play.output()
            (line,) = play.output().splitlines()
            assert line.startswith("error: ")
            assert reason in line


def _unknown_type(path: Path) -> None:
    writer = BagWriter(path)
    writer.add_topic("/thing", define_from_text("my_msgs/msg/Thing", "int32 x\n"))
    writer.write(Message("/thing", START_NS, b"\x00\x01\x00\x00\x01\x00\x00\x00"))
    writer.close()


def test_the_space_key_pauses_and_the_terminal_is_put_back(env: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/said", index * 0.05, str(index)) for index in range(400)])
    child, terminal = pty.fork()
    if child == 0:
        code = "import sys; from vla_ros.ros.play_node import main; sys.exit(main())"
        os.execve(sys.executable, [sys.executable, "-c", code, "--ros-args", "-p", f"bag:={bag}"], env)
    os.set_blocking(terminal, False)
    shown: list[str] = []

    def printed(text: str) -> bool:
        with suppress(OSError):
            shown.append(os.read(terminal, 65536).decode(errors="replace"))
        return text in "".join(shown)

    try:
        wait_for(lambda: printed("playing 1 topics"), what="the player's start")
        assert not termios.tcgetattr(terminal)[3] & termios.ICANON
        os.write(terminal, b" ")
        wait_for(lambda: printed("paused at"), what="a pause")
        shown.clear()
        os.write(terminal, b" ")
        wait_for(lambda: printed("playing at"), what="going on")
        os.write(terminal, b"\x03")
        wait_for(lambda: printed("messages played, at most"), what="the end after Ctrl-C")
        assert termios.tcgetattr(terminal)[3] & termios.ICANON
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


SINGLE_KEYS = "from vla_ros.ros.terminal import SingleKeys; print(SingleKeys().available)"


def test_a_terminal_that_is_not_the_processs_own_gives_no_keys(env: dict[str, str]) -> None:
    terminal, stdin = pty.openpty()
    try:
        command = [sys.executable, "-c", SINGLE_KEYS]
        done = subprocess.run(command, env=env, stdin=stdin, capture_output=True, text=True, start_new_session=True)
        assert (done.stdout, done.stderr) == ("False\n", "")
    finally:
        os.close(terminal)
        os.close(stdin)


@pytest.mark.parametrize("loop", [False, True])
def test_chosen_topics_without_messages_are_refused(env: dict[str, str], tmp_path: Path, loop: bool) -> None:
    writer = BagWriter(tmp_path / "bag")
    for topic in ("/said", "/never"):
        writer.add_topic(topic, define("std_msgs/msg/String"))
    writer.write(Message("/said", START_NS, serialize_message(String(data="a"))))
    writer.close()
    with spawn_node("play_node", env, {"bag": tmp_path / "bag", "topics": ["never"], "loop": loop}) as play:
        assert play.wait() == 2
        assert play.output().rstrip().endswith("bag holds no messages of /never")


def test_the_player_keeps_to_its_own_domain_unless_told(env: dict[str, str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("/said", 0.0, "a")])
    robots = {name: value for name, value in env.items() if name != "VLA_ROS_SIM_DOMAIN_ID"}
    for environment, domain in ((robots, "77"), (env, env["VLA_ROS_SIM_DOMAIN_ID"])):
        with spawn_node("play_node", environment, {"bag": bag}) as play:
            assert play.wait() == 0
            assert f"in ROS domain {domain}" in play.output()


def test_a_playhead_pauses_without_losing_its_place() -> None:
    playhead = Playhead(position_ns=1000, anchor_ns=50, rate=2.0, paused=False)
    assert playhead.at(60) == 1020
    assert playhead.due_ns(1020) == 60
    paused = playhead.set_paused(True, 60)
    assert paused.at(10_000) == 1020
    assert paused.set_paused(True, 20_000).at(30_000) == 1020
    assert paused.set_paused(False, 500).due_ns(1040) == 510
