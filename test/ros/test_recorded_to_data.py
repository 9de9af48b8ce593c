"""A human takes over the running robot, the recorder listens, and one command makes data of it that says so."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import Process, spawn_node, wait_for
from rig import CONTRACT, SENTENCE, Rig, running_rig
from sweeping_policy import SPEED_M_S

from vla_ros import cli
from vla_ros.data.reader import Dataset
from vla_ros.replay.recording import Recording
from vla_ros.replay.topics import deserialize
from vla_ros.types import NS_PER_S

UP_M_S, HELD_S = 0.1, 1.5
NEEDED = ("guard/trace", "ee_pose", "joint_states", *(f"camera/{view}/image_raw" for view in ("front", "wrist", "top")))


def await_recorder(rig: Rig, record: Process, before: list[int]) -> None:
    """Until somebody more listens to each of the topics."""

    def listens() -> bool:
        return not record.running() or all(now > then for now, then in zip(listeners(rig), before, strict=True))

    wait_for(listens, 30.0, "the recorder listens")


def listeners(rig: Rig) -> list[int]:
    return [rig.probe.node.count_subscribers(topic) for topic in NEEDED]


def await_ros_time(rig: Rig, seconds: float) -> None:
    end_ns = rig.records.ros_ns(time.monotonic_ns()) + round(seconds * NS_PER_S)
    wait_for(lambda: rig.records.ros_ns(time.monotonic_ns()) >= end_ns, 10.0 * seconds, "simulated time passes")


def human_in_command_s(bag: Path) -> float:
    """By the guard's own traces, ROS time: a busy machine may silence teleop before it is handed back."""
    recording = Recording(bag)
    [topic] = [name for name in recording.types if name.endswith("guard/trace")]
    messages = (deserialize(message.data, recording.types[topic]) for message in recording.messages([topic]))
    ticks = [json.loads(message.data) for message in messages]
    spans_ns = [after["ros_ns"] - tick["ros_ns"] for tick, after in pairwise(ticks) if tick["source"] == "teleop"]
    return sum(spans_ns) / NS_PER_S


def test_a_takeover_over_dds_becomes_data_that_marks_the_human(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / "bag"
    with running_rig() as rig:
        before = listeners(rig)
        parameters = {"output": bag, "topics": NEEDED, "use_sim_time": True}
        with spawn_node("record_node", rig.env, parameters) as record:
            await_recorder(rig, record, before)
            rig.await_motion()
            await_ros_time(rig, 1.0)
            rig.take_over((0.0, 0.0, UP_M_S))
            await_ros_time(rig, HELD_S)
            rig.hand_back()
            rig.await_motion()
            await_ros_time(rig, 1.0)
            assert record.stop() == 0, record.output()
    words = ["dataset", "from-bag", str(bag), "--output", str(tmp_path / "data"), "--contract", str(CONTRACT)]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "arrived more than" not in said, f"not within 0.25 s: the recorder hears what is said; {said}"
    dataset = Dataset.open(tmp_path / "data")
    assert {episode.task for episode in dataset.episodes} == {SENTENCE}
    assert len(dataset.episodes) >= 2, "what the policy did while it had to look anew is no demonstration"
    human = dataset.column("is_intervention")
    held_s = human_in_command_s(bag)
    assert 0.4 < held_s < HELD_S + 0.4
    assert abs(int(human.sum()) / dataset.fps - held_s) <= 0.4, said
    speed = np.linalg.norm(velocity := dataset.column("action")[:, 7:10], axis=1)
    # By the simulation's clock, which a busy machine makes uneven.
    np.testing.assert_allclose(np.median(velocity[human], axis=0), [0.0, 0.0, UP_M_S], atol=0.05)
    assert np.median(velocity[human][:, 2]) > 0.5 * UP_M_S
    assert 0.5 * SPEED_M_S < np.median(speed[~human]) < 1.5 * SPEED_M_S
