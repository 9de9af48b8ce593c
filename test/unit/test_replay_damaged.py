"""Whatever befell a bag, its replay ends in a report or in one clear sentence: no traceback, and no end of waiting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import pose
from live_runs import SENTENCE, LightSeeker, LiveRun, small_contract
from recorded_bags import STORE, Said, image, make, pose_stamped, text, write_bag
from replay_policies import write_small_contract

from vla_ros.bag_types import define
from vla_ros.bags import BagWriter, Message
from vla_ros.errors import BagError, VlaRosError
from vla_ros.replay.decisions import Outcome
from vla_ros.replay.one_bag import Order, perform, read_performed
from vla_ros.replay.run import Replay, Terms
from vla_ros.replay.showing import Shown
from vla_ros.replay.subject import Subject
from vla_ros.types import NS_PER_S

TRACES = ("/policy/trace", "/guard/trace")
MUTATIONS = 300
MOST_DECISIONS = 2000
JUDGED_EVERY = 10


@pytest.fixture(scope="module")
def lived() -> LiveRun:
    return LiveRun().run(1.0, {0.1: LiveRun.say, 0.15: LiveRun.arm, 0.6: lambda run: run.take_over(0.1)})


@pytest.fixture(scope="module")
def bag(lived: LiveRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived.write(tmp_path_factory.mktemp("bags") / "lived")


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So short a bag that it is replayed hundreds of times in a test."""
    run = LiveRun().run(0.25, {0.0: LiveRun.say, 0.05: LiveRun.arm})
    return run.write(tmp_path_factory.mktemp("bags") / "moment")


def outcome_of(bag: Path) -> tuple[int, Outcome]:
    """How many decisions, and how it ended."""
    replay = Replay(Terms(bag, small_contract()), "light seeker", LightSeeker())
    return sum(1 for _ in replay.decisions()), replay.outcome()


def ends_well(bag: Path) -> str:
    """What came of its decisions, in a word; every other end fails the test."""
    try:
        count, outcome = outcome_of(bag)
    except VlaRosError as error:
        assert str(error) and "Traceback" not in str(error)
        return "error"
    assert 0 < count <= MOST_DECISIONS
    return "damage" if outcome.damage else "report"


def is_judged_well(bag: Path, results: Path, contract: Path) -> str:
    """The same from the bag to the last number and the page; the log is written and read on the way."""
    subject = Subject("light", "replay_policies:light", {}, contract)
    order = Order(bag.name, bag, results, subject, shown=Shown(page=results / "report.html"))
    try:
        perform(order)
    except VlaRosError as error:
        assert str(error) and "Traceback" not in str(error)
        return "error"
    facts = read_performed(order).facts
    json.dumps(facts, allow_nan=False)
    assert (results / "report.html").stat().st_size > 10_000
    return "damage" if facts["damage"] else "report"


