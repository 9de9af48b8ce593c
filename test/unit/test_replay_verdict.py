"""Conditions, verdicts, and JUnit files as CI systems read them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ReplayError
from vla_ros.replay.judging.catalogue import METRICS
from vla_ros.replay.judging.conditions import OPERATORS, Condition, parse_condition
from vla_ros.replay.judging.junit import junit, write_junit
from vla_ros.replay.judging.verdict import Check, Verdict, check_all, to_json, together, words


@pytest.mark.parametrize("text", ["position_error_p95>0.02", " position_error_p95  >  2e-2 ", "position_error_p95>.02"])
def test_a_condition_is_a_name_a_comparison_and_a_number(text: str) -> None:
    assert parse_condition(text) == Condition("position_error_p95", ">", 0.02)


@given(st.sampled_from(sorted(METRICS)), st.sampled_from(sorted(OPERATORS)), st.floats(-1e6, 1e6))
def test_what_a_condition_says_of_itself_is_read_back(name: str, comparison: str, bound: float) -> None:
    rounded = float(f"{bound:g}")
    condition = Condition(name, comparison, rounded)
    assert parse_condition(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("position_eror_p95>0.02", "did you mean position_error_p95"),
        ("position_error_p95>many", "'many' in the condition"),
        ("position_error_p95>nan", "not a number"),
        ("position_error_p95>inf", "not a number"),
        ("position_error_p95", "NAME, then"),
        ("position_error_p95=0.02", "NAME, then"),
        ("__import__('os')>1", "NAME, then"),
        ("", "NAME, then"),
    ],
)
def test_what_is_no_condition_is_refused_in_words(text: str, complaint: str) -> None:
    with pytest.raises(ReplayError, match=r"^[^\n]*$") as caught:
        parse_condition(text)
    assert complaint in str(caught.value)


def test_an_unknown_metric_is_answered_with_all_there_are() -> None:
    with pytest.raises(ReplayError) as caught:
        parse_condition("accuracy<1")
    assert all(name in str(caught.value) for name in METRICS)


@pytest.mark.parametrize(
    ("condition", "passes"),
    [("stops>0", True), ("stops>=0", False), ("stops==0", False), ("stops!=0", True), ("stops<0", True)],
)
def test_a_condition_that_holds_fails(condition: str, passes: bool) -> None:
    (check,) = check_all({"stops": 0.0}, [parse_condition(condition)])
    assert check.passed is passes and check.value == 0.0


def test_what_was_not_measured_fails() -> None:
    (check,) = check_all({"position_error_p95": None}, [parse_condition("position_error_p95>0.02")])
    assert not check.passed and "could not be measured" in check.text


VERDICT = Verdict(
    "bags/<one> & \x00two",
    (
        Check("not stops>0", True, "stops is 0 stops, which is not > 0", 0.0),
        Check("not position_error_p95>0.02", False, 'position_error_p95 is 0.031 m, "which is" > 0.02', 0.031),
    ),
)


def test_a_verdict_says_what_failed_and_by_how_much() -> None:
    text = words(VERDICT)
    assert "FAILED, 1 of 2 checks passed" in text
    assert "position_error_p95 is 0.031 m" in text
    assert "nothing was asked" in words(Verdict("bag", ()))
    assert to_json(VERDICT)["checks"][1]["value"] == 0.031


def test_junit_is_what_ci_systems_count(tmp_path: Path) -> None:
    write_junit(tmp_path / "deep" / "junit.xml", [VERDICT, Verdict("other", VERDICT.checks[:1])], 1.5)
    root = ElementTree.parse(tmp_path / "deep" / "junit.xml").getroot()
    assert root.tag == "testsuites"
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "0")
    suites = root.findall("testsuite")
    assert [suite.get("tests") for suite in suites] == ["2", "1"]
    assert suites[0].get("name") == "bags/<one> & \N{REPLACEMENT CHARACTER}two"
    cases = suites[0].findall("testcase")
    assert all(case.get("classname") and case.get("name") and case.get("time") for case in cases)
    (failure,) = root.iter("failure")
    assert "0.031" in str(failure.get("message")) and failure.text == failure.get("message")
    assert [case.find("failure") is None for case in cases] == [True, False]


@given(st.text())
def test_any_text_makes_xml_that_can_be_read(text: str) -> None:
    root = ElementTree.fromstring(junit([Verdict(text, (Check(text, False, text),))]))
    assert root.find("testsuite/testcase/failure") is not None


def test_verdicts_together_name_their_subjects() -> None:
    both = together("bags", [VERDICT, Verdict("other", VERDICT.checks[:1])])
    assert not both.passed and len(both.failures) == 1
    assert both.checks[2].name == "other: not stops>0"
