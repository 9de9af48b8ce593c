"""Evaluation without a robot: which episodes are asked for, how sure a count is, how smooth a motion, what is kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.control.motion import path_length, smoothness
from vla_ros.errors import LearningError
from vla_ros.learning.evaluation import calm
from vla_ros.learning.evaluation.latency import ticks
from vla_ros.learning.evaluation.log import OutcomeLog
from vla_ros.learning.evaluation.metaworld_protocol import groups
from vla_ros.learning.evaluation.names import ALL_MEANINGS, BLANK
from vla_ros.learning.evaluation.statistics import Paired, Rate, paired
from vla_ros.learning.evaluation.suites import MT10, MT50, SUITES, trials, validation_trials
from vla_ros.learning.evaluation.summary import summarise
from vla_ros.learning.evaluation.table import table
from vla_ros.learning.evaluation.trials import Outcome, Trial
from vla_ros.model.surprise import calibrate, hours_needed
from vla_ros.policy.sentences import load_sentences
from vla_ros.types import is_hold

TABLE = load_sentences()
DT_S = 0.0125
MEASURED = {"success": True, "steps": 40, "stops": 0, "latches": 0, "clips": {}}


def outcome(**changes: object) -> Outcome:
    plain = Outcome("seen_phrasings", "reach-v3", "reach-v3", "test:0", "training", "reach", True, 80, 0, 0, {})
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_undisturbed_runs_go_on_until_they_suffice_for_the_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first look of an episode nothing was expected: it takes time, and does not count."""
    rng = np.random.default_rng(0)

    def look(log: OutcomeLog, wanted: Sequence[Trial]) -> None:
        log.begin({})
        for trial in wanted:
            if trial.key not in log:
                told = tuple((0.1 * number, 1.0) for number in range(1, 5))
                errors = tuple(map(tuple, rng.random((4, 3)).tolist()))
                log.add(Outcome.of(trial, **MEASURED, surprises=told, errors=errors))

    monkeypatch.setattr(calm, "run_trials", lambda _, wanted, _c, _w, log, *_others: look(log, wanted))
    done = calm.run_for(
        hours_needed(600.0),
        calm.watched_hours,
        *(None, lambda rounds: calm.calm_trials(MT10, TABLE, rounds, "train", 0), None, 1),  # type: ignore[arg-type]
        OutcomeLog(tmp_path, {}),
        *(None, print),  # type: ignore[arg-type]
    )
    assert math.isfinite(calibrate(calm.errors_of(done), calm.period_of(done), 600.0).threshold)
    assert calm.hours_of(done) < 1.5 * hours_needed(600.0)


def test_every_suite_is_explained() -> None:
    assert tuple(SUITES) == tuple(ALL_MEANINGS)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_asks_for_the_same_unseen_worlds_every_time_and_for_none_twice(suite: str) -> None:
    asked = trials(suite, MT10, TABLE)
    assert asked == trials(suite, MT10, TABLE)
    assert len({trial.key for trial in asked}) == len(asked)
    assert {trial.variation.split for trial in asked} == {"test"}
    counts = set(Counter(trial.task for trial in asked).values())
    assert counts == {SUITES[suite].episodes}


@pytest.mark.parametrize("suite", [name for name, suite in SUITES.items() if suite.beside])
def test_a_suite_and_the_one_beside_it_share_their_worlds(suite: str) -> None:
    worlds = [
        {(trial.task, trial.world, trial.variation) for trial in trials(name, MT10, TABLE)}
        for name in (suite, SUITES[suite].beside)
    ]
    assert worlds[0] <= worlds[1]


def test_phrasings_are_those_of_their_kind_and_all_of_them_are_said() -> None:
    for trial in trials("seen_phrasings", MT10, TABLE):
        assert trial.sentence in TABLE.training(trial.task)
    held_out = trials("held_out", MT10, TABLE)
    assert {trial.sentence for trial in held_out} == {said for task in MT10 for said in TABLE.held_out(task)}
    assert {trial.sentence for trial in trials("blank", MT10, TABLE)} == {BLANK}


