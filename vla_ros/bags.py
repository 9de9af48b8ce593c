"""Rosbag2 folders in and out, without ROS. Written as MCAP; read as MCAP or sqlite3.

python -m vla_ros.bags UNFINISHED.part NEW_BAG      saves what a killed recording had on disk
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

from vla_ros.bag_types import NEEDED, Definition, define_from_text
from vla_ros.errors import BagError, VlaRosError

try:
    from mcap.exceptions import McapError
    from mcap.reader import NonSeekingReader
    from mcap.records import Channel, Schema
    from rosbags.interfaces import (
        Connection,
        ConnectionExtRosbag2,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.interfaces import Qos as BagQos
    from rosbags.rosbag2 import Reader, StoragePlugin, WriterError
    from rosbags.rosbag2.metadata import parse_qos
    from rosbags.rosbag2.storage_mcap import McapWriter

    from vla_ros.bag_checksums import ChecksummedWriter
except ImportError as _error:
    raise BagError(f"{NEEDED} ({_error})") from _error

PART = ".part"
PUBLISHERS_NOTE = "vla_ros.publishers"  # JSON: topic -> full names of the nodes that published it
INFINITE = QosTime(9223372036, 854775807)


@dataclass(frozen=True)
class Qos:
    """What of a publisher's quality of service matters to a bag. depth 0: unknown."""

    reliable: bool
    transient_local: bool
    depth: int


@dataclass(frozen=True)
class Topic:
    """One topic of a bag. type: "sensor_msgs/msg/Image"; offered: one per publisher seen, perhaps none."""

    name: str
    type: str
    count: int
    offered: tuple[Qos, ...]


@dataclass(frozen=True)
class Message:
    """One recorded message. stamp_ns: when it was received; data: as serialized by ROS (CDR)."""

    topic: str
    stamp_ns: int
    data: bytes


class BagWriter:
    """Writes one bag under `<output>.part` and moves it to `<output>` on close. Never overwrites.

    What `flush` has written survives the death of the process, and `recover` makes a bag of it.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.counts: dict[str, int] = {}
        self.bytes_written = 0
        self._part = output.with_name(output.name + PART)
        if output.exists():
            raise BagError(f"{output} exists already and is not overwritten: choose another output")
        if self._part.exists():
            raise BagError(
                f"{self._part} is an unfinished recording: save it with 'python -m vla_ros.bags {self._part} NEW_BAG', "
                "or delete it"
            )
        # rosbags names the file after its folder, so the folder has its final name from the start. Version 9: Jazzy's.
        self._writer = ChecksummedWriter(self._part / output.name, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f"cannot write a bag to {output}: {error}") from error
        self._connections: dict[str, Connection] = {}

    def add_topic(self, name: str, definition: Definition, offered: Sequence[Qos] = ()) -> None:
        """Announce a topic. Raises BagError if it is there already."""
        try:
            self._connections[name] = self._writer.add_connection(
                name,
                definition.type,
                msgdef=definition.text,
                rihs01=definition.digest,
                offered_qos_profiles=[_to_bag(qos) for qos in offered],
            )
        except WriterError as error:
            raise BagError(str(error)) from error
        self.counts[name] = 0

    def write(self, message: Message) -> None:
        """Add a message of a topic that was announced. It reaches the disk with the next flush or full chunk."""
        try:
            self._writer.write(self._connections[message.topic], message.stamp_ns, message.data)
        except OSError as error:
            raise BagError(f"cannot write to {self._part}: {error}") from error
        self.counts[message.topic] += 1
        self.bytes_written += len(message.data)

    def note(self, key: str, value: str) -> None:
        """Put a remark into the metadata's custom data."""
        self._writer.set_custom_data(key, value)

    def flush(self) -> None:
        """Hand everything so far to the operating system, as a chunk that can be read on its own."""
        storage = cast(McapWriter, self._writer.storage)
        try:
            if storage.chunk.bio.tell():
                storage.close_chunk()
            storage.bio.flush()
        except OSError as error:
            raise BagError(f"cannot write to {self._part}: {error}") from error

    def discard(self) -> None:
        """Instead of `close`: leave nothing behind."""
        self._writer.abort()
        shutil.rmtree(self._part, ignore_errors=True)

    def close(self) -> None:
        """Write the index and the metadata and give the bag its name. An empty bag is a bag, too."""
        if not any(self.counts.values()):
            self._writer.min_timestamp = 0  # rosbags would write 2**63 - 1, beyond what rosbag2 reads as a time
        try:
            self._writer.close()
            (self._part / self.output.name).replace(self.output)
            self._part.rmdir()
        except OSError as error:
            raise BagError(f"cannot finish {self.output}: {error}; what was recorded is in {self._part}") from error