def copied(bag: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of a bag, and its one MCAP file."""
    shutil.copytree(bag, folder)
    (file,) = folder.glob("*.mcap")
    return folder, file


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 0.8, 0.999])
@pytest.mark.parametrize("has_description", [True, False])
def test_a_truncated_bag_is_replayed_up_to_the_damage(
    bag: Path, tmp_path: Path, share: float, has_description: bool
) -> None:
    folder, file = copied(bag, tmp_path / "bag")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    if not has_description:
        (folder / "metadata.yaml").unlink()
    if share < 0.1:
        with pytest.raises(BagError):
            outcome_of(folder)
        return
    count, outcome = outcome_of(folder)
    assert count > 0
    assert outcome.damage is not None and "is damaged and was read up to" in outcome.damage


def test_random_mutations_end_in_a_report_or_a_sentence(moment: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(20_240)
    contract = write_small_contract(tmp_path / "robot.yaml")
    ends: dict[str, int] = {}
    for index in range(MUTATIONS):
        folder, file = copied(moment, tmp_path / f"bag_{index}")
        victim = folder / "metadata.yaml" if index % 10 == 0 else file
        victim.write_bytes(mutated(victim.read_bytes(), random))
        if index % 3 == 0 and victim == file:
            (folder / "metadata.yaml").unlink()
        end = ends_well(folder)
        ends[end] = ends.get(end, 0) + 1
        if index % JUDGED_EVERY == 1:
            assert is_judged_well(folder, tmp_path / f"results_{index}", contract) == end
        shutil.rmtree(folder)
    assert sum(ends.values()) == MUTATIONS
    assert min(ends.get(end, 0) for end in ("error", "damage", "report")) > 0, ends


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Flipped, overwritten, dropped, doubled or swapped bytes, once or a few times."""
    spoilt = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        if not spoilt:
            break
        at = int(random.integers(len(spoilt)))
        length = int(random.choice([1, 4, 64, 1000]))
        kind = int(random.integers(5))
        if kind == 0:
            spoilt[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            spoilt[at : at + length] = random.bytes(len(spoilt[at : at + length]))
        elif kind == 2:
            del spoilt[at : at + length]
        elif kind == 3:
            spoilt[at:at] = spoilt[at : at + length]
        else:
            other = int(random.integers(len(spoilt)))
            spoilt[at : at + length], spoilt[other : other + length] = (
                spoilt[other : other + length],
                spoilt[at : at + length],
            )
    return bytes(spoilt)


def test_mutated_messages_end_in_a_report(lived: LiveRun, tmp_path: Path) -> None:
    """The file is sound here, and what is in it is not."""
    contract = write_small_contract(tmp_path / "robot.yaml")
    random = np.random.default_rng(7)
    for index in range(12):
        folder = tmp_path / f"bag_{index}"
        writer = BagWriter(folder)
        for one in sorted(lived.said, key=lambda one: one.received_ns):
            kind = one.message.__msgtype__
            if one.topic not in writer.counts:
                writer.add_topic(one.topic, define(kind))
            data = bytes(STORE.serialize_cdr(one.message, kind))
            spoilt = mutated(data, random) if random.random() < 0.05 else data
            writer.write(Message(one.topic, one.received_ns, spoilt))
        writer.close()

        assert is_judged_well(folder, tmp_path / f"results_{index}", contract) in ("report", "error")


def rewritten(lived: LiveRun, folder: Path, change: Callable[[list[Said]], Iterable[Said]]) -> Path:
    """The same run with other messages."""
    run = LiveRun()
    run.said = list(change(list(lived.said)))
    return run.write(folder)


@pytest.mark.parametrize("with_traces", [True, False])
@pytest.mark.parametrize("leap_s", [-5.0, -0.5, 3.0, 86_400.0 * 365])
def test_the_recorders_clock_may_leap(lived: LiveRun, tmp_path: Path, with_traces: bool, leap_s: float) -> None:
    def leap(said: list[Said]) -> Iterable[Said]:
        for place, one in enumerate(said):
            late_ns = round(leap_s * NS_PER_S) if place > len(said) // 2 else 0
            if with_traces or one.topic not in TRACES:
                yield replace(one, received_ns=one.received_ns + late_ns)

    count, outcome = outcome_of(rewritten(lived, tmp_path / "bag", leap))
    assert count > lived.ticks
    if not with_traces and leap_s > 1.0:
        assert any("clock was set" in note for note in outcome.notes)
        assert count < 10 * lived.ticks


@pytest.mark.parametrize("with_traces", [True, False])
def test_the_robots_clock_may_leap(lived: LiveRun, tmp_path: Path, with_traces: bool) -> None:
    for leap_s in (-50.0, 1e8):

        def leap(said: list[Said], leap_s: float = leap_s) -> Iterable[Said]:
            for place, one in enumerate(said):
                if not with_traces and one.topic in TRACES:
                    continue
                is_late = place > len(said) // 2
                yield replace(one, message=_moved(one.message, leap_s)) if is_late else one

        count, _ = outcome_of(rewritten(lived, tmp_path / f"bag {leap_s}", leap))
        assert count > lived.ticks


def _moved(message: Any, leap_s: float) -> Any:
    """A stamped message of another time."""
    if not hasattr(message, "header"):
        return message
    stamp = message.header.stamp
    moved = make("builtin_interfaces/msg/Time", sec=max(0, stamp.sec + int(leap_s)), nanosec=stamp.nanosec)
    return replace(message, header=replace(message.header, stamp=moved))


@pytest.mark.parametrize("with_traces", [True, False])
def test_messages_out_of_order_and_twice_are_sorted_out(lived: LiveRun, tmp_path: Path, with_traces: bool) -> None:
    random = np.random.default_rng(3)

    def shuffled(said: list[Said]) -> Iterable[Said]:
        kept = [one for one in said if with_traces or one.topic not in TRACES]
        late = [replace(one, received_ns=one.received_ns + int(random.integers(0, 300_000_000))) for one in kept]
        yield from late
        yield from (replace(one, received_ns=one.received_ns + 1000) for one in late[::3])

    count, outcome = outcome_of(rewritten(lived, tmp_path / "bag", shuffled))
    assert count >= 2 * lived.ticks - 2
    if with_traces:
        assert any("traces that came too late" in note for note in outcome.notes)


def test_images_without_pixels_are_refused_and_counted(lived: LiveRun, tmp_path: Path) -> None:
    def emptied(said: list[Said]) -> Iterable[Said]:
        for place, one in enumerate(said):
            is_image = one.topic == "/camera/top/image_raw" and place > 30
            yield replace(one, message=replace(one.message, data=np.zeros(0, np.uint8))) if is_image else one

    _, outcome = outcome_of(rewritten(lived, tmp_path / "bag", emptied))
    assert any("camera/top: truncated" in note for note in outcome.notes)
    assert outcome.missing.get("camera/top", 0) > 0


def test_a_robot_that_is_another_one_is_named(lived: LiveRun, tmp_path: Path) -> None:
    def larger(said: list[Said]) -> Iterable[Said]:
        for one in said:
            if one.topic.startswith("/camera/top"):
                yield replace(one, message=image(np.zeros((20, 20, 3), np.uint8), 5))
            else:
                yield one

    with pytest.raises(BagError, match=r"/camera/top/image_raw: an image of 20x20 pixels; the contract says 8x6"):
        outcome_of(rewritten(lived, tmp_path / "larger", larger))

    def elsewhere(said: list[Said]) -> Iterable[Said]:
        for one in said:
            is_pose = one.topic == "/ee_pose"
            yield replace(one, message=pose_stamped(pose(), 5, "world")) if is_pose else one

    with pytest.raises(BagError, match=r"/ee_pose: the frame is 'world'; only the contract's 'base' is read"):
        outcome_of(rewritten(lived, tmp_path / "elsewhere", elsewhere))


def test_a_topic_of_another_type_is_named(lived: LiveRun, tmp_path: Path) -> None:
    said = [replace(one, message=text("x")) if one.topic == "/ee_pose" else one for one in lived.said]
    with pytest.raises(BagError, match=r"/ee_pose is std_msgs/msg/String, not geometry_msgs/msg/PoseStamped"):
        outcome_of(write_bag(tmp_path / "bag", said))


SPOILT_FIELDS: tuple[dict[str, Any], ...] = (
    {"tick": "first"},
    {"steady_ns": 1e300},
    {"steady_ns": 2**70},
    {"inputs": [{"channel": "ee_pose", "receive_age_s": 1e300, "stamp_ns": 5}]},
    {"inputs": [{"channel": "ee_pose", "receive_age_s": 0.0, "value": 3}]},
    {"inputs": [{"channel": "command", "receive_age_s": 0.0, "value": None}]},
    {"inputs": {"channel": "ee_pose"}},
    {"replies": [{"id": 1}], "clips": [1]},
    {"output": [0.0] * 14, "command": {"position": [0.0, 0.0, 0.0], "quaternion": [0.0, 0.0, 0.0, 0.0]}},
    {"views": 3, "mode": "dancing"},
    {"instruction": ["open"]},
)


@pytest.mark.parametrize("spoilt", SPOILT_FIELDS, ids=[json.dumps(fields)[:40] for fields in SPOILT_FIELDS])
def test_traces_that_no_node_writes_are_refused_and_counted(
    lived: LiveRun, tmp_path: Path, spoilt: dict[str, Any]
) -> None:
    def some(said: list[Said]) -> Iterable[Said]:
        for place, one in enumerate(said):
            if one.topic in TRACES and place > len(said) // 2:
                yield replace(one, message=text(json.dumps({**json.loads(one.message.data), **spoilt})))
            else:
                yield one

    count, outcome = outcome_of(rewritten(lived, tmp_path / "bag", some))
    assert count > 0
    assert any("trace: bad_trace" in note for note in outcome.notes)


def test_traces_of_which_none_can_be_followed_are_an_error_that_says_why(lived: LiveRun, tmp_path: Path) -> None:
    nested = '{"inputs": [{"value": ' + "[" * 100_000
    said = [replace(one, message=text(nested)) if one.topic in TRACES else one for one in lived.said]
    with pytest.raises(BagError, match=r"has nothing to replay .*refused \d+ x /guard/trace: bad_json"):
        outcome_of(write_bag(tmp_path / "bag", said))


def test_a_bag_without_ticks_in_the_interval_is_an_error(lived: LiveRun, tmp_path: Path) -> None:
    late = [replace(one, received_ns=one.received_ns + 9 * NS_PER_S) for one in lived.said if one.topic not in TRACES]
    bag = write_bag(tmp_path / "bag", [*lived.said, *late])
    with pytest.raises(BagError, match=r"has nothing to replay from 5 to 9\.\d+ s"):
        sum(1 for _ in Replay(Terms(bag, small_contract(), from_s=5.0), "light seeker", LightSeeker()).decisions())


def test_the_sentence_is_known_without_its_topic(lived: LiveRun, tmp_path: Path) -> None:
    bag = lived.write(tmp_path / "bag", without=["/command"])
    replay = Replay(Terms(bag, small_contract()), "light seeker", LightSeeker())
    told = [one.text for one in replay.decisions() if hasattr(one, "ros_ns") and hasattr(one, "text")]
    assert told == [SENTENCE]
