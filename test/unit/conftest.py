"""Settings of the tests that need no ROS."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest test/unit --steps 1000000`: how many guard steps the random programs run."""
    parser.addoption("--steps", type=int, default=100_000, help="guard steps in test_guard_properties.py")
