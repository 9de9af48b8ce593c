from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.model.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Open the drawer. Then put the mug in it.", ["Open the drawer.", "Then put the mug in it."]),
        ("open the drawer. then put the mug in it", ["open the drawer.", "then put the mug in it"]),
        ("Stop! Is it red? Yes... then go", ["Stop!", "Is it red?", "Yes...", "then go"]),
        ("open the drawer; close it", ["open the drawer;", "close it"]),
        ("open the drawer\r\n\n  close it\n", ["open the drawer", "close it"]),
        ('Say "done." Then stop (at once!) and wait.', ['Say "done."', "Then stop (at once!)", "and wait."]),
        ("pick up the red block", ["pick up the red block"]),
    ],
)
def test_sentences_end_with_their_punctuation_or_their_line(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Move 0.5 m. Stop!", ["Move 0.5 m.", "Stop!"]),
        ("Move .5 m", ["Move .5 m"]),
        ("Turn to 90. Stop.", ["Turn to 90.", "Stop."]),
    ],
)
def test_decimal_points_do_not_end_a_sentence(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lift it approx. 5 cm. Wait.", ["Lift it approx. 5 cm.", "Wait."]),
        ("take a tool (e.g. the hammer). Go", ["take a tool (e.g. the hammer).", "Go"]),
        ("Push button No. 3. Then stop.", ["Push button No. 3.", "Then stop."]),
        ("Is it there? No. Then stop.", ["Is it there?", "No.", "Then stop."]),
        ("1. Open the drawer. 2. Close it.", ["1. Open the drawer.", "2. Close it."]),
    ],
)
def test_abbreviations_and_enumerations_do_not_end_a_sentence(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize("text", ["", "  \n ", "...", ";;!?"])
def test_text_without_letters_and_digits_has_no_sentence(text: str) -> None:
    assert sentence_spans(text) == ()


@given(st.text(alphabet="aB1 .!?;\n\"'…é", max_size=40))
def test_spans_are_trimmed_in_order_and_hold_every_letter_and_digit(text: str) -> None:
    spans = sentence_spans(text)
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    gaps = "".join(text[end:start] for end, start in zip(ends, starts, strict=True))
    assert all(end <= start for end, start in zip(ends, starts, strict=True))
    assert all(sentence == sentence.strip() != "" for sentence in sentences(text))
    assert not any(map(str.isalnum, gaps))
