"""dataset: look into a folder of demonstrations, check all of it; make one of recordings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.commands import from_bag
from vla_ros.commands.needed import needed
from vla_ros.errors import DataError

if TYPE_CHECKING:
    from vla_ros.contact_sheet import Band
    from vla_ros.data.index import Episode
    from vla_ros.data.reader import Dataset
    from vla_ros.data.summary import Summary

_SHOWN_SENTENCES = 40

_DESCRIPTION = """\
Demonstrations on disk. A dataset is a folder in LeRobot's format v3.0 (data/, meta/, perhaps videos/), with units
declared in meta/info.json. Nothing here needs ROS, torch or LeRobot, and nothing moves a robot."""
_EPILOG = """\
examples:
  vla_ros dataset inspect data/mt10
  vla_ros dataset inspect data/mt10 --contact-sheet mt10.png
  vla_ros dataset inspect data/mt10 --json | jq .tasks
  vla_ros dataset from-bag runs/try1 --output data/takeover

`vla_ros dataset ACTION --help` says more. Exit status: 0 done, 2 it is wrong, and where."""
_INSPECT = """\
Read every frame, decode every picture, and say what there is: episodes, successes and lengths per task, sentences,
subtasks, sizes, statistics of each value, and what looks odd. The first thing that is wrong ends it with one sentence
that names the file, the row and the column."""


def add_parsers(subparsers: Any) -> None:
    """The command `dataset` and its actions."""
    parser = subparsers.add_parser(
        "dataset",
        help="look into a folder of demonstrations and check all of it; make one of recordings",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="actions")
    inspect = actions.add_parser(
        "inspect",
        help="check all of a dataset and say what is in it",
        description=_INSPECT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect.add_argument("folder", type=Path, help="of the dataset")
    inspect.add_argument("--contact-sheet", type=Path, metavar="PNG", help="write a picture: an episode of each task")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of tables")
    inspect.set_defaults(run=_guarded, action=_inspect, install="pip install pyarrow tqdm")
    from_bag.add_parser(actions).set_defaults(
        run=_guarded, action=from_bag.from_bag, install="pip install pyarrow tqdm rosbags mcap msgspec"
    )


def _guarded(args: argparse.Namespace) -> int:
    with needed("datasets need", args.install):
        args.action(args)
    return 0


def _inspect(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vla_ros.data.checks import check_dataset
    from vla_ros.data.reader import Dataset
    from vla_ros.data.summary import summarise

    dataset = Dataset.open(args.folder)
    with tqdm(total=dataset.frames, unit="frame", desc="checking", file=sys.stderr, leave=False) as bar:
        check_dataset(dataset, on_frames=bar.update)
    summary = summarise(dataset)
    if args.contact_sheet is not None:
        _write_sheet(dataset, args.contact_sheet)
    sys.stdout.write(json.dumps(asdict(summary), indent=2) + "\n" if args.json else "\n".join(_lines(summary)) + "\n")


def _write_sheet(dataset: Dataset, path: Path) -> None:
    from vla_ros.contact_sheet import contact_sheet
    from vla_ros.data.files import replacing
    from vla_ros.data.summary import episodes_by_task, succeeded

    if not dataset.schema.views:
        raise DataError(f"{dataset.folder} has no pictures to make a contact sheet of")
    bands = []
    for task, episodes in episodes_by_task(dataset).items():
        shown = next(filter(succeeded, episodes), episodes[0])
        bands.append(_band(dataset, task, shown))
    with replacing(path) as draft:
        contact_sheet(bands).save(draft, format="PNG")


def _band(dataset: Dataset, task: str, episode: Episode) -> Band:
    import numpy as np

    from vla_ros.contact_sheet import Band
    from vla_ros.data.episode import image_encoding
    from vla_ros.images import frame_to_rgb
    from vla_ros.types import NS_PER_S, Frame

    views = {}
    for view in dataset.schema.views:
        files = dataset.episode_images(view, episode)
        views[view] = {
            number * NS_PER_S // dataset.fps: frame_to_rgb(Frame(np.frombuffer(data, np.uint8), image_encoding(data)))
            for number, data in enumerate(files)
        }
    return Band(f'{task}: "{episode.task}", episode {episode.index}', views)


def _lines(summary: Summary) -> Iterator[str]:
    seconds = summary.frames / summary.fps
    yield (
        f"{summary.folder}: {summary.robot_type}, {summary.episodes} episodes, {summary.frames:,} frames "
        f"at {summary.fps} Hz ({seconds:,.0f} s), {summary.size_bytes / 1e6:,.1f} MB in {summary.files} files"
    )
    yield f"views: {', '.join(f'{view} {what}' for view, what in summary.views.items()) or 'none'}"
    yield f"units: {', '.join(f'{quantity} {unit}' for quantity, unit in summary.units.items())}"
    yield ""
    yield from _table(
        ("task", "episodes", "success", "frames", "shortest", "median", "longest", "sentences"), _tasks(summary)
    )
    yield ""
    sentences = sorted(summary.sentences.items(), key=lambda item: -item[1])
    yield from _table(("sentence", "episodes"), [(text, str(count)) for text, count in sentences[:_SHOWN_SENTENCES]])
    if len(sentences) > _SHOWN_SENTENCES:
        yield f"... and {len(sentences) - _SHOWN_SENTENCES} more, all of them with --json"
    yield ""
    if summary.subtasks:
        yield from _table(("subtask", "frames"), [(name, f"{count:,}") for name, count in summary.subtasks.items()])
        yield ""
    columns = [(c.name, *(f"{value:.4g}" for value in (c.low, c.high, c.mean, c.std))) for c in summary.columns]
    yield from _table(("value", "min", "max", "mean", "std"), columns)
    yield ""
    yield from (f"warning: {warning}" for warning in summary.warnings)
    yield "every frame was read and every picture decoded: nothing is wrong"


def _tasks(summary: Summary) -> list[tuple[str, ...]]:
    return [
        (
            task.name,
            str(task.episodes),
            "-" if task.successes is None else f"{task.successes / task.episodes:.0%}",
            f"{task.frames:,}",
            str(task.shortest),
            f"{task.median:g}",
            str(task.longest),
            str(task.sentences),
        )
        for task in summary.tasks
    ]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()
