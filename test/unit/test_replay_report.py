"""A replay as a page: everything in it, nothing fetched, and one cursor through pictures, lanes and curves."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browsing, find_browser
from live_runs import SENTENCE, LightSeeker, LiveRun, eventful, small_contract
from replay_builders import START_NS, judged, perfect, seconds, sides, with_guard

from vla_ros.errors import DataError
from vla_ros.images import encode
from vla_ros.replay.decision_log import gather
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.judging.action_errors import chunks_of
from vla_ros.replay.judging.comparison import compare_all
from vla_ros.replay.judging.moments import worst_moments
from vla_ros.replay.judging.verdict import Check, Verdict
from vla_ros.replay.recording import Recording
from vla_ros.replay.report.content import Content, Glance, Look, Rival
from vla_ros.replay.report.curves import COMMAND, RECORDED, RIVAL, TARGET, panels
from vla_ros.replay.report.frames import picture_instants, strips
from vla_ros.replay.report.lanes import lanes
from vla_ros.replay.report.looks import look_back, looks
from vla_ros.replay.report.page import page, write_page
from vla_ros.replay.report.svg import Axis, Curve, axis_of, nice_step, thinned
from vla_ros.replay.report.timeline import timeline
from vla_ros.replay.run import Replay, Terms
from vla_ros.resources import checkpoint_path
from vla_ros.types import NS_PER_S

VERDICT = Verdict(
    "bags/<lived>",
    (
        Check("not position_error_p95 > 0.02", False, "position_error_p95 is 0.05 m, which is > 0.02", 0.05),
        Check("not stops > 3", True, "stops is 2, which is not > 3", 2.0),
    ),
)
needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed (apt install chromium)")


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> Terms:
    bag = eventful(LiveRun()).write(tmp_path_factory.mktemp("bags") / "lived")
    return Terms(bag, small_contract())


def replayed_by(policy: LightSeeker, terms: Terms) -> Replayed:
    replay = Replay(terms, "light seeker", policy)
    identity = {"bag": "lived", "policy": {"name": "light seeker", "gain": policy.gain, "hash": "0123abcd"}}
    return gather(terms.contract, identity, list(replay.decisions()), replay.outcome())


@pytest.fixture(scope="module")
def replayed(terms: Terms) -> Replayed:
    return replayed_by(LightSeeker(), terms)


@pytest.fixture(scope="module")
def content(terms: Terms, replayed: Replayed) -> Content:
    """With everything that a page can show. The looks are made up: this policy cannot tell."""
    judgement, other = judged(replayed), replayed_by(LightSeeker(gain=2.0), terms)
    moments = worst_moments(judgement, 10)
    rival = Rival("twice as fast", other, judged(other), compare_all([sides(replayed, other)]))
    bare = Content("light seeker", replayed, judgement, VERDICT, moments, rival=rival)
    pictures = strips(Recording(terms.bag), terms.contract, "", picture_instants((bare.start_ns, bare.end_ns), moments))
    shade = np.zeros((4, 4, 3), np.uint8)
    glance = Glance(encode(shade, "jpeg").pixels.tobytes(), encode(shade, "png").pixels.tobytes(), 0.4)
    look = Look("light seeker", moments[0].at_ns, {"front": glance, "wrist": glance}, (("follow", 0.3),))
    return replace(bare, strips=pictures, looks=(look,))


@pytest.fixture(scope="module")
def written(content: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "new folder" / "report.html"
    write_page(path, content)
    return path


def bare(replayed: Replayed) -> Content:
    return Content("made by hand", replayed, judged(replayed), Verdict("bag", ()))


# What is told


def test_a_page_names_what_was_replayed_what_was_asked_and_the_answer(written: Path) -> None:
    text = html.unescape(re.sub("<[^>]+>", " ", written.read_text(encoding="utf-8")))
    for told in (
        "bags/<lived>",
        "FAILED",
        "position_error_p95 is 0.05 m, which is > 0.02",
        "not stops > 3",
        "twice as fast",
        "0123abcd",
        small_contract().name,
        SENTENCE,
        "something else",
        "latch",
        "emergency stop",
        "camera/wrist",
        "the policy failed",
        "95 % interval",
        "direction_agreement",
    ):
        assert told in text, told


def test_what_others_wrote_is_text_and_not_part_of_the_page(content: Content) -> None:
    evil = "</script><script>alert(1)</script>"
    told = tuple(replace(one, text=evil) for one in content.replayed.instructions)
    drawn = page(
        replace(content, name=evil, replayed=replace(content.replayed, instructions=told, identity={evil: evil}))
    )
    assert drawn.count("<script") == drawn.count("</script>") == 2
    assert "alert(1)" in drawn


def test_a_page_refers_to_nothing_outside_itself(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', text)) <= {"data:", "#now"}
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest", text)


def test_a_replay_without_anything_still_makes_a_page() -> None:
    nothing = replace(perfect(0), instructions=(), recorded=())
    assert "Nothing was asked of this replay" in page(bare(nothing))


def test_a_page_that_cannot_be_written_says_so(content: Content, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path / "file" / "report.html", content)


# Curves and lanes


def curves_of(content: Content, title: str) -> dict[str, Curve]:
    (panel,) = [one for one in panels(content) if one.title == title]
    return {curve.css: curve for curve in panel.curves}


def test_curves_are_of_what_was_recorded_commanded_and_targeted() -> None:
    made = perfect(80)
    displaced = with_guard(made, {40: {"command": replace(made.guard[40].command, gripper=0.25)}})
    drawn = curves_of(bare(displaced), "x")
    for name in (RECORDED, COMMAND, TARGET):
        at_s = drawn[name].seconds.tolist().index(seconds(40))
        assert drawn[name].values[at_s] == pytest.approx(made.guard[40].command.pose.position[0]), name
    gripper = curves_of(bare(displaced), "gripper")
    assert np.nanmin(gripper[COMMAND].values) == 0.25 and np.nanmin(gripper[RECORDED].values) == 1.0


def test_a_curve_breaks_where_nothing_was_sent_and_where_it_ends() -> None:
    made = perfect(160)
    silent = with_guard(made, {tick: {"command": None} for tick in range(40, 120)})
    command = curves_of(bare(silent), "x")[COMMAND]
    broken = command.seconds[np.isnan(command.values)]
    assert len(broken) == 2
    assert seconds(39) < broken[0] < seconds(120) and broken[1] > seconds(159)


def test_what_does_not_move_is_named_and_not_drawn() -> None:
    flat = {panel.title for panel in panels(bare(perfect(80))) if panel.is_flat}
    assert {"y", "z", "turn about x", "turn about y", "turn about z", "gripper"} <= flat and "x" not in flat
    assert "Without any change worth drawing: y, z, turn about x" in page(bare(perfect(80)))


def test_both_policies_are_drawn(content: Content) -> None:
    drawn = curves_of(content, "x")
    assert RIVAL in drawn
    assert not np.array_equal(drawn[RIVAL].values, drawn[TARGET].values, equal_nan=True)
    assert RIVAL not in curves_of(replace(content, rival=None), "x")


def test_lanes_tell_who_was_in_command_what_limited_it_and_what_stopped_it(content: Content) -> None:
    found = {lane.title: [bar.label for bar in lane.bars] for lane in lanes(content)}
    assert found["instruction"] == [SENTENCE, "something else", "fail", SENTENCE, "stop", SENTENCE]
    assert {"policy in command", "teleop in command"} <= set(found["in command"])
    assert any("emergency stop" in label for label in found["guard"])
    assert any("camera/wrist" in label for label in found["inputs stale"])
    made = with_guard(perfect(80), {tick: {"clips": ("workspace",)} for tick in (*range(10, 20), 30)})
    (limit,) = [lane for lane in lanes(bare(made)) if lane.title == "workspace"]
    assert [(bar.from_s, bar.to_s) for bar in limit.bars] == [
        pytest.approx((seconds(10), seconds(20))),
        pytest.approx((seconds(30), seconds(31))),
    ]


def test_limits_that_act_all_the_time_do_not_fill_the_page() -> None:
    ticks = 80 * 16
    made = with_guard(perfect(ticks), {tick: {"clips": ("workspace",)} for tick in range(0, ticks, 2)})
    (limit,) = [lane for lane in lanes(bare(made)) if lane.title == "workspace"]
    assert [(bar.from_s, bar.to_s) for bar in limit.bars] == [pytest.approx((0.0, seconds(ticks - 1)))]


def test_two_policies_of_one_name_have_a_column_each(content: Content) -> None:
    assert content.rival is not None
    same = replace(content, rival=replace(content.rival, name=content.name))
    assert "<th>metric</th><th>light seeker</th><th>light seeker</th><th>unit</th>" in page(same)


def test_values_under_the_cursor_are_those_of_the_curves() -> None:
    made = perfect(81)
    data = json.loads(re.findall(r'id="data">(.*)</script>', timeline(bare(made)))[0])
    index = data["instants"].index(0.5)
    recorded, target, command = (column[index] for column in data["values"][:3])
    assert recorded == target == command == pytest.approx(made.recorded[40].motion.pose.position[0], abs=1e-4)
    assert data["end_s"] == pytest.approx(1.0)


def test_thinning_loses_neither_a_peak_nor_a_break() -> None:
    values = np.sin(np.arange(40_000) / 500.0)
    values[12_345], values[30_001:30_400] = 7.0, np.nan
    times, kept = thinned(np.arange(40_000.0), values, 500)
    assert len(kept) < 1100 and kept[times.tolist().index(12_345.0)] == 7.0
    assert any(30_000 < time < 30_400 for time in times[np.isnan(kept)])


@pytest.mark.parametrize(("rough", "step"), [(0.03, 0.05), (1.0, 1.0), (1.1, 2.0), (700.0, 1000.0), (0.0, 1.0)])
def test_steps_are_round(rough: float, step: float) -> None:
    assert nice_step(rough) == pytest.approx(step)


def test_an_axis_shows_all_values_and_makes_no_mountain_of_noise() -> None:
    noise = Curve("command", np.arange(3.0), np.array([1.0, 1.0001, np.nan]))
    axis = axis_of([noise], 0.01)
    assert axis.high - axis.low > 0.01 and 0.0 < axis.share(1.0) < 1.0
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks()) and len(axis.ticks()) >= 2
    assert axis_of([], 0.01) == Axis(0.0, 1.0)


# Pictures


def test_strips_have_a_picture_of_every_view_at_every_instant(terms: Terms, content: Content) -> None:
    instants = picture_instants((content.start_ns, content.end_ns), (), 20)
    found = strips(Recording(terms.bag), terms.contract, "", instants)
    assert set(found) == {"front", "wrist", "top"}
    assert len(found["front"]) == 19 and len(found["wrist"]) < 19  # it was blind for a second
    for picture, instant in zip(found["front"], instants[:-1], strict=True):
        assert 0 <= picture.at_ns - instant <= 0.1 * NS_PER_S and picture.jpeg[:2] == b"\xff\xd8"


def test_strips_of_another_namespace_are_not_of_this_robot(terms: Terms) -> None:
    assert strips(Recording(terms.bag), terms.contract, "other", (START_NS,)) == {}


def test_looking_back_finds_what_the_policy_saw(terms: Terms, replayed: Replayed) -> None:
    saw = {}

    class Watching(LightSeeker):
        def predict(self, observation):  # type: ignore[no-untyped-def]
            saw[observation.t_obs_ns] = observation
            return super().predict(observation)

    replayed_by(Watching(), terms)
    wanted = sorted(saw)[3], sorted(saw)[20]
    found = look_back(terms, replayed, LightSeeker().needs, (wanted[0], wanted[1], wanted[1] + 1))
    assert tuple(one.t_obs_ns for one in found) == wanted
    for one in found:
        was = saw[one.t_obs_ns]
        assert one.instruction == was.instruction
        np.testing.assert_array_equal(one.images["front"], was.images["front"])
        np.testing.assert_array_equal(one.commanded_pose.position, was.commanded_pose.position)


def test_the_network_that_ships_tells_where_it_looks(terms: Terms, replayed: Replayed) -> None:
    pytest.importorskip("torch")
    chunks = [chunk.t_obs_ns for chunk in chunks_of(replayed.policy)]
    (look,) = looks("mt10", checkpoint_path("mt10"), terms, replayed, (chunks[1], chunks[1] + 1))
    assert (look.policy, look.at_ns) == ("mt10", chunks[1])
    assert [word for word, _ in look.words] == SENTENCE.split()
    assert set(look.glances) == {"front", "wrist"} and 0.0 < sum(one.share for one in look.glances.values()) <= 1.0
    for one in look.glances.values():
        assert one.picture[:2] == b"\xff\xd8" and one.heat[:4] == b"\x89PNG"


# In a browser

MISSING = "[...document.images].filter(image => image.src && !(image.complete && image.naturalWidth > 0)).length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_browser()
    assert path is not None
    with browsing(path, tmp_path_factory.mktemp("profile")) as found:
        yield found


@needs_browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desk", "phone, dark"])
def test_a_browser_shows_the_page_without_an_error_a_gap_or_a_request(
    browser: Browser, written: Path, width: int, dark: bool
) -> None:
    browser.open(written, width, 900, dark)
    assert browser.evaluate("document.images.length") > 100
    assert browser.evaluate(MISSING) == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.problems == [] and browser.requests == []


@needs_browser
@pytest.mark.timeout(600)
def test_pictures_and_numbers_follow_the_pointer(browser: Browser, written: Path, content: Content) -> None:
    browser.open(written)
    cell = "document.querySelector('#readout td[data-curve]').textContent"
    seen = "[...document.querySelectorAll('#now img')].map(image => image.src)"
    before = browser.evaluate(seen), browser.evaluate(cell)
    left, width, top = browser.evaluate(
        "(box => [box.left, box.width, box.top])(document.getElementById('overlay').getBoundingClientRect())"
    )
    browser.point(left + width * 0.75, top + 30)
    assert browser.evaluate("document.getElementById('instant').textContent") == f"{0.75 * content.end_s:.2f} s"
    after = browser.evaluate(seen), browser.evaluate(cell)
    assert len(after[0]) == 3 and all(one != other for one, other in zip(before[0], after[0], strict=True))
    recorded = curves_of(content, "x")[RECORDED]
    until = recorded.seconds.searchsorted(0.75 * content.end_s) - 1
    assert float(after[1]) == pytest.approx(recorded.values[until], abs=0.002) and after[1] != before[1]
    assert browser.problems == []


@needs_browser
@pytest.mark.timeout(600)
def test_a_moments_link_and_a_curves_switch_work(browser: Browser, written: Path, content: Content) -> None:
    browser.open(written)
    browser.evaluate("document.querySelector('.moment a').click()")
    assert browser.evaluate("document.getElementById('instant').textContent") == f"{content.moments[0].after_s:.2f} s"
    shown = "getComputedStyle(document.querySelector('polyline.plan')).display"
    assert browser.evaluate(shown) != "none"
    browser.evaluate("document.querySelector('[data-hides=plan]').click()")
    assert browser.evaluate(shown) == "none"


@needs_browser
@pytest.mark.timeout(600)
def test_the_browser_finds_what_is_wrong_with_a_page(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<img src="data:image/jpeg;base64,AAAA"><img src="http://127.0.0.1:9/x.png"><script>nothing.at.all()</script>'
    )
    browser.open(bad)
    assert browser.evaluate(MISSING) == 2
    assert any("nothing is not defined" in problem for problem in browser.problems)
    assert browser.requests == ["http://127.0.0.1:9/x.png"]
    browser.problems.clear()
    browser.requests.clear()
