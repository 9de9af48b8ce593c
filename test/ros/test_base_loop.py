"""Another robot by another contract: the base, driven by a sentence, in processes over DDS."""

from __future__ import annotations

import signal
import sys

import numpy as np
from geometry_msgs.msg import TwistStamped
from helpers import Probe, Process, own_domain, wait_for
from std_msgs.msg import Bool, String

from vla_ros.ros.inputs import NEWEST

WORDS = ("--sim", "--policy", "oracle", "--variation", "test:1", "--arm", "--say", "drive to the red box")
UP_TIMEOUT_S, DRIVE_TIMEOUT_S = 90.0, 60.0


def test_the_base_drives_to_what_it_is_told() -> None:
    with (
        own_domain() as env,
        Process([sys.executable, "-m", "vla_ros.cli", "up", "base_sim", *WORDS], env) as process,
        Probe(env) as probe,
    ):
        twists, traces = probe.collect(TwistStamped, "target_twist", NEWEST), probe.collect(String, "guard/trace")
        arrivals = probe.collect(Bool, "sim/success", NEWEST)
        wait_for(lambda: len(twists) > 0, UP_TIMEOUT_S, f"commands; it said:\n{process.output()}")
        wait_for(lambda: any(message.data for message in list(arrivals)[-20:]), DRIVE_TIMEOUT_S, "arrival")
        assert {message.header.frame_id for message in twists} == {"odom"}
        turning = np.array([message.twist.angular.z for message in list(twists)])
        assert np.abs(turning).max() > 0.1
        assert not any('"latched"' in message.data for message in list(traces)[-20:])
        process.signal(signal.SIGINT)
        assert process.wait(30.0) == 0, process.output()
