"""What the user of `python -m bench` may choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vla_ros.resources import config_path


@dataclass(frozen=True)
class Options:
    """blocks: how often what is measured and what it is compared with take turns; seconds: of each turn.

    tasks: empty for MT10's ten, ("all",) for Meta-World's fifty; variations: of the test split, per task.
    foresight: a calibrated checkpoint that foresees; hours: of undisturbed runs.
    retrained: a checkpoint trained as mt10 was, with another seed; bags: of mt10 at work; None: there is none.
    plan: of an ablation; only: parts or variants of it; steps: of each training; None: as planned. workers: how many of
    those at once; None: as many as there are cores, and 1 where there is a GPU. episodes: of each
    task of an ablation, or kind of disturbance; None: as planned.
    """

    output: Path = Path("runs") / "bench"
    contract: Path = field(default_factory=lambda: config_path("sawyer_sim"))
    blocks: int = 5
    seconds: float = 20.0
    tasks: tuple[str, ...] = ()
    variations: int = 10
    fresh: bool = False
    with_ros: bool = True
    retrained: Path | None = None
    foresight: Path = Path("runs") / "train-mt10-foresight" / "last"
    hours: float = 2.0
    bags: Path | None = None
    plan: Path | None = None
    only: tuple[str, ...] = ()
    steps: int | None = None
    workers: int | None = None
    episodes: int | None = None
