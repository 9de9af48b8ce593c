"""dataset from-bag: recordings of the robot become demonstrations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.commands.values import count, counted
from vla_ros.errors import LearningError

if TYPE_CHECKING:
    from vla_ros.data.writer import DatasetWriter
    from vla_ros.learning.recorded.alignment import Plan
    from vla_ros.learning.recorded.episodes import Harvest
    from vla_ros.recorded_samples import Progress, RecordedSamples

_DESCRIPTION = """\
Turn bags into a dataset that `vla_ros train` learns from: at a fixed rate, what the required cameras and the robot
showed, and what the robot was then made to do. Nothing is made up: where a required input is stale, or nobody is in
command, there is no frame, and an episode ends; so it does at a new instruction. Frames at which a human was in command
are marked, and `intervention_weight` of a recipe says how much they count.

Who was in command is read from guard/trace; without it, from teleop/deadman and the topics that the robot obeys. A task
counts as done or not where sim/success says so, and else as unknown. Where the rate is higher than the cameras',
frames between two pictures have the last ones, are marked, and are not learned from as a start. A camera's JPEG files
are kept as they are; other pictures become PNG files. A bag that is in the dataset already is not added again, a run
that was cut short goes on where it was, and a damaged bag is used up to the damage."""
_EPILOG = """\
examples:
  vla_ros dataset from-bag runs/try1 --output data/takeover
  vla_ros dataset from-bag runs/*/bag --output data/takeover --rate 20 --contract my_robot.yaml

Exit status: 0 done, 2 wrong arguments, a bag without what the contract requires, or without any episode."""


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """The action `from-bag`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "from-bag",
        help="turn recordings into demonstrations; a human's takeovers are marked",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="a bag, or a folder of bags")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    parser.add_argument("--contract", default="sawyer_sim", help="of the robot that was recorded (sawyer_sim)")
    parser.add_argument("--rate", type=count, metavar="HZ", help="frames per second (that of the slowest camera)")
    parser.add_argument("--namespace", default="", metavar="NS", help="of the robot's topics")
    return parser


def from_bag(args: argparse.Namespace) -> None:
    """Read the bags, write the dataset, say what became of them. Raises VlaRosError."""
    from vla_ros.contract_file import load_contract
    from vla_ros.learning.recorded.alignment import Plan
    from vla_ros.resources import named_file

    contract = load_contract(named_file(args.contract))
    plan = Plan.at_camera_rate(contract) if args.rate is None else Plan(contract, args.rate)
    add_recordings(args.bags, args.output, plan, args.namespace)


def add_recordings(paths: Sequence[Path], output: Path, plan: Plan, namespace: str = "") -> None:
    """Add to a dataset, or begin one, and say what became of each bag. Raises VlaRosError: for what cannot be used at
    all before anything is written, and in the end where there was no episode.
    """
    from vla_ros.data.writer import DatasetWriter
    from vla_ros.learning.recorded.columns import schema_of
    from vla_ros.learning.recorded.episodes import Harvest
    from vla_ros.recorded_samples import RecordedSamples
    from vla_ros.replay.finding import find_bags
    from vla_ros.replay.recording import Recording

    bags = [RecordedSamples(Recording(path), plan, namespace) for path in find_bags(paths).values()]
    if plan.fps > (camera_hz := type(plan).at_camera_rate(plan.contract).fps):
        sys.stdout.write(f"between pictures, which come at {camera_hz} Hz, frames at {plan.fps} Hz have the last one\n")
    total = Harvest()
    with DatasetWriter(output, schema_of(plan)) as writer:
        for bag in bags:
            harvest = _add(bag, writer)
            sys.stdout.writelines(f"{line}\n" for line in _lines(bag, harvest, plan.fps))
            total.add(harvest)
        held, frames = len(writer.facts), writer.frames
    if total.episodes == 0:
        raise LearningError(f"there is no episode in {', '.join(map(str, paths))}: {_causes(total)}")
    sys.stdout.write(f"{output}: {counted(held, 'episode')}, {counted(frames, 'frame')} at {plan.fps} Hz\n")


def _add(bag: RecordedSamples, writer: DatasetWriter) -> Harvest:
    """All of a bag's episodes that the dataset does not hold yet."""
    from vla_ros.learning.recorded.alignment import Aligner
    from vla_ros.learning.recorded.columns import key_of, record_of
    from vla_ros.learning.recorded.episodes import Harvest, episodes_of
    from vla_ros.learning.recorded.spans import spans_of
    from vla_ros.recorded_samples import digest_of

    path, harvest = bag.recording.path, Harvest()
    digest = digest_of(path)
    there = {key_of(facts) for facts in writer.facts}
    aligner = Aligner(bag.plan, spans_of(bag.told()))
    with _progress(bag) as progress:
        for episode in episodes_of(aligner.align(bag.samples(progress)), bag.plan.fps, harvest):
            record = record_of(episode, path.name, digest)
            if key_of(record.facts) not in there:
                writer.add(record)
    harvest.refused.update(aligner.refused)
    harvest.refused.update(bag.unreadable)
    return harvest


@contextmanager
def _progress(bag: RecordedSamples) -> Iterator[Progress]:
    from tqdm import tqdm

    from vla_ros.types import NS_PER_S

    start_ns, length_ns = bag.recording.start_ns, bag.recording.end_ns - bag.recording.start_ns
    name, total_s = bag.recording.path.name, max(1, round(length_ns / NS_PER_S))
    with tqdm(total=total_s, unit="s", desc=f"reading {name}", file=sys.stderr, leave=False) as bar:

        def at(stamp_ns: int) -> None:
            seconds = (stamp_ns - start_ns) // NS_PER_S
            if seconds > bar.n:
                bar.update(seconds - bar.n)

        yield at


def _lines(bag: RecordedSamples, harvest: Harvest, fps: int) -> Iterator[str]:
    yield (
        f"{bag.recording.path}: {counted(harvest.episodes, 'episode')}, {counted(harvest.frames, 'frame')} "
        f"({harvest.frames / fps:.1f} s); a human took over {counted(harvest.takeovers, 'time')}, for "
        f"{counted(harvest.human_frames, 'frame')}"
    )
    if not bag.has_trace:
        yield "  without guard/trace: who was in command is guessed, and braking may count as a command"
    if harvest.short_episodes:
        short = counted(harvest.short_episodes, "too short episode")
        yield f"  left out: {short}, {counted(harvest.short_frames, 'frame')}"
    if harvest.gaps or harvest.refused:
        yield f"  {_causes(harvest)}"
    if bag.recording.damage is not None:
        yield f"  {bag.recording.damage}"


def _causes(harvest: Harvest) -> str:
    """Why there are no more frames."""
    parts = []
    for what, counts in (("gaps", harvest.gaps), ("messages refused", harvest.refused)):
        if counts:
            told = ", ".join(f"{name} ({number})" for name, number in counts.most_common())
            parts.append(f"{what}: {told}")
    return "; ".join(parts) or "no time at which every camera was seen"
