"""A bag as far as it can be read: one file or many, MCAP or sqlite3, compressed or not, sound or damaged.

Messages come one at a time in the order of reception, so that a bag of any size needs the memory of a moment. A bag
that is damaged is read up to the damage, and `Recording.damage` says where that is.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from vla_ros.bag_types import NEEDED
from vla_ros.bags import Message
from vla_ros.errors import BagError
from vla_ros.types import NS_PER_S

try:
    import zstandard
    from mcap.exceptions import EndOfFile
    from mcap.reader import NonSeekingReader
    from rosbags.rosbag2 import Reader
except ImportError as _error:
    raise BagError(f"{NEEDED} ({_error})") from _error

_METADATA = "metadata.yaml"
_SUFFIXES = (".mcap", ".db3")
_ZSTD = ".zstd"
_FOR_EVER_NS = 2**63 - 1


@dataclass(frozen=True)
class _Contents:
    """What is in a bag. types: by topic, one of those a topic was recorded with; start_ns, end_ns: first and last."""

    files: tuple[Path, ...]
    are_messages_compressed: bool
    types: Mapping[str, str]
    start_ns: int
    end_ns: int


@dataclass
class Recording:
    """damage: None until `messages` comes upon it, or where there is none. Raises BagError for what is no bag at all.

    start_ns, end_ns: stamps of reception of the first and the last message, as far as known before reading.
    """

    path: Path
    damage: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._contents = _contents(self.path)
        self.types, self.start_ns, self.end_ns = self._contents.types, self._contents.start_ns, self._contents.end_ns

    def messages(self, topics: Collection[str], start_ns: int = 0, stop_ns: int = _FOR_EVER_NS) -> Iterator[Message]:
        """Messages of some topics received at or after start_ns and before stop_ns, up to a damage."""
        newest_ns, file = self.start_ns, self.path
        try:
            for file in self._contents.files:
                for message in _messages_in(file, topics, start_ns, stop_ns, self._contents.are_messages_compressed):
                    newest_ns = max(newest_ns, message.stamp_ns)
                    yield message
        except _DAMAGE as error:
            self.damage = _damage(file, (newest_ns - self.start_ns) / NS_PER_S, error)


# What the libraries let through where a file is damaged is anything that their parsers meet.
_DAMAGE = (Exception,)


def _damage(file: Path, after_s: float, error: Exception) -> str:
    return f"{file.name} is damaged and was read up to {after_s:.3f} s of the bag: {_why(error)}"


def _why(error: Exception) -> str:
    """What a library says, in words that help; those of a parser that came upon the end too early do not."""
    if isinstance(error, (EndOfFile, EOFError, struct.error)):
        return "it ends too early"
    return " ".join(str(error).split()) or type(error).__name__


def _contents(path: Path) -> _Contents:
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        hint = f"; there is an unfinished recording of it, {part}" if part.is_dir() else ""
        raise BagError(f"there is no bag {path}{hint}")
    if (path / _METADATA).is_file():
        return _described(path)
    files = [path] if path.is_file() else sorted(_files_in(path), key=_natural)
    if not files or (path.is_file() and _storage_suffix(path) is None):
        raise BagError(f"{path} is no bag: a folder with {_METADATA}, or {' or '.join(_SUFFIXES)} files, is one")
    return _scanned(path, files)


def _files_in(folder: Path) -> Iterator[Path]:
    yield from (file for file in folder.iterdir() if file.is_file() and _storage_suffix(file))


def _storage_suffix(file: PurePath) -> str | None:
    suffix = file.with_suffix("").suffix if file.suffix == _ZSTD else file.suffix
    return suffix if suffix in _SUFFIXES else None


def _natural(file: Path) -> list[tuple[int, str]]:
    """bag_2 before bag_10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", file.name)]