class BagReader:
    """Reads one bag: a rosbag2 folder, or a single .mcap or .db3 file. Use in `with`. Raises BagError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir() and not (path / "metadata.yaml").is_file():
            raise BagError(f"{path} is not a bag: it has no metadata.yaml" + _hint_of_part(path))
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # rosbags lets through whatever its parsers raise on a damaged file
            raise BagError(f"cannot read bag {path}: {_sentence(error)}") from error
        self.topics = {connection.topic: _topic(connection) for connection in self._reader.connections}

    @property
    def notes(self) -> Mapping[str, str]:
        """The metadata's custom data."""
        metadata = getattr(self._reader.storage, "metadata", None)
        return MappingProxyType(dict(getattr(metadata, "custom", None) or {}))

    @property
    def start_ns(self) -> int:
        """Stamp of the first message [ns]."""
        return self._reader.start_time

    @property
    def duration_s(self) -> float:
        """From the first to the last message [s]."""
        return max(0, self._reader.duration - 1) / 1e9

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """All messages of the given topics (all if None) by stamp."""
        wanted = [one for one in self._reader.connections if topics is None or one.topic in topics]
        if not wanted:
            return
        try:
            for connection, stamp_ns, data in self._reader.messages(wanted):
                yield Message(connection.topic, stamp_ns, bytes(data))
        except Exception as error:  # as above
            raise BagError(f"bag {self.path} is damaged: {_sentence(error)}") from error

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def recover(unfinished: Path, output: Path) -> int:
    """Make a bag of what an interrupted recording (`<bag>.part`, or a truncated .mcap) has on disk.

    Returns the number of messages. Lost is what came after the last flush. Raises BagError.
    """
    files = [unfinished] if unfinished.is_file() else sorted(unfinished.glob("**/*.mcap"))
    if len(files) != 1:
        raise BagError(f"{unfinished} is not an unfinished recording: it holds {len(files)} .mcap files, not one")
    writer = BagWriter(output)
    with files[0].open("rb") as file:
        for schema, channel, message in _readable(file):
            if channel.topic not in writer.counts:
                definition = define_from_text(schema.name, schema.data.decode())
                writer.add_topic(channel.topic, definition, _offered_in(channel))
            writer.write(Message(channel.topic, message.log_time, message.data))
    writer.close()
    return sum(writer.counts.values())


def _readable(file: IO[bytes]) -> Iterator[tuple[Schema, Channel, Any]]:
    """Messages up to the first damage."""
    messages = NonSeekingReader(file, validate_crcs=True).iter_messages(log_time_order=False)
    while True:
        try:
            schema, channel, message = next(messages)
        except (StopIteration, McapError, ValueError):
            return
        if schema is not None:
            yield schema, channel, message


def _offered_in(channel: Channel) -> list[Qos]:
    return [_from_bag(qos) for qos in parse_qos(channel.metadata.get("offered_qos_profiles", ""))]


def _topic(connection: Connection) -> Topic:
    extension = cast(ConnectionExtRosbag2, connection.ext)
    offered = tuple(_from_bag(qos) for qos in extension.offered_qos_profiles)
    return Topic(connection.topic, connection.msgtype, connection.msgcount, offered)


def _from_bag(qos: BagQos) -> Qos:
    return Qos(
        qos.reliability != QosReliability.BEST_EFFORT, qos.durability == QosDurability.TRANSIENT_LOCAL, qos.depth
    )


def _to_bag(qos: Qos) -> BagQos:
    return BagQos(
        QosHistory.KEEP_LAST if qos.depth else QosHistory.UNKNOWN,
        qos.depth,
        QosReliability.RELIABLE if qos.reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if qos.transient_local else QosDurability.VOLATILE,
        INFINITE,
        INFINITE,
        QosLiveliness.AUTOMATIC,
        INFINITE,
        False,
    )


def _hint_of_part(path: Path) -> str:
    part = path if path.name.endswith(PART) else path.with_name(path.name + PART)
    return f"; recover it with 'python -m vla_ros.bags {part} NEW_BAG'" if part.is_dir() else ""


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: Sequence[str]) -> int:
    """Recover an unfinished recording."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m vla_ros.bags UNFINISHED.part NEW_BAG\n")
        return 2
    try:
        count = recover(Path(arguments[0]), Path(arguments[1]))
    except VlaRosError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{count} messages saved to {arguments[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
