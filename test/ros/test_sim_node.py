"""The simulated robot as a process: where it lives, and what it lets itself be told."""

from __future__ import annotations

from typing import Any

from helpers import Probe, own_domain, spawn_node, wait_for
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rig import CONTRACT
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from vla_ros.ros.inputs import NEWEST

BLIND = {"contract": CONTRACT, "cameras": False}
START_TIMEOUT_S = 60.0


def test_a_simulation_started_by_itself_stays_out_of_the_robots_domain() -> None:
    with own_domain() as robots, own_domain() as env, Probe(robots) as stranger, Probe(env) as probe:
        ticks = probe.collect(Clock, "/clock", NEWEST)
        astray = {**env, "ROS_DOMAIN_ID": robots["ROS_DOMAIN_ID"], "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
        with spawn_node("sim_node", astray, BLIND):
            wait_for(lambda: ticks or stranger.node.count_publishers("/clock"), START_TIMEOUT_S, "a simulated clock")
            assert ticks and not stranger.node.count_publishers("/clock")


def test_a_world_that_is_not_there_is_refused_when_it_is_set() -> None:
    def set_to(name: str, value: str) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return probe.call(SetParameters, "sim/set_parameters", request, START_TIMEOUT_S).results[0]

    with own_domain() as env, Probe(env) as probe, spawn_node("sim_node", env, BLIND) as sim:
        assert "'nowhere' is not a variation; write a split and an index" in set_to("variation", "nowhere").reason
        assert "must be one of" in set_to("task", "fly-v3").reason
        assert set_to("variation", "train:3").successful
        answer = probe.call(Trigger, "sim/reset", Trigger.Request())
        assert (answer.success, answer.message) == (True, "reach-v3, variation train:3")
        assert sim.stop() == 0
