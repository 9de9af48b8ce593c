"""Bags are written whole or not at all, and are read by others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import yaml
from mcap.reader import make_reader
from mcap.records import Channel, Schema
from mcap.records import Message as McapMessage
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_ros.bag_types import define, define_from_text
from vla_ros.bags import BagReader, BagWriter, Message, Qos, main, recover
from vla_ros.errors import BagError

STORE = get_typestore(Stores.ROS2_JAZZY)
STRING = "std_msgs/msg/String"
START_NS = 1_700_000_000_000_000_000


def text(words: str) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[STRING](data=words), STRING))


def said(count: int, topic: str = "/said") -> list[Message]:
    return [Message(topic, START_NS + index * 1000, text(f"word {index}")) for index in range(count)]


def write(path: Path, messages: list[Message], offered: tuple[Qos, ...] = ()) -> BagWriter:
    writer = BagWriter(path)
    writer.add_topic("/said", define(STRING), offered)
    for message in messages:
        writer.write(message)
    return writer


def test_a_bag_comes_back_as_it_was_written(tmp_path: Path) -> None:
    writer = write(tmp_path / "bag", said(5), (Qos(False, True, 7),))
    writer.note("publishers", "x")
    writer.close()
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.messages()) == said(5)
        assert list(bag.messages(["/other"])) == []
        topic = bag.topics["/said"]
        assert (topic.type, topic.count, topic.offered) == (STRING, 5, (Qos(False, True, 7),))
        assert bag.notes == {"publishers": "x"}
        assert bag.start_ns == START_NS
        assert bag.duration_s == pytest.approx(4e-6)


def test_others_read_it(tmp_path: Path) -> None:
    write(tmp_path / "bag", said(3)).close()
    (file,) = (tmp_path / "bag").glob("*.mcap")
    with file.open("rb") as stream:
        found = [(channel.topic, schema and schema.name, message.data) for schema, channel, message in _mcap(stream)]
    assert found == [("/said", STRING, message.data) for message in said(3)]
    with Reader(tmp_path / "bag") as reader:
        assert [data for _, _, data in reader.messages()] == [message.data for message in said(3)]
    info = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["storage_identifier"] == "mcap"
    assert info["relative_file_paths"] == [file.name]
    assert info["topics_with_message_count"][0]["topic_metadata"]["type_description_hash"].startswith("RIHS01_")


def _mcap(stream: IO[bytes]) -> list[tuple[Schema | None, Channel, McapMessage]]:
    return list(make_reader(stream).iter_messages())


def test_it_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    writer = write(tmp_path / "bag", said(1))
    assert not (tmp_path / "bag").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "bag", said(1)).close()
    with pytest.raises(BagError, match="exists already and is not overwritten"):
        BagWriter(tmp_path / "bag")
    write(tmp_path / "other", said(1))
    with pytest.raises(BagError, match=r"other.part is an unfinished recording: save it with 'python -m vla_ros.bags"):
        BagWriter(tmp_path / "other")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="cannot write a bag to"):
        BagWriter(tmp_path / "file" / "bag")


def test_an_empty_bag_is_a_bag(tmp_path: Path) -> None:
    write(tmp_path / "bag", []).close()
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.messages()) == []
        assert bag.duration_s == 0.0


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_bags import said, write
writer = write(Path(sys.argv[1]), said(4))
writer.flush()
for message in said(9)[4:]:
    writer.write(message)
os.kill(os.getpid(), 9)
"""


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    here = os.fspath(Path(__file__).parent)
    child = subprocess.run([sys.executable, "-c", KILLED, os.fspath(tmp_path / "bag"), here], check=False)
    assert child.returncode == -9
    with pytest.raises(BagError, match=r"recover it with 'python -m vla_ros.bags .*bag.part NEW_BAG'"):
        BagReader(tmp_path / "bag.part")
    assert recover(tmp_path / "bag.part", tmp_path / "saved") == 4
    with BagReader(tmp_path / "saved") as bag:
        assert list(bag.messages()) == said(4)
        assert bag.topics["/said"].type == STRING


def test_recovery_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "bag", said(3), (Qos(True, True, 1),)).flush()
    assert main([os.fspath(tmp_path / "bag.part"), os.fspath(tmp_path / "saved")]) == 0
    assert "3 messages saved" in capsys.readouterr().out
    with BagReader(tmp_path / "saved") as bag:
        assert bag.topics["/said"].offered == (Qos(True, True, 1),)
    assert main([os.fspath(tmp_path), "x"]) == 2
    assert "not one" in capsys.readouterr().err
    assert main([]) == 2


def test_sqlite_is_read(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/said", STRING, typestore=STORE)
        for message in said(3):
            writer.write(connection, message.stamp_ns, message.data)
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.messages()) == said(3)


def test_wrong_bags_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    write(tmp_path / "cut", said(100)).close()
    (file,) = (tmp_path / "cut").glob("*.mcap")
    file.write_bytes(file.read_bytes()[:3000])
    write(tmp_path / "lost", said(1)).close()
    next((tmp_path / "lost").glob("*.mcap")).unlink()
    write(tmp_path / "odd", said(1)).close()
    (tmp_path / "odd" / "metadata.yaml").write_text("{not: [yaml")
    for name, reason in {
        "nowhere": "does not exist",
        "empty": "has no metadata.yaml",
        "text.txt": "Unrecognized storage format",
        "cut": "cannot read bag",
        "lost": "files are missing",
        "odd": "Could not load YAML",
    }.items():
        with pytest.raises(BagError, match=reason) as caught:
            BagReader(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_reported_while_reading(tmp_path: Path) -> None:
    write(tmp_path / "bag", said(100)).close()
    (file,) = (tmp_path / "bag").glob("*.mcap")
    content = bytearray(file.read_bytes())
    content[60:200] = b"\xff" * 140
    file.write_bytes(bytes(content))
    with BagReader(tmp_path / "bag") as bag, pytest.raises(BagError, match="is damaged"):
        list(bag.messages())


def test_types_that_rosbags_does_not_know_come_from_installed_files(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "my_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Inner.msg").write_text("# a comment\nfloat64[<=3] values\nint8 MODE=1\n")
    (folder / "Outer.msg").write_text("std_msgs/Header header\nInner[] inner\nstring<=5 name 'x'\n")
    environ = {"AMENT_PREFIX_PATH": os.fspath(tmp_path)}
    definition = define("my_msgs/msg/Outer", environ)
    assert "MSG: my_msgs/Inner" in definition.text
    assert define_from_text("my_msgs/msg/Outer", definition.text) == definition
    with pytest.raises(BagError, match="package your_msgs is not installed here"):
        define("your_msgs/msg/Outer", environ)
