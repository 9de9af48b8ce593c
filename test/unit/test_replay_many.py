"""`vla_ros replay` on many bags: found, side by side, gone on with, and judged together."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from live_runs import LiveRun
from replay_policies import write_small_contract

from vla_ros import cli
from vla_ros.errors import BagError, ReplayError
from vla_ros.replay.finding import find_bags
from vla_ros.replay.recording import Recording

NAMES = ("one", "three", "two")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A contract, and a folder of three bags."""
    folder = tmp_path_factory.mktemp("place")
    write_small_contract(folder / "robot.yaml")
    for index, name in enumerate(NAMES):
        run = LiveRun().run(0.7 + 0.1 * index, {0.1: LiveRun.say, 0.15: LiveRun.arm})
        (folder / "bags").mkdir(exist_ok=True)
        run.write(folder / "bags" / name)
    return folder


def replay(place: Path, output: Path, *words: str, bags: Path | None = None, policy: str = "light") -> int:
    given = ("replay", str(bags or place / "bags"), "--contract", str(place / "robot.yaml"), "--output", str(output))
    return cli.main((*given, "--policy", f"replay_policies:{policy}", *words))


def written(output: Path) -> dict[str, int]:
    """When each bag's decisions were written."""
    return {name: (output / name / "decisions.jsonl").stat().st_mtime_ns for name in NAMES}


def test_processes_side_by_side_decide_as_one_does(place: Path, tmp_path: Path) -> None:
    assert replay(place, tmp_path / "alone") == 0
    assert replay(place, tmp_path / "beside", "--workers", "2") == 0
    for name in NAMES:
        logs = [(tmp_path / output / name / "decisions.jsonl").read_bytes() for output in ("alone", "beside")]
        assert logs[0] == logs[1]


