"""What measures a replay while it goes on."""

from __future__ import annotations

from typing import Protocol

from vla_ros.replay.decisions import Batch
from vla_ros.replay.judging.samples import Measured


class Meter(Protocol):
    """Measures one kind of thing, and remembers little of what is past: some seconds, and what happens seldom.

    Together its answers name all of its quantities that could be measured, those without samples too. Where a replay is
    cut into batches makes no difference, as long as what is of one instant stays together.
    """

    def hear(self, batch: Batch) -> Measured:
        """What can be measured now."""
        ...

    def clock_set_back(self) -> Measured:
        """What refers to the ROS time that ends here. The next batch is of a new one."""
        ...

    def end(self) -> Measured:
        """What is left when there is no more to hear."""
        ...
