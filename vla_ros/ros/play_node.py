"""Plays a rosbag2 bag (MCAP or sqlite3): the recorded bytes, in recorded order, at the recorded pace times `rate`.

Lives in ROS domain 77 (or VLA_ROS_SIM_DOMAIN_ID) on this machine only. What a guard published is left out unless
asked for, so that no robot obeys a recording. The first message comes half a second after start-up, when subscribers
had time to find the topics; with start_paused none comes before play/pause is called with false. In a terminal the
space key pauses and resumes. A `/clock` in the bag is played as it is; otherwise one is made at clock_hz from the
stamps of reception. With loop, `/clock` jumps back at each start, as nodes on simulated time must expect.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from vla_ros.bags import PUBLISHERS_NOTE, BagReader, Message, Topic
from vla_ros.errors import BagError
from vla_ros.ros.message_types import message_class
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.playback import Playhead
from vla_ros.ros.runtime import Diagnosis, DiagnosticsPublisher, Finished, create_steady_timer, isolate, run_node
from vla_ros.ros.status import OK
from vla_ros.ros.terminal import SingleKeys
from vla_ros.types import NS_PER_S

START_DELAY_NS = NS_PER_S // 2
BATCH = 200  # messages published before the services get a turn
LONGEST_WAIT_S = 0.05
SHORTEST_WAIT_S = 0.0001
DEFAULT_DEPTH = 10
CLOCK_TOPIC = "/clock"
GUARD_OUTPUT = re.compile(r"/guard/|(?<!/policy)(?<!/teleop)/(target_pose|target_twist|gripper_command)$")

PARAMETERS = (
    Parameter("bag", str, "the bag: a rosbag2 folder, or an .mcap or .db3 file"),
    Parameter("rate", 1.0, "speed, 2.0 being twice as fast as recorded", minimum=0.01, maximum=100.0),
    Parameter("loop", False, "start again at the end"),
    Parameter("start_paused", False, "wait for play/pause (or the space key) before the first message"),
    Parameter("topics", (), "topics to play; empty: all"),
    Parameter("include_guard_outputs", False, "also play what a guard published, commands to the robot included"),
    Parameter("clock_hz", 80.0, "wall-time rate of /clock if the bag has none; 0: none", minimum=0.0, maximum=1000.0),
)
INTERFACES = {
    "every topic of the bag (any type)": "out: recorded bytes, with the recorded publishers' quality of service",
    "/clock (rosgraph_msgs/Clock)": "out: see clock_hz",
    "play/pause (std_srvs/SetBool)": "service: true pauses, false resumes",
    "/diagnostics (diagnostic_msgs/DiagnosticArray)": "out: what is being played, 1 Hz",
}


class PlayNode(Node):
    """One steady timer publishes what is due and sets itself for what comes next."""

    def __init__(self) -> None:
        super().__init__("play")
        values = declare(self, PARAMETERS)
        self._bag = BagReader(Path(values["bag"]))
        self._loop = values["loop"]
        names = chosen_topics(
            self._bag, [self.resolve_topic_name(name) for name in values["topics"]], values["include_guard_outputs"]
        )
        self._outputs = {name: self._publisher(self._bag.topics[name]) for name in names}
        self._messages = self._rewound()
        self._next: Message | None = next(self._messages, None)
        self._played = 0
        self._latest_ns = 0
        self._playhead = Playhead(
            self._bag.start_ns, time.monotonic_ns() + START_DELAY_NS, values["rate"], values["start_paused"]
        )
        if values["clock_hz"] and CLOCK_TOPIC not in self._outputs:
            self._clock_output = self.create_publisher(Clock, CLOCK_TOPIC, 10)
            create_steady_timer(self, 1.0 / values["clock_hz"], self._publish_clock)
        self._timer = create_steady_timer(self, SHORTEST_WAIT_S, self._publish_due)
        self._keys = SingleKeys()
        if self._keys.available:
            create_steady_timer(self, LONGEST_WAIT_S, self._read_keys)
        self.create_service(SetBool, "play/pause", self._on_pause)
        DiagnosticsPublisher(self, self._diagnose)
        self._announce(names)

    def _publisher(self, topic: Topic) -> Publisher:
        try:
            return self.create_publisher(message_class(topic.type), topic.name, _qos_of(topic))
        except BagError as error:
            raise BagError(f"{topic.name} cannot be played: {error}, or name others in the parameter topics") from None

    def _announce(self, names: Sequence[str]) -> None:
        left_out = [name for name in self._bag.topics if name not in names]
        self.get_logger().info(
            f"playing {len(names)} topics, {self._bag.duration_s:.1f} s, at rate {self._playhead.rate:g} "
            f"in ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}"
            + (f"; left out: {', '.join(left_out)}" if left_out else "")
            + ("; paused: call play/pause with data: false" if self._playhead.paused else "")
        )

    def _rewound(self) -> Iterator[Message]:
        return self._bag.messages(self._outputs)

    def _publish_due(self) -> None:
        if self._playhead.paused:
            self._timer.cancel()
            return
        for _ in range(BATCH):
            if self._next is None:
                self._end()
            elif self._late_ns(self._next) >= 0:
                self._publish(self._next)
            else:
                break
        self._wait_for(self._next)

    def _late_ns(self, message: Message) -> int:
        return time.monotonic_ns() - self._playhead.due_ns(message.stamp_ns)

    def _publish(self, message: Message) -> None:
        self._latest_ns = max(self._latest_ns, self._late_ns(message))
        self._outputs[message.topic].publish(message.data)
        self._played += 1
        self._next = next(self._messages, None)

    def _wait_for(self, message: Message | None) -> None:
        wait_s = 0.0 if message is None else -self._late_ns(message) / NS_PER_S
        self._timer.timer_period_ns = round(min(max(wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S) * NS_PER_S)
        self._timer.reset()

    def _end(self) -> None:
        if not self._loop:
            raise Finished
        self._messages = self._rewound()
        self._next = next(self._messages, None)
        self._playhead = Playhead(self._bag.start_ns, time.monotonic_ns(), self._playhead.rate, paused=False)

    def _position_ns(self) -> int:
        position_ns = self._playhead.at(time.monotonic_ns()) - self._bag.start_ns
        return self._bag.start_ns + min(max(position_ns, 0), round(self._bag.duration_s * NS_PER_S))

    def _publish_clock(self) -> None:
        seconds, nanoseconds = divmod(self._position_ns(), NS_PER_S)
        self._clock_output.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    def _read_keys(self) -> None:
        if " " in self._keys.read():
            self._pause(not self._playhead.paused)

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._pause(request.data)
        response.success, response.message = True, self._words()
        return response

    def _pause(self, paused: bool) -> None:
        self._playhead = self._playhead.set_paused(paused, time.monotonic_ns())
        self.get_logger().info(self._words())
        if not paused:
            self._wait_for(self._next)

    def _words(self) -> str:
        done_s = (self._position_ns() - self._bag.start_ns) / NS_PER_S
        state = "paused" if self._playhead.paused else "playing"
        return f"{state} at {done_s:.1f} of {self._bag.duration_s:.1f} s, {self._played} messages played"

    def _diagnose(self) -> Diagnosis:
        return OK, self._words(), {"bag": str(self._bag.path), "latest_ms": f"{self._latest_ns / 1e6:.1f}"}

    def close(self) -> None:
        """Let what was published arrive, then let go of the bag and the terminal."""
        self._keys.close()
        deadline_ns = time.monotonic_ns() + NS_PER_S
        for output in self._outputs.values():
            output.wait_for_all_acked(Duration(nanoseconds=max(0, deadline_ns - time.monotonic_ns())))
        self._bag.close()
        self.get_logger().info(f"{self._played} messages played, at most {self._latest_ns / 1e6:.1f} ms late")


def chosen_topics(bag: BagReader, asked_for: Sequence[str], include_guard_outputs: bool) -> list[str]:
    """The names of the topics to play, sorted. Raises BagError if there is none, or one asked for is not there."""
    if not any(topic.count for topic in bag.topics.values()):
        raise BagError(f"{bag.path} holds no messages")
    unknown = sorted(set(asked_for) - set(bag.topics))
    if unknown:
        raise BagError(f"{bag.path} has no topic {', '.join(unknown)}; it has {', '.join(sorted(bag.topics))}")
    names = asked_for or list(bag.topics)
    published_by = json.loads(bag.notes.get(PUBLISHERS_NOTE, "{}"))
    left = [name for name in names if include_guard_outputs or not _is_of_guard(name, published_by.get(name, []))]
    if not left:
        raise BagError(f"{bag.path} has nothing to play but what a guard published (include_guard_outputs plays it)")
    if not any(bag.topics[name].count for name in left):
        raise BagError(f"{bag.path} holds no messages of {', '.join(sorted(left))}")
    return sorted(left)


def _is_of_guard(topic: str, nodes: Sequence[str]) -> bool:
    """By the nodes that published it, as `record` notes them, whatever the topic is called; else by its name."""
    by_guard_alone = bool(nodes) and all(node.rpartition("/")[2] == "guard" for node in nodes)
    return by_guard_alone or GUARD_OUTPUT.search(topic) is not None


def _qos_of(topic: Topic) -> QoSProfile:
    """The best that any recorded publisher offered, which suits all of its subscribers; reliable if none is known."""
    reliable = any(qos.reliable for qos in topic.offered) or not topic.offered
    latched = any(qos.transient_local for qos in topic.offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max([DEFAULT_DEPTH, *(qos.depth for qos in topic.offered)]),
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `play_node`."""
    os.environ.update(isolate(os.environ))
    return run_node(PlayNode, args, help_text("play_node", __doc__ or "", PARAMETERS, INTERFACES))
