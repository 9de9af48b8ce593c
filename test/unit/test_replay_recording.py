"""Any bag is read: every storage, split, compressed, without its description; a damaged one up to the damage."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
import zstandard
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_ros.bag_types import define
from vla_ros.bags import BagWriter, Message
from vla_ros.errors import BagError
from vla_ros.replay.recording import Recording

STORE = get_typestore(Stores.ROS2_JAZZY)
STRING = "std_msgs/msg/String"
START_NS = 1_700_000_000_000_000_000
STEP_NS = 10_000_000
COUNT = 200


def said(index: int, topic: str = "/said") -> Message:
    words = f"word {index} " + "x" * 1000
    data = bytes(STORE.serialize_cdr(STORE.types[STRING](data=words), STRING))
    return Message(topic, START_NS + index * STEP_NS, data)


ALL = [said(index) for index in range(COUNT)]


def mcap(folder: Path, messages: list[Message] = ALL) -> Path:
    """A chunk every fifty messages."""
    writer = BagWriter(folder)
    writer.add_topic("/said", define(STRING))
    for index, message in enumerate(messages):
        writer.write(message)
        if index % 50 == 49:
            writer.flush()
    writer.close()
    return folder


def rosbags(folder: Path, storage: StoragePlugin, mode: CompressionMode | None = None) -> Path:
    writer = Writer(folder, version=9, storage_plugin=storage)
    if mode:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/said", STRING, typestore=STORE)
        for message in ALL:
            writer.write(connection, message.stamp_ns, message.data)
    return folder


def split(folder: Path) -> Path:
    """Eleven files, so that their alphabetic order is another than the one in which they were written."""
    folder.mkdir()
    parts = [ALL[start : start + 20] for start in range(0, COUNT, 20)] + [[]]
    names = [f"bag_{index}.mcap" for index in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        (bag_file,) = mcap(folder / "part", part).glob("*.mcap")
        bag_file.rename(folder / name)
        for leftover in (folder / "part").iterdir():
            leftover.unlink()
        (folder / "part").rmdir()
    return folder


def described(folder: Path) -> Path:
    """The same with a description that names its files."""
    split(folder)
    names = sorted((file.name for file in folder.iterdir()), key=lambda name: int(name[4:-5]))
    topic = {"name": "/said", "type": STRING, "serialization_format": "cdr", "offered_qos_profiles": ""}
    information = {
        "version": 5,
        "storage_identifier": "mcap",
        "relative_file_paths": names,
        "starting_time": {"nanoseconds_since_epoch": START_NS},
        "duration": {"nanoseconds": (COUNT - 1) * STEP_NS},
        "message_count": COUNT,
        "topics_with_message_count": [{"topic_metadata": topic, "message_count": COUNT}],
        "compression_format": "",
        "compression_mode": "",
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    return folder


def packed_by_hand(folder: Path) -> Path:
    """As rosbag2 compresses MCAP: file by file, which rosbags' writer does only for sqlite3."""
    mcap(folder)
    (file,) = folder.glob("*.mcap")
    (folder / f"{file.name}.zstd").write_bytes(zstandard.compress(file.read_bytes()))
    file.unlink()
    text = (folder / "metadata.yaml").read_text()
    metadata = yaml.safe_load(text)
    information = metadata["rosbag2_bagfile_information"]
    information["relative_file_paths"] = [f"{file.name}.zstd"]
    information["compression_format"], information["compression_mode"] = "zstd", "FILE"
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return folder


