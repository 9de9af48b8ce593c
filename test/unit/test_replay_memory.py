"""A replay of a network that remembers begins with its checkpoint's memory, however often it is replayed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from live_runs import LiveRun
from replay_policies import write_small_contract

from vla_ros import cli
from vla_ros.contract_file import load_contract
from vla_ros.model.checkpoint import save_checkpoint
from vla_ros.model.config import preset
from vla_ros.model.untrained import untrained


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live run's bag, and a network with a memory."""
    folder = tmp_path_factory.mktemp("place")
    contract = load_contract(write_small_contract(folder / "robot.yaml"))
    built = untrained(replace(preset("tiny", ("front", "wrist")), memory="external", memory_slots=8))
    save_checkpoint(folder / "network", built, contract, is_trained=True)
    LiveRun().run(1.2, {0.1: lambda run: run.say("open the drawer"), 0.2: LiveRun.arm}).write(folder / "lived")
    return folder


def replay(place: Path, output: Path, *options: str) -> int:
    words = [word for option in options for word in ("--option", option)]
    given = (
        "--checkpoint",
        str(place / "network"),
        "--output",
        str(output),
        "--threads",
        "1",
        "--option",
        "committed_s=0",
    )
    return cli.main(("replay", str(place / "lived"), *given, *words))


@pytest.mark.parametrize("how", ["write", "episode"])
def test_two_replays_of_a_policy_that_writes_its_memory_are_the_same_to_the_byte(
    place: Path, tmp_path: Path, how: str
) -> None:
    def decisions(name: str, *options: str) -> bytes:
        assert replay(place, tmp_path / name, *options) == 0
        return (tmp_path / name / "decisions.jsonl").read_bytes()

    before = {path: path.read_bytes() for path in (place / "network").iterdir()}
    writing = decisions("first", f"memory={how}")
    assert decisions("second", f"memory={how}") == writing
    assert {path: path.read_bytes() for path in (place / "network").iterdir()} == before
    _, *reading = decisions("third").splitlines()
    assert len(reading) == len(writing.splitlines()) - 1
    assert reading != writing.splitlines()[1:], "what it has just seen counts"


def test_a_memory_that_outlives_a_replay_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(place, tmp_path / "fourth", "memory=write", f"memory_file={tmp_path / 'm'}") == 2
    assert (
        "leave out the option memory_file: a replay begins with the checkpoint's own memory" in capsys.readouterr().err
    )
    assert not (tmp_path / "m").exists()
