"""Settings that every test shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are slow and busy: pytest-timeout bounds a test, not a deadline per example.
settings.register_profile("vla_ros", deadline=None, print_blob=True)
settings.load_profile("vla_ros")

_ROS = Path(__file__).parent / "ros"
MISSED_IN_TIME = (
    r"^AssertionError: not within [\d.]+ s: ",
    r"^AssertionError: process still runs after [\d.]+ s",
    r"^AssertionError: moves [\d.]+ s too long: ",
    r"^TimeoutExpired: ",
)
"""What a failure in test/ros says that is one of timing. All others fail at once: motion where there should be rest, a
wrong word, a stop that comes far too late or never."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with real processes share two cores with whatever else runs: a missed deadline is tried again, and told.

    A bound in time that holds in one of three tries was missed by the machine; a fault of ours fails all three.
    """
    for item in items:
        if _ROS in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1, only_rerun=MISSED_IN_TIME))
