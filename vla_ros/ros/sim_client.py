"""Running tasks on the simulated robot from outside, through the same topics and services that a person uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vla_ros.control import channels
from vla_ros.control.guard_state import CLIPPED, STOPPED
from vla_ros.interface import reading
from vla_ros.ros.inputs import NEWEST
from vla_ros.ros.talk import Graph, GraphError
from vla_ros.types import NS_PER_S

# The guard reports a few times a second; its counts of an episode are complete by then.
_REPORT_TIMEOUT_S = 5.0
_RESET_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Told:
    """A sentence, and how long after the episode's beginning it is said, in the robot's time."""

    sentence: str
    after_s: float = 0.0


@dataclass(frozen=True)
class Episode:
    """One task, tried once, from began_ns to ended_ns (ROS time): from the sentence to success, or to the end.

    wall_time_s: the same span by the wall clock. stopped: cause -> motions that the guard interrupted; latches: how
    often it latched; clips: limit -> ticks on which it acted. sentence: all that was said, in order.
    """

    task: str
    variation: str
    sentence: str
    success: bool
    began_ns: int
    ended_ns: int
    wall_time_s: float
    stopped: Mapping[str, int]
    latches: int
    clips: Mapping[str, int]

    @property
    def sim_time_s(self) -> float:
        """How long it took the robot."""
        return (self.ended_ns - self.began_ns) / NS_PER_S

    @property
    def stops(self) -> int:
        """How often the guard took the robot from the policy."""
        return sum(self.stopped.values())


class SimClient:
    """Talks to a running sim, guard and policy; uses the graph's node."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._ros_ns = 0
        self._is_solved = False
        self._counts: Mapping[str, str] = {}
        self._heard_counts_at = 0.0
        node = graph.node
        node.create_subscription(Clock, "/clock", self._on_clock, NEWEST)
        node.create_subscription(Bool, channels.SUCCESS, self._on_success, NEWEST)
        node.create_subscription(DiagnosticArray, "guard/status", self._on_status, NEWEST)

    def prepare(self, task: str, variation: str) -> None:
        """Put the world back to a task's variation and arm. Raises GraphError, in the sim's or the guard's words."""
        wanted = {"task": task, "variation": variation}
        request = SetParameters.Request(parameters=[_text_parameter(name, value) for name, value in wanted.items()])
        for result in self._graph.call(SetParameters, "sim/set_parameters", request).results:
            if not result.successful:
                raise GraphError(result.reason)
        answer = self._graph.call(Trigger, "sim/reset", Trigger.Request(), _RESET_TIMEOUT_S)
        if not answer.success:
            raise GraphError(answer.message)
        self._arm()

    def run(self, task: str, variation: str, told: Sequence[Told], max_sim_time_s: float) -> Episode:
        """Prepare, say the sentences, wait for success or for the end of the time, disarm. Raises GraphError.

        told: at least one, the first at once. Success counts from the last of them on.
        """
        self.prepare(task, variation)
        before = self._report()
        began_s, began_ns = time.monotonic(), self._ros_ns
        # A paused simulation must not wait for ever: wall time is bounded as well.
        deadline_s = began_s + 4.0 * max_sim_time_s + 5.0
        for words in told:
            due_ns = began_ns + round(words.after_s * NS_PER_S)
            self._wait(lambda due_ns=due_ns: self._ros_ns >= due_ns, deadline_s)  # type: ignore[misc]
            self._is_solved = False
            self._graph.say(words.sentence)
        end_ns = began_ns + round(max_sim_time_s * NS_PER_S)
        self._wait(lambda: self._is_solved or self._ros_ns > end_ns, deadline_s)
        solved, ended_ns, wall_time_s = self._is_solved, self._ros_ns, time.monotonic() - began_s
        self._graph.say("stop")  # now: what the guard counts until its next report would count as the episode's
        after = self._report()
        self._graph.arm(False)
        gained = {name: after[name] - before.get(name, 0) for name in after if after[name] > before.get(name, 0)}
        return Episode(
            task=task,
            variation=variation,
            sentence=", then ".join(words.sentence for words in told),
            success=solved,
            began_ns=began_ns,
            ended_ns=ended_ns,
            wall_time_s=wall_time_s,
            stopped=_of_kind(STOPPED, gained),
            latches=gained.get("latches", 0),
            clips=_of_kind(CLIPPED, gained),
        )

    def _wait(self, condition: Callable[[], bool], deadline_s: float) -> None:
        self._graph.wait(condition, deadline_s - time.monotonic())

    def _arm(self) -> None:
        """The guard needs a moment to see the new world: refusals are final only after a while."""
        deadline_s = time.monotonic() + _REPORT_TIMEOUT_S
        while not (answer := self._graph.arm(True)).accepted:
            if time.monotonic() > deadline_s:
                raise GraphError(answer.text)
            self._graph.wait(lambda: False, 0.05)

    def _report(self) -> dict[str, int]:
        """The guard's counts as of now."""
        asked_s = time.monotonic()
        if not self._graph.wait(lambda: self._heard_counts_at > asked_s, _REPORT_TIMEOUT_S):
            raise GraphError("the guard does not report its status")
        return {name: int(value) for name, value in self._counts.items() if value.isdigit()}

    def _on_clock(self, msg: Any) -> None:
        self._ros_ns = reading.from_clock(msg)

    def _on_success(self, msg: Any) -> None:
        self._is_solved = self._is_solved or reading.from_bool(msg)

    def _on_status(self, msg: Any) -> None:
        self._counts = reading.from_diagnostics(msg)[0].values
        self._heard_counts_at = time.monotonic()


def _of_kind(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Those of the guard's counts whose names begin so, without that."""
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}


def _text_parameter(name: str, value: str) -> Parameter:
    return Parameter(name=name, value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value))