def _described(folder: Path) -> _Contents:
    """By the bag's own description, without looking into its files."""
    try:
        described = yaml.safe_load((folder / _METADATA).read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        files = tuple(folder / PurePath(name).name for name in described["relative_file_paths"])
        topics = [entry["topic_metadata"] for entry in described["topics_with_message_count"]]
        types = {str(topic["name"]): str(topic["type"]) for topic in topics}
        formats = {topic["serialization_format"] for topic in topics} - {"cdr"}
        start_ns = int(described["starting_time"]["nanoseconds_since_epoch"])
        end_ns = start_ns + int(described["duration"]["nanoseconds"])
        mode = str(described.get("compression_mode") or "").lower()
        compression = str(described.get("compression_format") or "")
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BagError(f"{folder / _METADATA} does not describe a bag: {type(error).__name__}: {error}") from error
    if formats:
        raise BagError(f"{folder} holds messages in {', '.join(sorted(formats))}; only cdr is read")
    if mode in ("file", "message") and compression != "zstd":
        raise BagError(f"{folder} is compressed by {compression}; only zstd is read")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise BagError(f"{folder} lacks {', '.join(missing)}, of which its {_METADATA} tells")
    return _Contents(files, mode == "message", types, start_ns, end_ns)


def _scanned(path: Path, files: Sequence[Path]) -> _Contents:
    """By its files: of a recording that was cut short there is nothing else."""
    types: dict[str, str] = {}
    starts_ns, ends_ns = [], []
    problem = "it is empty"
    try:
        for file in files:
            with _opened(file) as storage:
                types.update(storage.types)
                starts_ns.append(storage.start_ns)
                ends_ns.append(storage.end_ns)
    except BagError as error:  # what lies behind the damage is not read either
        problem = str(error)
    if not types:
        raise BagError(f"nothing of bag {path} can be read: {problem}")
    return _Contents(tuple(files), False, types, min(starts_ns), max(ends_ns))


@dataclass(frozen=True)
class _Storage:
    """An open file. reader: rosbags'; None for one without a readable index, which is read from its beginning."""

    file: Path
    reader: Any
    types: Mapping[str, str]
    start_ns: int
    end_ns: int


@contextmanager
def _opened(file: Path) -> Iterator[_Storage]:
    """A file, unpacked first if need be. Raises BagError if nothing can be read."""
    with TemporaryDirectory() as folder:
        plain = _unpacked(file, Path(folder)) if file.suffix == _ZSTD else file
        reader = Reader(plain)
        try:
            reader.open()
        except _DAMAGE as error:
            if plain.suffix != ".mcap":
                raise BagError(f"cannot read {file}: {_why(error)}") from error
            yield _without_index(plain)
            return
        try:
            types = {connection.topic: connection.msgtype for connection in reader.connections}
            yield _Storage(plain, reader, types, reader.start_time, reader.end_time - 1)
        finally:
            reader.close()


def _unpacked(file: Path, folder: Path) -> Path:
    plain = folder / file.stem
    with file.open("rb") as packed, plain.open("wb") as target:
        shutil.copyfileobj(zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True), target)
    return plain


def _without_index(file: Path) -> _Storage:
    """An MCAP file that ends too early. What it holds is known only by reading it."""
    types: dict[str, str] = {}
    start_ns, end_ns = _FOR_EVER_NS, 0
    try:
        for topic, type_, stamp_ns, _ in _from_the_beginning(file):
            types[topic] = type_
            start_ns, end_ns = min(start_ns, stamp_ns), max(end_ns, stamp_ns)
    except _DAMAGE as error:
        if not types:
            raise BagError(f"cannot read {file}: {_why(error)}") from error
    return _Storage(file, None, types, start_ns, end_ns)


def _from_the_beginning(file: Path) -> Iterator[tuple[str, str, int, bytes]]:
    with file.open("rb") as stream:
        for schema, channel, message in NonSeekingReader(stream, validate_crcs=True).iter_messages(
            log_time_order=False
        ):
            if schema is not None:
                yield channel.topic, schema.name, message.log_time, message.data


def _messages_in(
    file: Path, topics: Collection[str], start_ns: int, stop_ns: int, are_compressed: bool
) -> Iterator[Message]:
    with _opened(file) as storage:
        if storage.reader is None:
            for topic, _, stamp_ns, data in _from_the_beginning(storage.file):
                if topic in topics and start_ns <= stamp_ns < stop_ns:
                    yield Message(topic, stamp_ns, data)
            return
        wanted = [connection for connection in storage.reader.connections if connection.topic in topics]
        if not wanted:
            return
        unpack = zstandard.ZstdDecompressor().decompress if are_compressed else bytes
        count = 0
        for connection, stamp_ns, data in storage.reader.messages(wanted, start_ns, stop_ns):
            yield Message(connection.topic, stamp_ns, unpack(data))
            count += 1
        # Spoilt lengths within a chunk may hide the rest of it from rosbags without an error.
        lost = sum(connection.msgcount for connection in wanted) - count
        if lost and start_ns <= storage.start_ns and stop_ns > storage.end_ns:
            raise BagError(f"{lost} messages on the way are missing")
