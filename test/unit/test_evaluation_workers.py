"""Evaluation with real workers and the simulated robot: the oracle, and policies that go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vla_ros import cli
from vla_ros.contract_file import load_contract
from vla_ros.errors import LearningError
from vla_ros.learning.evaluation.log import OutcomeLog
from vla_ros.learning.evaluation.performer import Performer, within_reach
from vla_ros.learning.evaluation.pool import Pool
from vla_ros.learning.evaluation.run import Conditions, evaluate_quickly, run_trials
from vla_ros.learning.evaluation.subject import policy_subject
from vla_ros.learning.evaluation.suites import trials
from vla_ros.learning.evaluation.trials import Order, Outcome
from vla_ros.policy.metaworld_action import REACH_MAX, REACH_MIN
from vla_ros.policy.sentences import load_sentences
from vla_ros.resources import config_path
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.variations import Variation

TABLE = load_sentences()
ORACLE = policy_subject("oracle")
PAIR = ("drawer-open-v3", "drawer-close-v3")


def orders(suite: str, tasks: Iterable[str], episodes: int, horizon: int = 400) -> list[Order]:
    return [Order(trial, horizon, 1) for trial in trials(suite, tuple(tasks), TABLE, episodes)]


def ignore(_line: str) -> None:
    """Nobody listens."""


def quietly(outcomes: Iterable[Outcome], _total: int) -> Iterable[Outcome]:
    return outcomes


@pytest.fixture(scope="module")
def measured() -> list[Outcome]:
    """The oracle told to open and to close the same drawer, and told nothing."""
    asked = [*orders("opposites", PAIR, 1), *orders("opposites_blank", PAIR, 1, horizon=40)]
    with Pool(ORACLE, 2) as pool:
        return sorted(pool.perform(asked), key=lambda outcome: (outcome.suite, outcome.task))


def test_commands_stay_where_the_robot_of_each_world_follows() -> None:
    """The contract of corner2 is for all of MT50: it allows what only some worlds do."""
    contract = load_contract(config_path("sawyer_corner2"))
    lowest = {}
    for task in ("reach-v3", "hand-insert-v3"):
        robot = SimRobot(task, Variation("test", 0), ())
        box = within_reach(contract, robot).limits.workspace_m
        assert np.array_equal(box.min, robot.state().privileged[REACH_MIN])
        assert np.array_equal(box.max, robot.state().privileged[REACH_MAX])
        lowest[task] = box.min[2]
    assert lowest["hand-insert-v3"] < 0.0 < lowest["reach-v3"]


def test_the_oracle_does_as_told_with_a_half_open_drawer(measured: list[Outcome]) -> None:
    told = measured[:2]
    assert [outcome.task for outcome in told] == ["drawer-close-v3", "drawer-open-v3"]
    for outcome in told:
        assert outcome.success and (outcome.stops, outcome.latches) == (0, 0)
        assert outcome.moved_m is not None and 0.05 <= outcome.moved_m < 0.08
        assert outcome.smoothness is not None and outcome.smoothness < 0.0
        assert outcome.path_m is not None and outcome.path_m > 0.05
        assert len(outcome.inference_ms) >= outcome.steps - 2


def test_a_policy_that_refuses_a_sentence_fails_the_trial_and_not_the_run(measured: list[Outcome]) -> None:
    for outcome in measured[2:]:
        assert not outcome.success and outcome.steps == 40
        assert outcome.moved_m == pytest.approx(0.0, abs=0.005)


def test_an_outcome_does_not_depend_on_what_was_done_before(measured: list[Outcome]) -> None:
    with Performer(ORACLE) as performer:
        performer.perform(orders("seen_phrasings", ["reach-v3"], 1, horizon=30)[0])
        again = performer.perform(orders("opposites", PAIR, 1)[0])
    before = next(outcome for outcome in measured if outcome.key == again.key)
    assert replace(again, inference_ms=()) == replace(before, inference_ms=())


def test_a_run_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    asked = trials("seen_phrasings", ["drawer-close-v3"], TABLE, 3)

    def cut_short(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
        yield next(iter(outcomes))
        raise KeyboardInterrupt

    counted = []

    def counting(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
        counted.append(total)
        return outcomes

    conditions = Conditions(latency_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        run_trials(ORACLE, asked, conditions, 1, OutcomeLog(tmp_path, {}), cut_short, ignore)
    run_trials(ORACLE, asked, conditions, 1, OutcomeLog(tmp_path, {}), counting, ignore)
    log = OutcomeLog(tmp_path, {})
    assert counted == [2]
    assert [outcome.key for outcome in log.outcomes] == [trial.key for trial in asked]
    assert all(outcome.success for outcome in log.outcomes)
    run_trials(ORACLE, asked, conditions, 1, log, counting, ignore)
    assert counted == [2], "nothing was missing"


def test_a_checkpoint_in_the_making_is_measured_quickly() -> None:
    assert evaluate_quickly("oracle", ["drawer-close-v3"], 2, 1, latency_s=0.02) == {"drawer-close-v3": (2, 2)}


DYING = """
import os
from vla_ros.policy.hold import create as hold
def create(contract, options):
    policy = hold(contract, {})
    class Dying:
        needs = policy.needs
        def predict(self, observation):
            os.kill(os.getpid(), 9) if options["how"] == "killed" else 1 / 0
    return Dying()
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("killed", "a worker was killed by signal 9 at seen_phrasings, reach-v3 test:0;"),
        ("raises", "a worker ended with status 1 at"),
    ],
)
def test_a_worker_that_dies_is_told_of_with_its_trial(
    how: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dying_policy.py").write_text(DYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Pool(policy_subject("dying_policy:create", {"how": how}), 1) as pool, pytest.raises(LearningError, match=said):
        list(pool.perform(orders("seen_phrasings", ["reach-v3"], 1)))
    assert ("ZeroDivisionError" in capfd.readouterr().err) == (how == "raises")


def test_a_policy_that_cannot_be_loaded_is_one_sentence() -> None:
    with pytest.raises(LearningError, match="the oracle takes no options, but was given speed"):
        Pool(policy_subject("oracle", {"speed": "9"}), 2)


def test_the_command_measures_writes_and_does_not_measure_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--policy", "oracle", "--suite", "seen_phrasings", "--tasks", "drawer-close-v3"]
    words += ["--episodes", "1", "--workers", "1", "--output", str(tmp_path)]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "| drawer-close-v3 | 1/1 " in printed.out and "1 episodes, 0 of them measured before" in printed.err
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["suites"]["seen_phrasings"]["all"]["successes"] == 1
    assert written["latency"]["source"] == "measured here, workers side by side: 1"
    assert (tmp_path / "evaluation" / "evaluation.md").read_text() in printed.out
    for kind in ("tasks", "suites", "latency"):
        with Image.open(tmp_path / "evaluation" / f"evaluation-{kind}.png") as picture:
            assert picture.format == "PNG"
    assert cli.main(words) == 0
    assert "1 of them measured before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name either a checkpoint's folder or a policy"),
        (("--policy", "vla"), "the policy 'vla' needs a checkpoint"),
        (("nowhere",), "'nowhere' is no folder, and no checkpoint of the package's: mt10"),
        (("--policy", "hold", "--suite", "hard"), "invalid choice: 'hard'"),
        (("--policy", "hold", "--tasks", "fly"), "'fly' is not a task; choose mt10, mt50, or from"),
        (("--policy", "hold", "--latency", "soon"), "'soon' is neither 'measured' nor seconds from 0 to 10"),
        (("--policy", "hold", "--workers", "0"), "'0' is not a whole number of at least 1"),
        (("--policy", "hold", "--option", "speed"), "policy option 'speed' is not of the form key=value"),
        (("--policy", "hold", "--tasks", "reach-v3", "--suite", "opposites"), "opposites needs both tasks of a drawer"),
        (("--policy", "hold", "--protocol", "mt1"), "invalid choice: 'mt1'"),
        (("--policy", "hold", "--protocol", "metaworld-mt50", "--ros"), "metaworld-mt50 says what is run: leave out"),
        (("--policy", "fly", "--tasks", "reach-v3", "--workers", "1"), "there is no policy 'fly'; choose one of"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["evaluate", *words])
    except SystemExit as end:  # argparse's own
        status = int(end.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert said in printed.splitlines()[-1] and "Traceback" not in printed


def test_the_published_protocol_is_a_report_of_its_own_that_says_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--policy", "oracle", "--protocol", "metaworld-mt50", "--tasks", "drawer-close-v3"]
    assert cli.main([*words, "--latency", "0.02", "--workers", "1", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| drawer-close-v3 | 10/10 " in printed and "easy: 10/10 (100.0%)" in printed
    assert "- inference takes 2 steps of 12.5 ms" in printed and "limits the hand to 0.5 m/s and 5 m/s2" in printed
    written = json.loads((tmp_path / "evaluation-metaworld-mt50.json").read_text())
    assert written["groups"] == {"easy": {"successes": 10, "episodes": 10}}
    assert not (tmp_path / "evaluation.json").exists()


def test_ctrl_c_ends_the_workers_and_keeps_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--policy", "oracle", "--suite", "seen_phrasings", "--tasks", "mt10", "--workers", "1"]
    words += ["--latency", "0", "--output", str(tmp_path)]
    program = subprocess.Popen(
        [sys.executable, "-m", "vla_ros.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + 90.0
    while not (logs := list(tmp_path.glob("evaluation/*.jsonl"))) or len(logs[0].read_text().splitlines()) < 2:
        assert program.poll() is None and time.monotonic() < deadline_s, program.communicate()
        time.sleep(0.05)
    assert cli.main([*words, "--suite", "blank"]) == 2, "two at once would measure everything twice"
    assert "is being written by another process" in capsys.readouterr().err
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = program.communicate(timeout=30.0)  # returns when the last worker has let go of the pipes
    assert program.returncode == 130
    assert "Traceback" not in said
    assert all(json.loads(line) for line in logs[0].read_text().splitlines())
