"""`vla_ros replay`: gates that pass and fail a build, and what is said of one bag."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from live_runs import LiveRun
from replay_policies import write_small_contract

from vla_ros import cli
from vla_ros.replay.decision_log import open_log
from vla_ros.replay.judging.catalogue import METRICS

LIGHT = ("--policy", "replay_policies:light")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a live run's bag and contract."""
    folder = tmp_path_factory.mktemp("place")
    write_small_contract(folder / "robot.yaml")
    LiveRun().run(1.5, {0.1: LiveRun.say, 0.2: LiveRun.arm}).write(folder / "lived")
    return folder


def replay(place: Path, output: Path, *words: str, policy: Sequence[str] = LIGHT, contract: Path | None = None) -> int:
    """The command on the live run; returns its exit status."""
    robot = contract or place / "robot.yaml"
    given = ("replay", str(place / "lived"), "--contract", str(robot), "--output", str(output))
    try:
        return cli.main((*given, *policy, *words))
    except SystemExit as end:  # argparse's own
        return int(end.code or 0)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of what was refused, and nothing of Python's."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_a_bag_is_measured_and_every_decision_written_down(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(place, tmp_path / "out") == 0
    text = said(capsys)
    assert "120 of 120 ticks have all their inputs in the bag, 120 agree" in text
    assert "nothing was asked of it" in text
    identity, lines = open_log(tmp_path / "out" / "decisions.jsonl")
    assert identity["latency"] == "recorded" and len(identity["bag"]) == 64
    assert sum(line["kind"] == "policy" for line in lines) == 120