BAGS: dict[str, Callable[[Path], Path]] = {
    "mcap": mcap,
    "mcap of rosbags": lambda path: rosbags(path, StoragePlugin.MCAP),
    "sqlite3": lambda path: rosbags(path, StoragePlugin.SQLITE3),
    "sqlite3, files compressed": lambda path: rosbags(path, StoragePlugin.SQLITE3, CompressionMode.FILE),
    "sqlite3, messages compressed": lambda path: rosbags(path, StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "mcap, files compressed": packed_by_hand,
    "split, described": described,
    "split, without a description": split,
    "one file": lambda path: next(mcap(path).glob("*.mcap")),
    "one sqlite3 file": lambda path: next(rosbags(path, StoragePlugin.SQLITE3).glob("*.db3")),
}


@pytest.mark.parametrize("kind", BAGS)
def test_every_kind_of_bag_gives_the_same_messages_in_order(kind: str, tmp_path: Path) -> None:
    recording = Recording(BAGS[kind](tmp_path / "bag"))
    assert dict(recording.types) == {"/said": STRING}
    assert recording.start_ns == START_NS
    assert recording.end_ns == START_NS + (COUNT - 1) * STEP_NS
    assert list(recording.messages(["/said"])) == ALL
    assert list(recording.messages(["/said"], ALL[3].stamp_ns, ALL[7].stamp_ns)) == ALL[3:7]
    assert list(recording.messages(["/other"])) == []
    assert recording.damage is None


def truncated(folder: Path, share: float) -> Path:
    (file,) = mcap(folder).glob("*.mcap")
    whole = file.read_bytes()
    file.write_bytes(whole[: round(len(whole) * share)])
    return folder


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("has_description", [True, False])
def test_a_truncated_bag_is_read_up_to_the_damage_which_is_told(
    share: float, has_description: bool, tmp_path: Path
) -> None:
    folder = truncated(tmp_path / "bag", share)
    if not has_description:
        (folder / "metadata.yaml").unlink()
    recording = Recording(folder)
    read = list(recording.messages(["/said"]))
    assert read == ALL[: len(read)]
    assert COUNT * share - 51 < len(read) <= COUNT * share
    after_s = (read[-1].stamp_ns - START_NS) / 1e9
    assert recording.damage is not None
    assert recording.damage.startswith(f"bag.mcap is damaged and was read up to {after_s:.3f} s of the bag: ")


def test_flipped_bits_are_noticed_in_bags_of_our_own(tmp_path: Path) -> None:
    (file,) = mcap(tmp_path / "bag").glob("*.mcap")
    data = bytearray(file.read_bytes())
    data[data.index(b"word 119 ") + 500] ^= 1
    file.write_bytes(data)
    recording = Recording(tmp_path / "bag")
    assert list(recording.messages(["/said"])) == ALL[:100]
    assert recording.damage == "bag.mcap is damaged and was read up to 0.990 s of the bag: Chunk checksum mismatch."


def test_flipped_bits_are_noticed_where_there_is_no_index(tmp_path: Path) -> None:
    (file,) = mcap(tmp_path / "bag").glob("*.mcap")
    data = bytearray(file.read_bytes())
    data[data.index(b"word 119 ") + 500] ^= 1
    file.write_bytes(data[:-2000])
    recording = Recording(file)
    assert list(recording.messages(["/said"])) == ALL[:100]
    assert "read up to 0.990 s" in (recording.damage or "")


def test_a_spoilt_place_in_a_bag_without_checksums_is_told(tmp_path: Path) -> None:
    (file,) = rosbags(tmp_path / "bag", StoragePlugin.MCAP).glob("*.mcap")
    data = bytearray(file.read_bytes())
    place = data.index(b"word 119 ")
    data[place + 1020 : place + 1040] = b"\xff" * 20
    file.write_bytes(data)
    recording = Recording(tmp_path / "bag")
    read = list(recording.messages(["/said"]))
    assert read == [message for message in ALL if message in read]
    assert f"{COUNT - len(read)} messages on the way are missing" in (recording.damage or "")


def test_a_spoilt_sqlite3_bag_is_read_up_to_the_damage(tmp_path: Path) -> None:
    (file,) = rosbags(tmp_path / "bag", StoragePlugin.SQLITE3).glob("*.db3")
    whole = file.read_bytes()
    page = 4096
    file.write_bytes(whole[: len(whole) // 2 // page * page])
    recording = Recording(tmp_path / "bag")
    read = list(recording.messages(["/said"]))
    assert read == ALL[: len(read)]
    assert recording.damage is not None


def test_what_is_no_bag_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="there is no bag"):
        Recording(tmp_path / "absent")
    (tmp_path / "absent.part").mkdir()
    with pytest.raises(BagError, match=r"unfinished recording of it, .*absent\.part"):
        Recording(tmp_path / "absent")
    with pytest.raises(BagError, match=r"is no bag: a folder with metadata.yaml, or .mcap or .db3 files"):
        Recording(tmp_path / "absent.part")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BagError, match="is no bag"):
        Recording(tmp_path / "notes.txt")
    (tmp_path / "empty.mcap").write_bytes(b"")
    with pytest.raises(BagError, match="nothing of bag"):
        Recording(tmp_path / "empty.mcap")
    sqlite3.connect(tmp_path / "other.db3").close()
    with pytest.raises(BagError, match="nothing of bag"):
        Recording(tmp_path / "other.db3")
    bag = mcap(tmp_path / "bag")
    next(bag.glob("*.mcap")).unlink()
    with pytest.raises(BagError, match=r"lacks bag.mcap, of which its metadata.yaml tells"):
        Recording(bag)
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [1]")
    with pytest.raises(BagError, match="does not describe a bag"):
        Recording(bag)


def test_a_long_bag_needs_the_memory_of_a_moment(tmp_path: Path) -> None:
    folder = mcap(tmp_path / "bag", [said(index) for index in range(5000)])
    recording = Recording(folder)
    tracemalloc.start()
    try:
        assert sum(1 for _ in recording.messages(["/said"])) == 5000
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()
