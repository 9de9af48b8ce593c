"""What measures a replay while it goes on."""

from __future__ import annotations

from typing import Protocol

from vla_ros.replay.decisions import Batch
from vla_ros.replay.judging.samples import Quantities


class Meter(Protocol):
    """Measures one kind of thing. It remembers no more of a bag than what the next tick is measured by.

    Where a replay is cut into batches makes no difference. Every call names all of the meter's quantities, those
    without samples too.
    """

    def hear(self, batch: Batch) -> Quantities:
        """What can be measured now."""
        ...

    def end(self) -> Quantities:
        """What is left when there is no more to hear."""
        ...