def test_golden_passes_what_decides_alike_and_fails_what_is_a_percent_off(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = ("--golden", str(tmp_path / "golden" / "lived.jsonl"))
    assert replay(place, tmp_path / "none", *golden) == 1
    assert "--update-golden makes it" in said(capsys)
    assert replay(place, tmp_path / "first", *golden, "--update-golden") == 0
    assert replay(place, tmp_path / "second", *golden) == 0
    assert "byte for byte" in said(capsys)
    assert replay(place, tmp_path / "third", *golden, "--option", "gain=1.01") == 1
    text = said(capsys)
    assert "FAILED  golden: same conditions: options.gain is " in text
    assert "FAILED  golden: same decisions: " in text
    assert ", first policy at " in text and "replies[0].chunk" in text


def test_golden_tells_other_conditions_from_other_decisions(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = tmp_path / "golden.jsonl"
    assert replay(place, tmp_path / "first", "--golden", str(golden), "--update-golden") == 0
    identity, *lines = golden.read_text().splitlines(keepends=True)
    other = {**json.loads(identity), "versions": {"numpy": "0.1"}}
    golden.write_text("".join([json.dumps(other) + "\n", *lines]))
    said(capsys)
    assert replay(place, tmp_path / "second", "--golden", str(golden)) == 1
    text = said(capsys)
    assert "FAILED  golden: same conditions: versions.numpy is" in text and 'not "0.1"' in text
    assert "passed  golden: same decisions: all" in text


@pytest.mark.parametrize("content", ["", "{", "\x00\xff", '{"kind": "identity"}\nnonsense\n', "[1]\n"])
def test_a_golden_that_is_no_log_is_refused(
    content: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_bytes(content.encode("latin-1"))
    assert replay(place, tmp_path / "out", "--golden", str(golden)) == 2
    assert "decision log" in refused(capsys)


def test_conditions_pass_or_fail_by_what_was_measured(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harmless = ("--fail-on", "position_error_p95>0.05", "--fail-on", "stops > 0")
    assert replay(place, tmp_path / "good", *harmless) == 0
    assert "lived: PASSED, 2 of 2 checks passed" in said(capsys)
    assert replay(place, tmp_path / "bad", *harmless, "--fail-on", "position_error_p95>=0") == 1
    text = said(capsys)
    assert "lived: FAILED, 2 of 3 checks passed" in text
    assert "FAILED  not position_error_p95>=0" in text


def test_what_cannot_be_measured_fails(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before_any_instruction = ("--to", "0.05")
    assert replay(place, tmp_path / "out", *before_any_instruction, "--fail-on", "direction_agreement<0.5") == 1
    assert "could not be measured" in said(capsys)


def test_a_policy_that_is_never_in_command_passes_no_gate(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = ("stops", "latches", "near_misses", "policy_failures", "gripper_missed")
    gates = [word for name in counts for word in ("--fail-on", f"{name}>0")]
    assert replay(place, tmp_path / "out", "--to", "0.05", *gates) == 1
    text = said(capsys)
    assert text.count("could not be measured") == len(counts)
    assert "nothing was measured: the policy was not told to do anything" in text


def test_damage_is_told_where_the_verdict_is(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(place / "lived", torn / "lived")
    (file,) = (torn / "lived").glob("*.mcap")
    os.truncate(file, file.stat().st_size // 2)
    gates = ("--fail-on", "stops>0", "--fail-on", "damaged>0", "--junit", str(tmp_path / "r.xml"))
    assert replay(torn, tmp_path / "out", *gates, contract=place / "robot.yaml") == 1
    text = said(capsys)
    assert "  damaged: lived.mcap is damaged and was read up to " in text
    assert "FAILED  not damaged>0: damaged is 1 bags" in text and "passed  not stops>0" in text
    told = ElementTree.parse(tmp_path / "r.xml").findtext("testsuite/system-out")
    assert told is not None and told.startswith("damaged: lived.mcap is damaged")
    facts = json.loads((tmp_path / "out" / "measured.json").read_text())
    assert 0.0 < facts["duration_s"] < 1.2


def test_what_an_earlier_run_said_does_not_stand_for_one_that_failed(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--fail-on", "stops>0", "--junit", str(tmp_path / "r.xml"))
    assert replay(place, tmp_path / "out", *words) == 0
    assert replay(place, tmp_path / "out", *words, "--from", "100") == 2
    assert "there is nothing from 100" in refused(capsys)
    root = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("1", "1")
    assert json.loads((tmp_path / "out" / "replay.json").read_text())["status"] == 2
    assert replay(place, tmp_path / "out", *words, "--from", "100", "--json") == 2
    assert "nothing from 100" in json.loads(said(capsys))["bags"][0]["failure"]
    assert replay(place, tmp_path / "out", *words, "--report") == 0
    assert replay(place, tmp_path / "out", *words, policy=("--checkpoint", "nobody")) == 2
    assert not any(path.exists() for path in (tmp_path / "r.xml", *(tmp_path / "out").glob("re*")))


def test_the_golden_of_one_bag_may_lie_in_a_folder(place: Path, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    assert replay(place, tmp_path / "out", "--golden", str(tmp_path / "golden"), "--update-golden") == 0
    assert [path.name for path in (tmp_path / "golden").iterdir()] == ["lived.jsonl"]
    assert replay(place, tmp_path / "out", "--golden", str(tmp_path / "golden")) == 0


def test_json_and_junit_tell_the_same(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = tmp_path / "ci" / "replay.xml"
    words = ("--fail-on", "stops>0", "--fail-on", "position_error_p95>=0", "--json", "--junit", str(junit))
    assert replay(place, tmp_path / "out", *words) == 1
    printed = json.loads(said(capsys))
    assert printed == json.loads((tmp_path / "out" / "replay.json").read_text())
    assert (printed["passed"], printed["status"]) == (False, 1)
    assert [check["passed"] for check in printed["verdicts"][0]["checks"]] == [True, False]
    assert printed["bags"][0]["agreement"]["guard"]["agreeing"] == 120
    assert printed["metrics"]["stops"] == 0.0
    root = ElementTree.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    [suite] = root.findall("testsuite")
    assert [len(case.findall("failure")) for case in suite.findall("testcase")] == [0, 1]


def test_a_part_of_a_bag_at_another_latency(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(place, tmp_path / "out", "--from", "0.5", "--to", "1", "--latency", "0.2", "--json") == 0
    printed = json.loads(said(capsys))
    assert printed["bags"][0]["duration_s"] == pytest.approx(0.5)
    assert printed["bags"][0]["ticks"]["guard"] == pytest.approx(40, abs=1)
    assert printed["metrics"]["latency_p50"] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--fail-on", "positon_error_p95>1"), "did you mean position_error_p95"),
        (("--fail-on", "stops"), "is not a condition such as"),
        (("--latency", "soon"), "neither recorded, nor measured, nor seconds"),
        (("--from", "-1"), "is not a time in the bag"),
        (("--from", "2", "--to", "3"), "there is nothing from 2 to 1.4"),
        (("--from", "1", "--to", "0.5"), "an interval begins before it ends"),
        (("--junit", "."), ". is a folder; a file is to be written there"),
        (("--update-golden",), "--update-golden needs --golden"),
        (("--golden", "g", "--latency", "measured"), "never the same twice"),
        (("--threads", "2"), "--threads is for the network of a --checkpoint"),
        (("--option", "gain"), "is not of the form key=value"),
        (("--checkpoint", "mt10"), "--policy NAME, not both"),
        (("--against", "nobody"), "no checkpoint of the package's"),
        (("--with-inputs",), "--with-inputs is for the bag"),
        (("--namespace", "arm1"), "lacks /arm1/"),
        (("--ray", "local", "--workers", "2"), "either --workers or --ray"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    words: tuple[str, ...], text: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(place, tmp_path / "out", *words) == 2
    assert text in refused(capsys)


def test_a_missing_bag_and_a_folder_without_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("replay", str(tmp_path / "gone"), "--policy", "hold", "--output", str(tmp_path / "out"))) == 2
    assert "there is no bag" in refused(capsys)
    assert cli.main(("replay", str(tmp_path), "--policy", "hold", "--output", str(tmp_path / "out"))) == 2
    assert "holds no bag" in refused(capsys)


def test_every_metric_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
    assert set(METRICS) - set(re.findall(r"`([a-z0-9_]+)`", page)) == set()


def test_a_page_and_a_bag_to_look_at(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ("--report", "--bag-output", str(tmp_path / "made"))
    assert replay(place, tmp_path / "out", *made) == 0
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "made" / "metadata.yaml").is_file()
    said(capsys)
    assert replay(place, tmp_path / "again", *made) == 2
    assert "exists already" in refused(capsys)
