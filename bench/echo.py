"""A process of the benchmarks: a bare rclpy node that sends images back once all views of one stamp are there."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract


def topic_back(view: str) -> str:
    """Where a view comes back."""
    return f"echo/{view}"


class Echo(Node):
    """Stores, and answers at the last view's arrival."""

    def __init__(self, contract: Contract) -> None:
        super().__init__("echo")
        self._newest: dict[str, Any] = {}
        self._back = {
            view: self.create_publisher(Image, topic_back(view), qos_profile_sensor_data) for view in contract.cameras
        }
        for view, camera in contract.cameras.items():
            self.create_subscription(Image, camera.topic, partial(self._on_image, view), qos_profile_sensor_data)

    def _on_image(self, view: str, msg: Any) -> None:
        self._newest[view] = msg
        stamps = {(image.header.stamp.sec, image.header.stamp.nanosec) for image in self._newest.values()}
        if len(self._newest) == len(self._back) and len(stamps) == 1:
            for name, image in self._newest.items():
                self._back[name].publish(image)


def main() -> None:
    """Until a signal. Argument: the contract."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=[])
    try:
        rclpy.spin(Echo(load_contract(Path(sys.argv[1]))))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
