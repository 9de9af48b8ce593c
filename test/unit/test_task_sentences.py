"""The table of sentences: complete, unambiguous, and strict about what it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.errors import PolicyError
from vla_ros.policy.driving import COLOURS, TASKS
from vla_ros.policy.sentences import (
    HELD_OUT,
    MEMORY_PATH,
    MIN_TRAINING,
    ROOM_PATH,
    TABLE_PATH,
    essence,
    load_room_sentences,
    load_sentences,
    load_table,
    normalise,
)
from vla_ros.types import is_hold

TABLE = load_sentences()
ALL = [(task, sentence) for task in TABLE.tasks for sentence in (*TABLE.training(task), *TABLE.held_out(task))]


def test_every_task_of_a_simulated_robot_has_sentences_and_nothing_else_has() -> None:
    from metaworld.policies import ENV_POLICY_MAP

    from vla_ros.sim.worlds import OURS

    assert list(load_table(TABLE_PATH).tasks) == sorted(ENV_POLICY_MAP)
    assert list(load_table(MEMORY_PATH).tasks) == list(OURS)
    assert load_room_sentences().tasks == TASKS
    assert TABLE.tasks == (*sorted(ENV_POLICY_MAP), *OURS, *TASKS)


def test_a_sentence_of_the_room_names_the_colour_and_no_other() -> None:
    for task in TASKS:
        colour = task.split("-")[1]
        for sentence in (*TABLE.training(task), *TABLE.held_out(task)):
            assert {word for word in sentence.split() if word in COLOURS} == {colour}


def test_sentences_of_a_room_must_be_for_its_shapes(tmp_path: Path) -> None:
    path = tmp_path / "rooms.yaml"
    path.write_text(ROOM_PATH.read_text().replace("  ball:", "  cone:"))
    with pytest.raises(PolicyError, match="shapes: are box, cone, cylinder; must be box, ball, cylinder"):
        load_room_sentences(path)
    path.write_text(ROOM_PATH.read_text().replace("move to the {colour} ball", "go to the {colour} ball"))
    with pytest.raises(
        PolicyError, match=r"drive-red-ball\.training\[2\].*differs from tasks\.drive-red-ball\.training\[1\]"
    ):
        load_room_sentences(path)


@pytest.mark.parametrize("task", TABLE.tasks)
def test_a_task_has_enough_sentences_to_learn_from_and_five_to_measure_with(task: str) -> None:
    assert len(TABLE.training(task)) >= 12
    assert len(TABLE.held_out(task)) == 5
    assert TABLE.usual(task) == TABLE.training(task)[0]


def test_every_sentence_means_its_own_task() -> None:
    assert [(TABLE.task(sentence), sentence) for _, sentence in ALL] == ALL


def test_no_sentence_is_another_one_in_other_clothes() -> None:
    """Not within a task, not between training and held-out, not between tasks."""
    spoken = Counter(essence(sentence) for _, sentence in ALL)
    assert [words for words, times in spoken.items() if times > 1] == []


def test_sentences_are_plain_english_as_people_type_it() -> None:
    for _, sentence in ALL:
        assert sentence == " ".join(sentence.split())
        assert sentence.isascii()
        assert 2 <= len(sentence.split()) <= 16
        assert sentence[-1].isalpha()
        assert not is_hold(sentence)


def test_no_held_out_sentence_is_nearly_one_to_learn_from() -> None:
    """Of the words of two sentences together, fewer than three quarters are in both."""
    learned = [set(essence(sentence).split()) for task in TABLE.tasks for sentence in TABLE.training(task)]
    for task in TABLE.tasks:
        for sentence in TABLE.held_out(task):
            words = set(essence(sentence).split())
            assert max(len(words & others) / len(words | others) for others in learned) < 0.75, sentence


@pytest.mark.parametrize(
    "spelling", ["Open the drawer", "  open  the drawer. ", "OPEN THE DRAWER!", "open the\tdrawer"]
)
def test_case_spaces_and_final_punctuation_do_not_matter(spelling: str) -> None:
    assert TABLE.task(spelling) == "drawer-open-v3"


@pytest.mark.parametrize("sentence", ["open the drawers", "open drawer", "open the drawer now", "drawer-open-v3"])
def test_a_similar_sentence_is_not_good_enough(sentence: str) -> None:
    with pytest.raises(PolicyError, match=rf"'{sentence}'.*'put the ring on the peg'.*sentences\.yaml"):
        TABLE.task(sentence)


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    for ask in (TABLE.usual, TABLE.training, TABLE.held_out):
        with pytest.raises(PolicyError, match=r"'fold-v3'.*assembly-v3"):
            ask("fold-v3")


def test_opposites_undo_each_other() -> None:
    assert TABLE.opposite("drawer-open-v3") == "drawer-close-v3"
    assert TABLE.opposite("drawer-close-v3") == "drawer-open-v3"
    assert TABLE.opposite("window-close-v3") == "window-open-v3"
    with pytest.raises(PolicyError, match=r"'push-v3' has no opposite.*drawer-open-v3.*window-close-v3"):
        TABLE.opposite("push-v3")


def test_two_spellings_share_their_essence_and_two_sentences_do_not() -> None:
    assert essence("Push a machine's button!") == essence("push the machines button")
    assert essence("push the button") != essence("press the button")
    assert normalise(" Push  it. ") == "push it"


def content() -> dict[str, Any]:
    """A small table without a fault."""
    return {
        "opposites": [["a-v3", "b-v3"]],
        "tasks": {
            task: {
                "training": [f"{task} learn {i}" for i in range(MIN_TRAINING)],
                "held_out": [f"{task} measure {i}" for i in range(HELD_OUT)],
            }
            for task in ("a-v3", "b-v3")
        },
    }


def load(tmp_path: Path, table: Mapping[str, Any]) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(dict(table)))
    load_table(path)


def test_the_small_table_is_good(tmp_path: Path) -> None:
    load(tmp_path, content())


@pytest.mark.parametrize(
    ("part", "index", "sentence", "complaint"),
    [
        ("training", 1, "A-v3 learn 0!", r"tasks\.a-v3\.training\[1\].*differs from tasks\.a-v3\.training\[0\]"),
        ("held_out", 0, "the a-v3 learn 0", r"tasks\.a-v3\.held_out\[0\].*differs from tasks\.a-v3\.training\[0\]"),
        ("held_out", 4, "a-v3 measure 3.", r"held_out\[4\].*differs from tasks\.a-v3\.held_out\[3\]"),
        ("training", 0, "b-v3 measure 2", r"tasks\.b-v3\.held_out\[2\].*differs from tasks\.a-v3\.training\[0\]"),
        ("training", 0, "The stop.", "means to stop"),
        ("training", 0, " ", "says nothing"),
        ("training", 0, 1, "must be text"),
    ],
)
def test_a_wrong_sentence_is_refused_with_its_place(
    tmp_path: Path, part: str, index: int, sentence: object, complaint: str
) -> None:
    table = content()
    table["tasks"]["a-v3"][part][index] = sentence
    with pytest.raises(PolicyError, match=complaint):
        load(tmp_path, table)


@pytest.mark.parametrize(
    ("key", "count", "complaint"),
    [
        ("training", MIN_TRAINING - 1, r"tasks\.a-v3\.training.*has 11 sentences, must have at least 12"),
        ("held_out", HELD_OUT - 1, r"tasks\.a-v3\.held_out.*has 4 sentences, must have exactly 5"),
        ("held_out", HELD_OUT + 1, r"tasks\.a-v3\.held_out.*has 6 sentences, must have exactly 5"),
    ],
)
def test_too_few_or_too_many_are_refused(tmp_path: Path, key: str, count: int, complaint: str) -> None:
    table = content()
    table["tasks"]["a-v3"][key] = [f"say {key} {i}" for i in range(count)]
    with pytest.raises(PolicyError, match=complaint):
        load(tmp_path, table)


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        ([["a-v3", "c-v3"]], r"opposites\[0\].*'c-v3' is not one of the tasks"),
        ([["a-v3", "a-v3"]], r"opposites\[0\].*'a-v3' already has an opposite"),
        ([["a-v3", "b-v3"], ["b-v3", "a-v3"]], r"opposites\[1\].*'b-v3' already has an opposite"),
        ([["a-v3"]], "must be a list of 2"),
    ],
)
def test_wrong_opposites_are_refused(tmp_path: Path, pairs: list[list[str]], complaint: str) -> None:
    with pytest.raises(PolicyError, match=complaint):
        load(tmp_path, {**content(), "opposites": pairs})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tasks: {}\nopposites: []\nnotes: x", "notes: unknown key.*choices: opposites, tasks"),
        ("opposites: []", "tasks: is missing"),
        ("tasks: {a: {training: [], held_out: [], tested: []}}\nopposites: []", r"tasks\.a\.tested: unknown key"),
        ("tasks: {a: [go]}\nopposites: []", r"tasks\.a: is \['go'\]; must be a mapping"),
        ("tasks: {}\ntasks: {}", "already given"),
        ("[a, b]", "must be a mapping"),
        ("", "is empty"),
        ("a: [", "not valid YAML"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=complaint):
        load_table(path)


def test_the_table_lies_beside_its_code() -> None:
    assert TABLE_PATH.is_file()
