"""A decision log holds every decision exactly, and is whole or absent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_ros.contract_file import load_contract
from vla_ros.control.safety import Motion
from vla_ros.errors import ReplayError
from vla_ros.replay.decision_log import DecisionLog, read_log, write_log
from vla_ros.replay.decisions import (
    GuardDecision,
    Instructed,
    Outcome,
    PolicyDecision,
    RecordedCommand,
    Replayed,
    ReplyDecision,
)
from vla_ros.types import Chunk, Now, Pose, Target, Twist

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")
IDENTITY = {"bag": "somewhere", "threads": 1}
NOW = Now(5, 7)
UNIT = np.array([0.0, 0.0, 0.0, 1.0])


def motion(values: np.ndarray, gripper: float | None = None) -> Motion:
    return Motion(Pose(values[:3], UNIT), Twist(values[3:6], values[6:9]), gripper)


def replayed(rows: np.ndarray) -> Replayed:
    reply = ReplyDecision(3, 4, "ab" * 32, Chunk(4, 0.0125, rows), "cd" * 32, "", 0.25)
    failed = ReplyDecision(4, 6, "ef" * 32, None, "", "it raised", 0.0)
    target = Target(Pose(rows[0, :3], UNIT), Twist(rows[0, 7:10], rows[0, 10:13]), float(rows[0, 13]))
    return Replayed(
        contract=CONTRACT,
        identity=IDENTITY,
        instructions=(Instructed(4, "push the puck"),),
        policy=(
            PolicyDecision(NOW, 0.0125, (reply,), 5, "commanding", target, 4),
            PolicyDecision(replace(NOW, ros_ns=6), 0.0125, (failed,), None, "silent", None, None, ("ee_pose",), ("a",)),
        ),
        guard=(GuardDecision(NOW, 0.01, "armed", "policy", "policy in command", ("workspace",), motion(rows[1], 0.5)),),
        recorded=(RecordedCommand(5, motion(rows[1])),),
        outcome=Outcome("it ends early", {"camera/front": 2}, ("a note",)),
    )


def plain(value: object) -> object:
    """Arrays by their bytes, so that == compares every bit."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in vars(value).items()} if hasattr(value, "__dict__") else value


@settings(deadline=None, max_examples=25)
@given(arrays(np.float64, (2, 14), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_what_is_written_is_read_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    written = replayed(rows)
    write_log(path, written)
    assert plain(read_log(path, CONTRACT)) == plain(written)
    first = path.read_bytes()
    write_log(path, read_log(path, CONTRACT))
    assert path.read_bytes() == first


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_chunk_that_was_refused_for_numbers_that_are_none_comes_back(tmp_path: Path, number: float) -> None:
    refused = np.full((2, 14), 1.0 / 3.0)
    refused[1, 4] = number
    written = replayed(np.zeros((2, 14)))
    reply = replace(written.policy[0].replies[0], chunk=Chunk(4, 0.0125, refused))
    written = replace(written, policy=(replace(written.policy[0], replies=(reply,)),))
    write_log(tmp_path / "log", written)
    assert plain(read_log(tmp_path / "log", CONTRACT)) == plain(written)


def test_a_replay_that_fails_leaves_no_log_and_an_old_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with pytest.raises(KeyboardInterrupt), DecisionLog(path, IDENTITY) as log:
        log.write(Instructed(1, "push"))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no identity"),
        ('{"kind": "policy"}\n', "no identity"),
        ("[1]\n", "line 1 is not of a decision log"),
        ("nonsense\n", "cannot be read"),
        ('{"kind": "identity"}\n', "cut short"),
        ('{"kind": "identity"}\n{"kind": "dance"}\n', "kind 'dance'"),
    ],
)
def test_what_is_no_log_is_refused_in_words(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(ReplayError, match=complaint):
        read_log(tmp_path / "log", CONTRACT)
    with pytest.raises(ReplayError, match="cannot be read"):
        read_log(tmp_path / "absent", CONTRACT)
