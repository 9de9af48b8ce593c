"""Which bags are meant: those that are named, and those in folders, each with a short name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vla_ros.bags import PART
from vla_ros.errors import ReplayError

_METADATA = "metadata.yaml"
_STORAGE = re.compile(r".+\.(mcap|db3)(\.zstd)?")


def find_bags(paths: Sequence[Path]) -> Mapping[str, Path]:
    """Short name -> bag. A folder that is no bag itself is searched for bags, but not for unfinished recordings.

    Short names are the last parts of paths, as many as tell them apart. Raises ReplayError where there is no bag.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        # One that is not there is left to whoever opens it, who says what is wrong.
        bags = list(_bags_below(path)) if path.is_dir() else [path]
        if not bags:
            raise ReplayError(f"{path} holds no bag: a folder with {_METADATA}, or .mcap or .db3 files")
        found.update({bag.resolve(): bag for bag in bags})
    return _named(list(found.values()))


def _bags_below(folder: Path) -> Iterator[Path]:
    if (folder / _METADATA).is_file():
        yield folder
        return
    inner = sorted(folder.iterdir(), key=lambda path: path.name)
    files = [path for path in inner if path.is_file() and _STORAGE.fullmatch(path.name)]
    # Without its description a recording is known by the names that rosbag2 gives to its files.
    parts = re.compile(rf"{re.escape(folder.name)}_\d+\.")
    if files and all(parts.match(file.name) for file in files):
        yield folder
        return
    yield from files
    for path in inner:
        if path.is_dir() and not path.name.startswith(".") and path.suffix != PART:
            yield from _bags_below(path)


def _named(bags: Sequence[Path]) -> Mapping[str, Path]:
    parts = {bag: bag.resolve().with_suffix("").parts if bag.is_file() else bag.resolve().parts for bag in bags}
    names = {}
    for bag, own in parts.items():
        count = 1
        while any(other[-count:] == own[-count:] for one, other in parts.items() if one != bag) and count < len(own):
            count += 1
        names["-".join(own[-count:])] = bag
    return names