def test_what_was_replayed_is_not_replayed_again_unless_something_differs(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert replay(place, output) == 0
    before = written(output)
    shutil.rmtree(output / "two")
    first = json.loads((output / "replay.json").read_text())
    assert replay(place, output, "--fail-on", "stops>0") == 0
    assert {name: when == before[name] for name, when in written(output).items()} == {
        "one": True,
        "three": True,
        "two": False,
    }
    assert json.loads((output / "replay.json").read_text())["metrics"] == first["metrics"]
    assert "all together: PASSED" in capsys.readouterr().out
    before = written(output)
    assert replay(place, output, "--option", "gain=2") == 0
    assert all(when != before[name] for name, when in written(output).items())
    before = written(output)
    assert replay(place, output, "--option", "gain=2", "--fresh") == 0
    assert all(when != before[name] for name, when in written(output).items())


def test_a_bag_that_cannot_be_read_is_told_of_and_the_others_are_replayed(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = tmp_path / "bags"
    shutil.copytree(place / "bags", bags)
    (bags / "spoilt").mkdir()
    (bags / "spoilt" / "spoilt_0.mcap").write_bytes(b"no bag")
    assert replay(place, tmp_path / "out", "--junit", str(tmp_path / "r.xml"), bags=bags) == 2
    text = capsys.readouterr().out
    assert "spoilt could not be replayed: nothing of bag" in text
    assert all((tmp_path / "out" / name / "decisions.jsonl").is_file() for name in NAMES)
    assert 'testsuite name="spoilt"' in (tmp_path / "r.xml").read_text()


def test_what_is_damaged_is_told_by_name_and_what_all_have_once(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = tmp_path / "bags"
    shutil.copytree(place / "bags", bags)
    (file,) = (bags / "two").glob("*.mcap")
    os.truncate(file, file.stat().st_size // 2)
    assert replay(place, tmp_path / "out", "--fail-on", "damaged>0", "--junit", str(tmp_path / "r.xml"), bags=bags) == 1
    text = capsys.readouterr().out
    assert text.count("  two: damaged: two.mcap is damaged and was read up to ") == 1
    assert replay(place, tmp_path / "again", "--junit", str(tmp_path / "r.xml"), bags=bags) == 0
    assert "two: damaged: two.mcap" in (tmp_path / "r.xml").read_text()


def test_a_folder_of_bags_is_no_bag(place: Path) -> None:
    with pytest.raises(BagError, match="is no bag"):
        Recording(place / "bags")


def test_a_process_that_dies_costs_its_bag_only(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = ("--option", f"once={tmp_path / 'once'}")
    assert replay(place, tmp_path / "out", "--workers", "2", *once, policy="deadly_at") == 2
    text = capsys.readouterr().out
    assert text.count("could not be replayed: the process that replayed it was killed by signal 9") == 1
    assert len(list((tmp_path / "out").glob("*/measured.json"))) == 2
    # And the same command does what is missing.
    assert replay(place, tmp_path / "out", "--workers", "2", *once, policy="deadly_at") == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_leaves_what_is_finished_and_the_same_command_goes_on(
    workers: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = ("--workers", workers, "--option", f"loads={tmp_path / 'loads'}", "--option", f"pid={os.getpid()}")
    assert replay(place, output, *words, policy="interrupting") == 130
    assert "bags are done, and stay so" in capsys.readouterr().err
    assert not list(output.rglob("*.draft"))
    finished = {path.parent.name for path in output.glob("*/measured.json")}
    assert len(finished) < 3
    before = {name: (output / name / "measured.json").stat().st_mtime_ns for name in finished}
    assert replay(place, output, *words, policy="interrupting") == 0
    assert {name: (output / name / "measured.json").stat().st_mtime_ns for name in finished} == before
    assert not list(output.rglob("*.draft"))


def test_conditions_are_for_all_bags_together_and_for_each_if_asked(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(place, tmp_path / "out", "--fail-on", "compared_rows<100") == 0
    assert "all together: PASSED, 1 of 1" in capsys.readouterr().out
    assert replay(place, tmp_path / "out", "--fail-on", "compared_rows<100", "--each") == 1
    text = capsys.readouterr().out
    assert "all together: PASSED" in text and "one: FAILED" in text


def test_every_bag_has_a_golden_of_its_own(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = ("--golden", str(tmp_path / "golden"))
    assert replay(place, tmp_path / "out", *golden, "--update-golden") == 0
    assert sorted(path.name for path in (tmp_path / "golden").iterdir()) == [f"{name}.jsonl" for name in NAMES]
    (tmp_path / "golden" / "two.jsonl").unlink()
    assert replay(place, tmp_path / "out", *golden) == 1
    text = capsys.readouterr().out
    assert "two: FAILED" in text and "one: PASSED, 2 of 2" in text


def test_the_worst_moments_of_all_bags_come_first_each_with_its_bag(place: Path, tmp_path: Path) -> None:
    assert replay(place, tmp_path / "out") == 0
    moments = json.loads((tmp_path / "out" / "replay.json").read_text())["moments"]
    sizes = [moment["size"] for moment in moments if moment["kind"] == "error"]
    assert sizes and sizes == sorted(sizes, reverse=True)
    assert {moment["bag"] for moment in moments} == set(NAMES)


def test_bags_are_found_in_folders_and_called_as_short_as_they_differ(tmp_path: Path) -> None:
    for path in (
        "old.part/old/old.mcap",
        "a/bag/metadata.yaml",
        "b/bag/metadata.yaml",
        "cut/cut_0.mcap",
        "cut/cut_1.mcap",
        "loose/x.db3",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = {name: str(path.relative_to(tmp_path)) for name, path in find_bags([tmp_path]).items()}
    assert found == {"a-bag": "a/bag", "b-bag": "b/bag", "cut": "cut", "x": "loose/x.db3"}
    assert list(find_bags([tmp_path / "a" / "bag", tmp_path / "a"])) == ["bag"]
    with pytest.raises(ReplayError, match="holds no bag"):
        (tmp_path / "empty").mkdir()
        find_bags([tmp_path / "empty"])


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_asked_for_by_name_where_it_is_missing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(place, tmp_path / "out", "--ray", "local") == 2
    assert "Ray is not installed: pip install" in capsys.readouterr().err.splitlines()[-1]
