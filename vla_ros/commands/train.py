"""train: from demonstrations to a checkpoint."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.commands.needed import needed
from vla_ros.commands.values import count
from vla_ros.learning.evaluation.names import LATENCY_S
from vla_ros.resources import named_file

if TYPE_CHECKING:
    from vla_ros.contract import Contract
    from vla_ros.learning.recipe import Recipe
    from vla_ros.learning.training import Rollouts

_INSTALL = "pip install torch transformers safetensors accelerate pyarrow tqdm matplotlib"
_DESCRIPTION = """\
Train a network by behaviour cloning, as a recipe says. Killed or interrupted, it goes on where it was when started
again with the same output folder, and ends with the same weights. Leaves in the output folder:

  last/, best/   checkpoints: of the end, and of the highest success of rollouts (where the recipe asks for those)
  log.csv        every step's losses, every validation; curves.png shows them
  state/         what going on needs; recipe.json says of which training, and no other goes on there

With --bags it learns from recordings, too: `vla_ros dataset from-bag` makes a dataset of them in the output folder, at
the rate of the recipe's own data. What a human did in them counts as the recipe's intervention_weight says, what a
policy did as its policy_weight: 0 to learn from the human alone.

On several GPUs: accelerate launch -m vla_ros.cli train RECIPE (make a dataset of bags before)"""


def add_parsers(subparsers: Any) -> None:
    """The command `train`."""
    parser = subparsers.add_parser(
        "train",
        help="train a network on demonstrations, by a recipe",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="a YAML file, or the name of one in config/training/")
    parser.add_argument("--output", type=Path, help="folder of the results (runs/train-<recipe>)")
    parser.add_argument(
        "--bags",
        nargs="+",
        type=Path,
        default=[],
        metavar="BAG",
        help="recordings, or folders of them, to learn from too",
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="of the robot's topics in the recordings")
    parser.add_argument("--threads", type=count, metavar="N", help="of the CPU (one per core)")
    parser.set_defaults(run=_run)


_RECORDED = "recorded"


def _rollouts(recipe: Recipe) -> Rollouts:
    """Share of successes of a checkpoint that drives the robot, on worlds for validation. It remembers if it can."""
    options = {"memory": "episode"} if recipe.model.memory == "external" else {}
    episodes = recipe.validation.rollouts

    def roll_out(checkpoint: Path, tasks: tuple[str, ...]) -> float:
        from vla_ros.learning.collection import default_workers
        from vla_ros.learning.evaluation.run import evaluate_quickly

        counts = evaluate_quickly(checkpoint, tasks, episodes, default_workers(), LATENCY_S, options)
        return sum(good for good, _ in counts.values()) / sum(count for _, count in counts.values())

    return roll_out


def _run(args: argparse.Namespace) -> int:
    with needed("training needs", _INSTALL):
        return _train(args)


def _train(args: argparse.Namespace) -> int:
    from vla_ros.contract_file import load_contract
    from vla_ros.learning.recipe import read_recipe
    from vla_ros.learning.training import train, use_threads

    path = named_file(args.recipe, "training")
    recipe = read_recipe(path)
    contract = load_contract(named_file(recipe.contract))
    output = args.output or Path("runs") / f"train-{path.stem}"
    if args.threads:
        use_threads(args.threads)
    if args.bags:
        recipe = _with_recordings(recipe, args, contract, output / _RECORDED)
    bags = ["--bags", *map(str, args.bags)] if args.bags else []
    bags += ["--namespace", args.namespace] if args.namespace else []
    record = {"command": " ".join(["vla_ros", "train", args.recipe, *bags])}
    checkpoint = train(recipe, contract, output, record, _rollouts(recipe))
    sys.stdout.write(f"done: {checkpoint}\n")
    return 0


def _with_recordings(recipe: Recipe, args: argparse.Namespace, contract: Contract, folder: Path) -> Recipe:
    """The same recipe on one more dataset, made of the bags. Raises VlaRosError."""
    from vla_ros.commands.from_bag import add_recordings
    from vla_ros.data.reader import Dataset
    from vla_ros.learning.recorded.alignment import Plan

    add_recordings(args.bags, folder, Plan(contract, Dataset.open(Path(recipe.data[0])).fps), args.namespace)
    return replace(recipe, data=(*recipe.data, str(folder)))
