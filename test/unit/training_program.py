"""A training that a test starts as a process of its own, to kill it: python training_program.py RECIPE OUTPUT."""

from __future__ import annotations

import sys
from pathlib import Path

from vla_ros.contract_file import load_contract
from vla_ros.learning.recipe import read_recipe
from vla_ros.learning.training import Rollouts, train, use_threads
from vla_ros.resources import named_file


def half_succeed(checkpoint: Path, tasks: tuple[str, ...]) -> float:
    """Rollouts that take no time."""
    return 0.5


def run(recipe_path: Path, output: Path, rollouts: Rollouts = half_succeed) -> Path:
    """Train in this process, on one thread."""
    use_threads(1)
    recipe = read_recipe(recipe_path)
    return train(recipe, load_contract(named_file(recipe.contract)), output, {}, rollouts)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
