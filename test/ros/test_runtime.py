"""The run loop and the parameters that all nodes share, in real processes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from helpers import Probe, Process, own_domain, spawn_node, wait_for
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter as RosParameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_ros.ros.parameters import Parameter, ParameterError, check, descriptor, help_text
from vla_ros.ros.runtime import isolate

# A node as others write them: parameters, a tick on ROS time, diagnostics, last words.
NODE = """
import sys
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import String
from vla_ros.errors import VlaRosError
from vla_ros.ros.parameters import Parameter, declare, help_text
from vla_ros.ros.runtime import DiagnosticsPublisher, Finished, now, run_node

def short(word):
    if len(word) > 3:
        raise VlaRosError(f"{word!r} is not short")

TABLE = (
    Parameter("contract", str, "path of the robot contract"),
    Parameter("rate", 1.0, "how fast", minimum=0.01, maximum=100.0, read_only=False),
    Parameter("mode", "slow", "how", choices=("slow", "fast"), read_only=False),
    Parameter("count", 3, "how many", minimum=0),
    Parameter("topics", (), "which topics"),
    Parameter("word", "yes", "a short one", read_only=False, read=short),
)

class Example(Node):
    def __init__(self):
        super().__init__("example")
        self.values = declare(self, TABLE)
        self.said = self.create_publisher(String, "said", 10)
        self.create_subscription(String, "word", self.hear, 10)
        self.create_timer(0.01, lambda: self.said.publish(String(data="tick")))
        DiagnosticsPublisher(self, lambda: (0, "fine", {"rate": str(self.values["rate"])}))
        print("ready", self.values, flush=True)

    def hear(self, word):
        if word.data == "finish":
            raise Finished
        raise VlaRosError(f"never heard of {word.data}")

    def close(self):
        self.said.publish(String(data="last words"))
        self.said.wait_for_all_acked(Duration(seconds=1.0))
        print("closed", flush=True)

