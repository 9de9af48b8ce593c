"""Talking to a running graph from outside, for the commands: say, arm, disarm, reset, status, wait, restart.

Every call has a deadline, and says whom it did not find, and where it looked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from vla_ros.control import channels
from vla_ros.control.guard_state import Mode
from vla_ros.control.intents import Reason
from vla_ros.errors import VlaRosError
from vla_ros.interface import reading
from vla_ros.interface.reading import Status
from vla_ros.ros.inputs import SAID_ONCE
from vla_ros.types import is_hold

GUARD, POLICY = "guard", "policy"
ANSWER_TIMEOUT_S = 5.0
# A policy may take long to load; the node's own load_timeout_s ends that.
TRANSITION_TIMEOUT_S = 3600.0

_POLL_S = 0.05
# A stop is not held up for longer than this by somebody who does not answer.
_STOP_PATIENCE_S = 1.0
_STEPS = {
    State.PRIMARY_STATE_ACTIVE: ("deactivate", "cleanup", "configure", "activate"),
    State.PRIMARY_STATE_INACTIVE: ("cleanup", "configure", "activate"),
    State.PRIMARY_STATE_UNCONFIGURED: ("configure", "activate"),
}
_TRANSITIONS = {
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
}


class GraphError(VlaRosError):
    """The graph is not there, or does not answer. The text says who, and in which domain and namespace."""


@dataclass(frozen=True)
class Answer:
    """What a node said to a request."""

    accepted: bool
    text: str


@dataclass(frozen=True)
class Heard:
    """Who has taken an instruction. silent: who is there, but did not answer; only a stop may end so."""

    by: tuple[str, ...]
    silent: tuple[str, ...] = ()


class Graph:
    """A node of our own in the running graph; use it in a `with`. The domain is the environment's.

    node: for more subscriptions; they are served while one of the methods waits.
    """

    def __init__(self, namespace: str, timeout_s: float, while_waiting: Callable[[], None] = lambda: None) -> None:
        """namespace: of the robot's nodes, "" for none. timeout_s: how long to look for somebody.

        while_waiting: called about twenty times a second in all waits; what it raises ends the wait.
        """
        self._timeout_s = timeout_s
        self._while_waiting = while_waiting
        self._called_s = 0.0
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(f"vla_ros_command_{os.getpid()}", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._instructions: Any = None

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def say(self, sentence: str) -> Heard:
        """Publish an instruction; returns which of guard and policy have taken it. Raises GraphError if neither.

        A stop does not wait for the policy: the guard stops the robot by itself, and its status says so.
        """
        if self._instructions is None:
            self._instructions = self.node.create_publisher(String, channels.COMMAND, SAID_ONCE)
        publisher = self._instructions
        wanted = {GUARD} if is_hold(sentence) else {GUARD, POLICY}
        self.wait(lambda: wanted <= set(self._subscribers()), self._timeout_s)
        subscribers = self._subscribers()
        listeners = tuple(name for name in (GUARD, POLICY) if name in subscribers)
        if not listeners:
            raise self._missing(f"nobody listens to {publisher.topic_name!r}")
        patience_s = min(_STOP_PATIENCE_S, self._timeout_s) if is_hold(sentence) else self._timeout_s
        self.wait(lambda: publisher.get_subscription_count() >= len(subscribers), patience_s)
        publisher.publish(String(data=sentence))
        if self.wait(lambda: publisher.wait_for_all_acked(Duration(seconds=_POLL_S)), patience_s):
            return Heard(listeners)
        if is_hold(sentence) and self._guard_has_stopped():
            return Heard((GUARD,), tuple(name for name in listeners if name != GUARD))
        raise self._missing(f"{' and '.join(listeners)} did not acknowledge the instruction")

    def arm(self, armed: bool) -> Answer:
        """Arm or disarm the guard. Raises GraphError if it is not there."""
        return self._ask(SetBool, channels.ARM, SetBool.Request(data=armed))

    def reset(self) -> Answer:
        """Release the guard's latch. Raises GraphError if it is not there."""
        return self._ask(Trigger, channels.RESET, Trigger.Request())

    def statuses(self) -> dict[str, Status]:
        """The newest status of guard and policy, by name; waits for both, and returns one if the other is silent.

        Raises GraphError if both are.
        """
        heard = self._listen()
        self.wait(lambda: len(heard) == len((GUARD, POLICY)), self._timeout_s)
        if not heard:
            raise self._missing("neither guard nor policy says anything")
        if POLICY not in heard:
            with suppress(GraphError):
                heard[POLICY] = Status(POLICY, 1, f"the node is {self._state_of_policy(ANSWER_TIMEOUT_S).label}", {})
        return heard

    def watch(self) -> Iterator[Status]:
        """Guard's and policy's statuses, each when its words change; without end."""
        heard = self._listen()
        words: dict[str, str] = {}
        while True:
            self._executor.spin_once(_POLL_S)
            for name, status in heard.items():
                if words.get(name) != _words(status):
                    words[name] = _words(status)
                    yield status

    def wait_until_up(self) -> None:
        """Return when the guard has spoken and the policy is active. Raises GraphError that names who is not there.

        The policy's own words would not do: it is silent while a simulation's clock stands still.
        """
        deadline = time.monotonic() + self._timeout_s
        heard = self._listen()
        if not self.wait(lambda: GUARD in heard, self._timeout_s):
            raise self._missing("the guard said nothing")
        while (state := self._state_of_policy(deadline - time.monotonic()).label) != "active":
            if time.monotonic() > deadline:
                raise self._missing(f"the policy is {state}, not active,")
            self.wait(lambda: False, _POLL_S)

    def restart_policy(self, tell: Callable[[str], None]) -> Answer:
        """Take the policy node through its lifecycle, so that it loads the policy anew. Raises GraphError."""
        state = self._state_of_policy(ANSWER_TIMEOUT_S)
        if state.id not in _STEPS:
            return Answer(False, f"the policy node is {state.label} and cannot be restarted; start the process again")
        for step in _STEPS[state.id]:
            tell(step)
            request = ChangeState.Request(transition=Transition(id=_TRANSITIONS[step]))
            if not self.call(ChangeState, "policy/change_state", request, TRANSITION_TIMEOUT_S).success:
                return Answer(False, f"the policy node failed to {step}; its output says why")
        return Answer(True, "the policy was loaded anew and is active; it waits for an instruction")

    def call(self, service: type, name: str, request: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """A service's response. timeout_s: for the answer, once it was found. Raises GraphError."""
        client = self.node.create_client(service, name)
        try:
            if not self.wait(client.service_is_ready, self._timeout_s):
                raise self._missing(f"nobody offers the service {client.srv_name!r}")
            future = client.call_async(request)
            if not self.wait(future.done, timeout_s):
                raise self._missing(f"{client.srv_name!r} did not answer within {timeout_s:g} s")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def wait(self, condition: Callable[[], Any], timeout_s: float) -> bool:
        """Listen until the condition holds; False if it did not within timeout_s."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            now_s = time.monotonic()
            if now_s - self._called_s > _POLL_S:
                self._called_s = now_s
                self._while_waiting()
            if now_s > deadline:
                return False
            self._executor.spin_once(_POLL_S)
        return True

    def _guard_has_stopped(self) -> bool:
        """Whether the guard says, from now on, that it was told to stop, or that nothing moves the robot anyway."""
        heard = self._listen()

        def has_stopped() -> bool:
            status = heard.get(GUARD)
            return status is not None and (
                Reason.TOLD_TO_STOP.value in status.message or status.values.get("mode") != Mode.ARMED.value
            )

        return self.wait(has_stopped, self._timeout_s)

    def _subscribers(self) -> list[str]:
        """Names of the nodes that hear the instruction: guard and policy, and recorders, who obey nothing."""
        topic = self.node.resolve_topic_name(channels.COMMAND)
        return [info.node_name for info in self.node.get_subscriptions_info_by_topic(topic)]

    def _listen(self) -> dict[str, Status]:
        heard: dict[str, Status] = {}

        def store(msg: DiagnosticArray) -> None:
            heard.update({status.name: status for status in reading.from_diagnostics(msg)})

        for name in (GUARD, POLICY):
            self.node.create_subscription(DiagnosticArray, f"{name}/status", store, 1)
        return heard

    def _state_of_policy(self, timeout_s: float) -> Any:
        """Its lifecycle state, with `id` and `label`. While it starts, it answers late. Raises GraphError."""
        return self.call(GetState, "policy/get_state", GetState.Request(), max(0.0, timeout_s)).current_state

    def _ask(self, service: type, name: str, request: Any) -> Answer:
        response = self.call(service, name, request)
        return Answer(response.success, response.message)

    def _missing(self, what: str) -> GraphError:
        reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() or "SUBNET"
        where = f"ROS domain {self._context.get_domain_id()} ({reach}), namespace {self.node.get_namespace()}"
        return GraphError(f"{what} in {where}. Other graphs: --sim, --domain-id, --namespace")


def _words(status: Status) -> str:
    """Numbers in brackets alone do not make a status new."""
    return status.message.split(" (")[0]