def test_the_blank_sentence_neither_holds_the_robot_nor_means_a_task() -> None:
    assert not is_hold(BLANK)
    assert BLANK not in {said for task in TABLE.tasks for said in (*TABLE.training(task), *TABLE.held_out(task))}


def test_the_same_half_open_scene_is_told_to_be_opened_and_to_be_closed() -> None:
    asked = trials("opposites", MT10, TABLE)
    told: dict[object, set[str]] = {}
    for trial in asked:
        assert trial.scene.opening == 0.5 and not trial.scene.shows_goal
        told.setdefault((trial.world.partition("-")[0], trial.world, trial.variation), set()).add(trial.task)
    assert len(told) == 40
    assert all(len(tasks) == 2 for tasks in told.values())
    assert {trial.world for trial in asked} == {trial.task for trial in asked}


def test_looks_are_varied_one_at_a_time_by_seeds_of_their_own() -> None:
    for suite, kind in (("light", "light"), ("cameras", "camera"), ("distractors", "distractors")):
        asked = trials(suite, ["reach-v3"], TABLE)
        assert {trial.scene.varied for trial in asked} == {(kind,)}
        assert len({trial.scene.seed for trial in asked}) == len(asked)


def test_validation_worlds_are_of_the_training_split_and_far_from_those_learned_from() -> None:
    asked = validation_trials(["reach-v3", "push-v3"], TABLE, 3)
    assert len(asked) == 6
    assert all(trial.variation.split == "train" and trial.variation.index >= 100_000 for trial in asked)


def test_an_unknown_suite_names_the_known_ones() -> None:
    with pytest.raises(LearningError, match="'sen' is not a suite; choose from seen_phrasings, held_out"):
        trials("sen", MT10, TABLE)


def test_tasks_without_opposites_give_no_trials_of_them() -> None:
    assert trials("opposites", ["reach-v3", "drawer-open-v3"], TABLE) == ()


@pytest.mark.parametrize(
    ("rate", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, method 3.
    [(Rate(81, 263), 0.2553, 0.3662), (Rate(15, 148), 0.0624, 0.1605), (Rate(0, 20), 0.0, 0.1611)],
)
def test_intervals_are_wilsons(rate: Rate, low: float, high: float) -> None:
    assert rate.interval == pytest.approx((low, high), abs=1e-4)


def test_nothing_tried_is_nothing_known() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0) and np.isnan(Rate(0, 0).share)


def test_pairs_count_what_only_one_run_solved() -> None:
    result = paired({"a": True, "b": True, "c": False, "d": True}, {"a": True, "b": False, "c": True, "x": True})
    assert (result.pairs, result.only_first, result.only_second, result.p) == (3, 1, 1, 1.0)


@pytest.mark.parametrize(
    ("one", "other", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (6, 0, 2 / 64), (1, 9, 22 / 1024)]
)
def test_the_paired_test_is_the_binomial(one: int, other: int, p: float) -> None:
    assert Paired(100, one, other).p == pytest.approx(p)


def along_x(distances: np.ndarray) -> np.ndarray:
    return np.stack([distances, np.zeros_like(distances), np.zeros_like(distances)], axis=1)


def test_a_jerky_way_is_less_smooth_than_a_straight_one_however_long_or_fast() -> None:
    share = np.linspace(0.0, 1.0, 81)
    minimum_jerk = 10 * share**3 - 15 * share**4 + 6 * share**5
    smooth = smoothness(along_x(0.3 * minimum_jerk), DT_S)
    jerky = smoothness(along_x(0.3 * (minimum_jerk + 0.03 * np.sin(10 * np.pi * share))), DT_S)
    longer = smoothness(along_x(0.9 * minimum_jerk), DT_S)
    assert smooth is not None and jerky is not None and longer is not None
    assert -2.0 < smooth < -1.0  # a minimum-jerk movement of one second
    assert jerky < smooth - 0.3
    assert longer == pytest.approx(smooth)


def test_a_hand_that_stands_still_has_no_smoothness() -> None:
    assert smoothness(np.zeros((50, 3)), DT_S) is None
    assert smoothness(np.zeros((0, 3)), DT_S) is None


