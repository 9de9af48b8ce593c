"""A process of the benchmarks: a bare rclpy node with one timer; prints its periods [ms], a JSON list, and ends."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise

import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

_WARM_UP_TICKS = 40


def main() -> None:
    """Arguments: rate [Hz], how long [s]."""
    rate_hz, duration_s = float(sys.argv[1]), float(sys.argv[2])
    rclpy.init(args=[])
    node = Node("bare_timer")
    ticks: list[int] = []
    steady = Clock(clock_type=ClockType.STEADY_TIME)
    node.create_timer(1.0 / rate_hz, lambda: ticks.append(time.monotonic_ns()), clock=steady)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    wanted = _WARM_UP_TICKS + round(duration_s * rate_hz)
    while len(ticks) <= wanted:
        executor.spin_once()
    counted = ticks[_WARM_UP_TICKS:]
    print(json.dumps([(after - before) / 1e6 for before, after in pairwise(counted)]))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