sys.exit(run_node(Example, None, help_text("example", "An example.", TABLE, {"said (std_msgs/String)": "words"})))
"""


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    with own_domain() as environment:
        yield environment


def start(env: dict[str, str], *arguments: str) -> Process:
    return Process([sys.executable, "-c", NODE, *arguments], env)


def parameters(**values: object) -> list[str]:
    return ["--ros-args", *(word for name, value in values.items() for word in ("-p", f"{name}:={value}"))]


def wait_ready(process: Process) -> None:
    wait_for(lambda: "ready" in process.output() or not process.running(), what="node is ready")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_node_and_ends_with_status_zero(env: dict[str, str], number: int) -> None:
    with Probe(env) as probe, start(env, *parameters(contract="c.yaml")) as node:
        said = probe.collect(String, "said")
        wait_for(lambda: said, what="a first tick")
        node.signal(number)
        assert node.wait(5.0) == 0
        assert node.output().splitlines()[1:] == ["closed"]
        wait_for(lambda: said[-1].data == "last words", what="a message published while closing")


def test_a_signal_is_heard_by_a_node_that_waits_for_nothing_but_messages(env: dict[str, str]) -> None:
    idle = [line for line in NODE.splitlines() if "self.create_timer" not in line and "DiagnosticsP" not in line]
    code = "\n".join(["from vla_ros.ros.runtime import Finished, run_node", *idle])
    with Process([sys.executable, "-c", code, *parameters(contract="c")], env) as node:
        wait_ready(node)
        assert node.stop(5.0) == 0
        assert node.output().splitlines()[1:] == ["closed"]


def test_finished_ends_with_status_zero_and_an_error_with_one_line_and_two(env: dict[str, str]) -> None:
    for word, status, said in (("finish", 0, []), ("xyzzy", 2, ["error: never heard of xyzzy"])):
        with Probe(env) as probe, start(env, *parameters(contract="c.yaml")) as node:
            publisher = probe.node.create_publisher(String, "word", 10)
            wait_for(publisher.get_subscription_count, what="the node's subscription")
            publisher.publish(String(data=word))
            assert node.wait() == status
            assert node.output().splitlines()[1:] == ["closed", *said]


IMPORTING = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "rclpy":
            print("ready", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
from vla_ros.commands.nodes import guard_node
sys.exit(guard_node())
"""
INITIALISING = """
import sys, time
import rclpy
from vla_ros.ros.guard_node import main
from vla_ros.ros.runtime import stop_requested

def init(*arguments, really=rclpy.init, **more):
    print("ready", flush=True)
    while not stop_requested():
        time.sleep(0.01)
    really(*arguments, **more)

rclpy.init = init
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [IMPORTING, INITIALISING], ids=["importing", "initialising"])
def test_an_early_signal_ends_a_node_as_cleanly(env: dict[str, str], code: str, number: int) -> None:
    with Process([sys.executable, "-c", code], env) as node:
        wait_ready(node)
        node.signal(number)
        assert node.wait(5.0) == 0
        assert node.output().strip() == "ready"


def test_diagnostics_go_on_while_a_simulated_clock_rests_and_timers_follow_it(env: dict[str, str]) -> None:
    with Probe(env) as probe, start(env, *parameters(contract="c", use_sim_time="true")) as node:
        said, diagnoses = probe.collect(String, "said"), probe.collect(DiagnosticArray, "/diagnostics")
        clock = probe.node.create_publisher(Clock, "/clock", 10)
        wait_for(lambda: len(diagnoses) >= 2, what="two diagnostics")
        assert said == []
        assert diagnoses[0].status[0].name == "/example"
        assert diagnoses[0].status[0].values[0].value == "1.0"
        wait_for(clock.get_subscription_count, what="the node's clock")
        for step in range(1, 21):
            clock.publish(Clock(clock=Time(sec=5, nanosec=step * 10_000_000)))
        wait_for(lambda: said, what="a tick of the simulated clock")
        assert node.running()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "parameter 'contract' (path of the robot contract) is required: pass it as --ros-args -p contract:=STR"),
        ({"contract": 3}, "parameter 'contract' must be a text, not 3"),
        ({"contract": "c", "rate": 1000.0}, "parameter 'rate' must be a number from 0.01 to 100, not 1000.0"),
        ({"contract": "c", "rate": "quick"}, "parameter 'rate' must be a number from 0.01 to 100, not 'quick'"),
        ({"contract": "c", "mode": "medium"}, "parameter 'mode' must be one of slow, fast, not 'medium'"),
        ({"contract": "c", "word": "xyzzy"}, "parameter 'word': 'xyzzy' is not short"),
        ({"contract": "c", "count": -1}, "parameter 'count' must be a whole number from 0, not -1"),
    ],
)
def test_a_wrong_parameter_is_one_line_and_status_two(
    env: dict[str, str], arguments: dict[str, object], sentence: str
) -> None:
    with start(env, *parameters(**arguments)) as node:
        assert node.wait() == 2
        assert node.output().splitlines() == [f"error: {sentence}"]


def test_wrong_parameter_in_a_file(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("/**:\n  ros__parameters:\n    contract: c.yaml\n    count: 2.5\n")
    with start(env, "--ros-args", "--params-file", str(file)) as node:
        assert node.wait() == 2
        assert node.output().splitlines() == ["error: parameter 'count' must be a whole number from 0, not 2.5"]


def test_a_whole_number_will_do_for_a_number_and_a_misspelt_name_is_named(env: dict[str, str]) -> None:
    with start(env, *parameters(contract="c", rate=2, topics="[a, b]", rat=3.0)) as node:
        wait_ready(node)
        assert node.stop() == 0
        assert "'rate': 2.0" in node.output()
        assert "'topics': ('a', 'b')" in node.output()
        assert "parameter 'rat' is not known here and ignored; known: contract, rate" in node.output()


def test_parameters_set_at_run_time_are_checked(env: dict[str, str]) -> None:
    def set_to(name: str, value: object) -> Any:
        request = SetParameters.Request(parameters=[RosParameter(name, value=value).to_parameter_msg()])
        return probe.call(SetParameters, "/example/set_parameters", request).results[0]

    with Probe(env) as probe, start(env, *parameters(contract="c")):
        assert set_to("rate", 5.0).successful
        assert "must be one of slow, fast, not 'medium'" in set_to("mode", "medium").reason
        assert not set_to("rate", 500.0).successful
        assert not set_to("rate", "quick").successful
        assert not set_to("contract", "other").successful
        assert "parameter 'word': 'xyzzy' is not short" in set_to("word", "xyzzy").reason
        assert set_to("word", "no").successful


@pytest.mark.parametrize(
    "arguments", [["play.yaml"], ["--ros-args", "-p"], ["--ros-args", "-p", "no colon"], ["--ros-args", "-x"]]
)
def test_arguments_that_ros_does_not_understand_are_refused(env: dict[str, str], arguments: list[str]) -> None:
    with start(env, *arguments) as node:
        assert node.wait() == 2
        assert "Traceback" not in node.output()
        assert "error: " in node.output()


def test_help_lists_parameters_and_topics(env: dict[str, str]) -> None:
    with start(env, "--help") as node:
        assert node.wait() == 0
        for text in ("An example.", "contract (required)", "rate (default 1.0)", "from 0.01 to 100", "said (std_msgs/"):
            assert text in node.output()


def test_nan_is_in_no_range() -> None:
    with pytest.raises(ParameterError, match="not nan"):
        check(Parameter("rate", 1.0, "how fast", minimum=0.0, maximum=1.0), float("nan"))


@pytest.mark.parametrize(
    ("parameter", "bounds"),
    [
        (Parameter("count", 3, "how many", minimum=0), (0, 2**63 - 1)),
        (Parameter("index", 3, "which", maximum=63), (-(2**63), 63)),
        (Parameter("rate", 1.0, "how fast", minimum=0.5), (0.5, sys.float_info.max)),
        (Parameter("rate", 1.0, "how fast", maximum=2.0), (-sys.float_info.max, 2.0)),
    ],
)
def test_a_range_with_one_end_is_published_with_its_types_other_end(
    parameter: Parameter, bounds: tuple[float, float]
) -> None:
    told: Any = descriptor(parameter)
    (published,) = list(told.integer_range) + list(told.floating_point_range)
    assert (published.from_value, published.to_value) == bounds


def test_true_is_not_a_number() -> None:
    with pytest.raises(ParameterError, match="'rate' must be a number, not True"):
        check(Parameter("rate", 1.0, "how fast"), True)


def test_help_shows_an_empty_default() -> None:
    assert "bag (default '')" in help_text("n", "s", (Parameter("bag", "", "a bag"),), {})


def test_the_isolated_domain_is_not_the_one_of_a_robot() -> None:
    own = {"ROS_DOMAIN_ID": "77", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    assert isolate({"HOME": "/x"}) == {"HOME": "/x", **own}
    assert isolate({"ROS_DOMAIN_ID": "5", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}) == own
    assert isolate({"VLA_ROS_SIM_DOMAIN_ID": "6", "ROS_DOMAIN_ID": "5"})["ROS_DOMAIN_ID"] == "6"
    assert isolate({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}) == own
    chosen = {"VLA_ROS_SIM_DOMAIN_ID": "6", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}
    assert isolate(chosen) == {**chosen, "ROS_DOMAIN_ID": "6"}


def test_one_signal_ends_a_node_that_is_loading_its_policy(env: dict[str, str]) -> None:
    parameters = {
        "contract": Path(__file__).parents[2] / "config" / "sawyer_sim.yaml",
        "policy": "faulty_policy:create",
        "policy_options": ["load=hang"],
        "autostart": True,
    }
    plugins = str(Path(__file__).parents[1] / "plugins")
    with spawn_node("policy_node", {**env, "PYTHONPATH": plugins}, parameters) as node:
        worker = wait_for(lambda: psutil.Process(node.pid).children(), what="the worker")[0]
        node.signal(signal.SIGINT)
        assert node.wait(10.0) == 0
        wait_for(lambda: not worker.is_running(), what="the worker's end")