def test_the_way_is_measured_along_its_steps() -> None:
    assert path_length(np.array([[0.0, 0.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0]])) == pytest.approx(1.0)


@pytest.mark.parametrize(("latency_s", "expected"), [(0.0, 1), (0.012, 1), (0.0125, 1), (0.0126, 2), (0.1, 8)])
def test_a_reply_counts_at_the_first_tick_after_it(latency_s: float, expected: int) -> None:
    assert ticks(latency_s) == expected


def test_a_log_is_gone_on_with_by_the_same_subject_only(tmp_path: Path) -> None:
    log = OutcomeLog(tmp_path, {"policy": "a"})
    log.begin({"inference_ticks": 5})
    log.add(outcome(inference_ms=(1.0, 2.0), clips={"linear velocity": 3}))
    again = OutcomeLog(tmp_path, {"policy": "a"})
    assert again.outcomes == log.outcomes and again.latency == {"inference_ticks": 5}
    assert outcome().key in again
    assert OutcomeLog(tmp_path, {"policy": "b"}).outcomes == ()
    assert OutcomeLog(tmp_path, {"policy": "a"}, fresh=True).outcomes == ()


def test_a_line_that_was_cut_short_is_measured_again(tmp_path: Path) -> None:
    log = OutcomeLog(tmp_path, {})
    log.begin({})
    log.add(outcome())
    log.add(outcome(variation="test:1"))
    log.path.write_text(log.path.read_text()[:-20])
    again = OutcomeLog(tmp_path, {})
    assert again.outcomes == (outcome(),)
    again.begin({})
    again.add(outcome(variation="test:1"))
    assert OutcomeLog(tmp_path, {}).outcomes == log.outcomes


@pytest.mark.parametrize(
    "text", ["", "[]\n", '{"subject": {}}\n', '{"latency": {}}\n{"suite": 1}\n', '{"latency": {}}\nx\n{}\n']
)
def test_another_file_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = OutcomeLog(tmp_path, {}).path
    path.write_text(text)
    with pytest.raises(LearningError, match=f"{path} is not a log of episodes; remove it, or measure anew: --fresh"):
        OutcomeLog(tmp_path, {})


def test_every_task_of_metaworld_is_in_one_group_of_difficulty() -> None:
    members = [task for tasks in groups().values() for task in tasks]
    assert sorted(members) == sorted(MT50)
    assert [len(tasks) for tasks in groups().values()] == [28, 11, 6, 5]


def test_the_published_protocol_says_the_same_of_every_world() -> None:
    asked = trials("metaworld_mt50", MT50, TABLE)
    assert len(asked) == 500
    assert {(trial.task, trial.sentence) for trial in asked} == {(task, TABLE.usual(task)) for task in MT50}


def test_the_summary_counts_what_happened_and_the_table_shows_it() -> None:
    outcomes = [
        outcome(),
        outcome(variation="test:1", success=False, steps=400, stops=1, clips={"linear velocity": 48}),
        outcome(task="push-v3", inference_ms=(10.0, 30.0)),
        outcome(suite="blank", phrasing="blank", success=False),
    ]
    summary = summarise(outcomes)
    assert json.loads(json.dumps(summary)) == summary
    seen = summary["suites"]["seen_phrasings"]
    assert (seen["all"]["successes"], seen["all"]["episodes"]) == (2, 3)
    assert seen["tasks"]["reach-v3"]["successes"] == 1
    assert seen["guard"] == {"stops": 1, "latches": 0, "clipped": {"linear velocity": round(48 / 560, 4)}}
    assert seen["motion"]["time_s"] == 1.0
    assert seen["inference"]["p50_ms"] == 20.0
    [comparison] = summary["comparisons"]
    assert (comparison["suite"], comparison["pairs"], comparison["only_beside"]) == ("blank", 1, 1)
    lines = table(summary).splitlines()
    [row] = [line for line in lines if line.startswith("| reach-v3")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["reach-v3", "1/2", "0/1"]
