"""Moments of a recording: at a fixed rate, of what had been seen by then, and none where anything was missing."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from builders import pose_contract, twist_contract
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_builders import (
    FRAME_NS,
    SPEED_M_S,
    START_NS,
    TICK_NS,
    TOLD,
    VIEWS,
    Recording,
    aligned,
    at,
    gaps_in,
    moments_in,
    picture,
    where,
)

from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.learning.recorded.alignment import Aligner, Gap, Moment, Plan
from vla_ros.learning.recorded.commands import COMMANDED
from vla_ros.learning.recorded.spans import Span
from vla_ros.types import NS_PER_S, Sample


def seconds(moments: list[Moment]) -> list[float]:
    return [round((moment.t_ns - START_NS) / NS_PER_S, 6) for moment in moments]


def test_a_moment_tells_all_that_was_so_at_its_instant() -> None:
    found = aligned(Recording(0.5).samples())
    moments = moments_in(found)
    assert seconds(moments) == [0.0, 0.1, 0.2, 0.3]
    assert gaps_in(found) == []
    second = moments[1]
    assert second.span == TOLD[0]
    assert {view: sample.stamp_ns for view, sample in second.pictures.items()} == dict.fromkeys(VIEWS, at(0.1))
    np.testing.assert_array_equal(second.measured.position, where(at(0.1)).position)
    np.testing.assert_array_equal(second.joints, np.full(9, 8.0))
    np.testing.assert_array_equal(second.commanded.position, where(at(0.1)).position)
    np.testing.assert_allclose(second.action.pose.position, where(at(0.2)).position, atol=1e-12)
    np.testing.assert_allclose(second.action.twist.linear, [SPEED_M_S, 0.0, 0.0], atol=1e-12)
    assert (second.source, second.is_between) == (Source.POLICY, False)


def test_the_gripper_of_the_state_is_from_before_the_moment_that_of_the_action_from_after() -> None:
    samples = Recording(0.5, opening=lambda stamp_ns: 0.0 if stamp_ns >= at(0.2) else 1.0).samples()
    moments = moments_in(aligned(samples))
    assert [moment.gripper for moment in moments] == [0.5, 1.0, 1.0, 0.0]  # at first, as the robot has it at the start
    assert [moment.action.gripper for moment in moments] == [1.0, 1.0, 0.0, 0.0]


def test_nobody_commanded_the_gripper_yet() -> None:
    moment = moments_in(aligned(Recording(0.5, opening=lambda _: None).samples()))[1]
    assert moment.gripper == moment.action.gripper == pose_contract().gripper.at_start


def test_of_a_robot_that_obeys_twists_the_mean_twist_is_told() -> None:
    samples = Recording(0.5).samples()
    slow = [
        replace(s, value=replace(s.value, motion=replace(s.value.motion, pose=where(START_NS))))
        if s.channel == COMMANDED
        else s
        for s in samples
    ]
    moment = moments_in(aligned(slow, contract=twist_contract()))[1]
    np.testing.assert_allclose(moment.action.twist.linear, [SPEED_M_S, 0.0, 0.0])
    np.testing.assert_allclose(moment.action.pose.position, [SPEED_M_S * 0.1, 0.0, 0.0])


def test_cameras_that_run_fast_or_slow_are_followed() -> None:
    for frame_ns in (FRAME_NS * 96 // 100, FRAME_NS * 104 // 100):
        moments = moments_in(aligned(Recording(5.0, frame_ns=frame_ns).samples()))
        steps = {later.t_ns - earlier.t_ns for earlier, later in itertools.pairwise(moments)}
        assert steps == {frame_ns}
        assert not any(moment.is_between for moment in moments)


def test_views_are_of_one_instant_as_nearly_as_they_can_be() -> None:
    offsets = {"front": 3_000_000, "wrist": 0, "top": 9_000_000}
    moments = moments_in(aligned(Recording(1.0, view_offset_ns=offsets).samples()))
    assert seconds(moments) == [round(0.1 * number + 0.009, 3) for number in range(9)]
    assert {moments[3].t_ns - (sample.stamp_ns or 0) for sample in moments[3].pictures.values()} == {
        6_000_000,
        9_000_000,
        0,
    }


def test_views_too_far_apart_are_never_put_together() -> None:
    assert (
        moments_in(aligned(Recording(2.0, frame_ns=2 * FRAME_NS, view_offset_ns={"top": 50_000_001}).samples())) == []
    )


def test_between_slower_pictures_the_last_ones_are_told_again_and_marked() -> None:
    moments = moments_in(aligned(Recording(0.5).samples(), fps=20))
    assert seconds(moments) == [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
    assert [moment.is_between for moment in moments] == [False, True] * 4 + [False]
    assert [moment.pictures["top"].stamp_ns for moment in moments[:4]] == [at(0), at(0), at(0.1), at(0.1)]
    np.testing.assert_array_equal(moments[1].measured.position, where(at(0.05)).position)


def test_of_faster_pictures_every_other_one_is_told() -> None:
    moments = moments_in(aligned(Recording(1.0).samples(), fps=5))
    assert seconds(moments) == [0.0, 0.2, 0.4, 0.6]
    assert not any(moment.is_between for moment in moments)


@pytest.mark.parametrize(
    ("silent", "ends", "begins", "cause"),
    [
        (("camera/wrist", 1.05, 1.95), 1.5, 2.0, "camera/wrist is missing or stale"),
        (("ee_pose", 1.01, 1.4), 1.2, 1.4, "ee_pose is missing or stale"),
        (("joint_states", 1.01, 1.4), 1.2, 1.4, "joint_states is missing or stale"),
        ((COMMANDED, 1.01, 1.4), 1.1, 1.4, "no commands"),
    ],
)
def test_what_is_missing_too_long_is_a_gap(
    silent: tuple[str, float, float], ends: float, begins: float, cause: str
) -> None:
    found = aligned(Recording(3.0, silent=[silent]).samples())
    ((gap_s, told),) = gaps_in(found)
    assert told == cause
    times = seconds(moments_in(found))
    assert max(time for time in times if time < gap_s) == ends
    assert min(time for time in times if time > gap_s) == begins


def test_a_dropped_picture_is_no_gap_but_marked() -> None:
    found = aligned(Recording(2.0, silent=[("camera/top", 0.95, 1.05)]).samples())
    assert gaps_in(found) == []
    assert [time for time, m in zip(seconds(moments_in(found)), moments_in(found), strict=True) if m.is_between] == [
        1.0
    ]


def test_nobody_in_command_is_a_gap_and_so_is_being_told_to_stop_or_nothing() -> None:
    def source(stamp_ns: int) -> Source:
        return Source.NOBODY if stamp_ns < at(0.35) else Source.POLICY

    spans = (Span("Stop", at(0.15)), Span("push", at(0.3)), Span("stop", at(1.0)), Span("push", at(1.5)))
    found = aligned(Recording(2.0, source).samples(), spans)
    assert gaps_in(found) == [
        (0.0, "no instruction"),
        (0.2, "told to stop"),
        (0.3, "nobody in command"),
        (1.0, "told to stop"),
    ]
    assert seconds(moments_in(found)) == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.5, 1.6, 1.7, 1.8]


def test_a_human_is_told_from_the_policy_at_the_instant_of_the_moment() -> None:
    def source(stamp_ns: int) -> Source:
        return Source.TELEOP if at(0.45) <= stamp_ns < at(0.8) else Source.POLICY

    moments = moments_in(aligned(Recording(1.2, source).samples()))
    assert seconds([moment for moment in moments if moment.source is Source.TELEOP]) == [0.5, 0.6, 0.7]


def test_what_arrives_too_late_or_out_of_order_is_refused_and_counted() -> None:
    samples = Recording(1.0).samples()
    late = Sample(channels.EE_POSE, where(at(0.9)), at(0.9), at(1.2))
    early = Sample(channels.EE_POSE, where(at(0.5)), at(0.5), at(0.7))
    aligner = Aligner(Plan(pose_contract(), 10), TOLD)
    for sample in sorted([*samples, late, early], key=lambda one: one.received_ns):
        list(aligner.receive(sample))
    assert aligner.refused == {
        "ee_pose: arrived more than 0.25 s after its stamp": 1,
        "ee_pose: stamp not increasing": 1,
    }


def test_of_two_commands_of_one_instant_the_later_counts() -> None:
    """The guard ticks on while a simulated clock stands still."""
    samples = Recording(1.0).samples()
    (second,) = (s for s in samples if s.channel == COMMANDED and s.stamp_ns == at(0.5))
    moved = replace(second.value.motion, pose=where(at(0.51)))
    later = replace(second, value=replace(second.value, motion=moved))
    moments = moments_in(aligned([*samples[: samples.index(second) + 1], later, *samples[samples.index(second) + 1 :]]))
    np.testing.assert_array_equal(moments[5].commanded.position, where(at(0.51)).position)


def test_little_is_kept() -> None:
    """Whether moments come or not, memory does not grow with the recording."""
    for spans in (TOLD, ()):
        aligner = Aligner(Plan(pose_contract(), 10), spans)
        sizes = []
        for sample in Recording(20.0, silent=[("camera/top", 10.0, 20.0)]).samples():
            list(aligner.receive(sample))
            sizes.append(sum(len(track.within(0, at(1e6))) for track in aligner._tracks.values()))
        assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) < 600


Silences = st.lists(
    st.tuples(
        st.sampled_from(["camera/front", "camera/top", "ee_pose", "joint_states", COMMANDED]),
        st.floats(0, 2),
        st.floats(0, 1),
    ),
    max_size=3,
)
Switches = st.lists(st.tuples(st.floats(0, 2), st.sampled_from(list(Source))), max_size=4)
Told = st.lists(
    st.tuples(st.integers(-8, 16), st.sampled_from(["push", "pull", "stop", ""])),
    min_size=1,
    max_size=4,
    unique_by=itemgetter(0),
)


def stamps_by_channel(samples: list[Sample[Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for sample in samples:
        found.setdefault(sample.channel, []).append(sample.stamp_ns or 0)
    return {channel: sorted(stamps) for channel, stamps in found.items()}


def is_fresh(moment: Moment, stamps: dict[str, list[int]]) -> bool:
    """By the contract, looked up anew in all that was recorded."""
    for channel, max_age_s in Plan(pose_contract(), 10).max_ages_s.items():
        past = bisect_right(stamps.get(channel, []), moment.t_ns)
        if past == 0 or moment.t_ns - stamps[channel][past - 1] > max_age_s * NS_PER_S:
            return False
    return True


@settings(max_examples=30, deadline=None)
@given(
    silences=Silences,
    switches=Switches,
    told=Told,
    latency_ns=st.integers(0, 60_000_000),
    offsets=st.dictionaries(st.sampled_from(VIEWS), st.integers(0, 40_000_000)),
    jitter=st.integers(-3_000_000, 3_000_000),
    fps=st.sampled_from([5, 10, 20]),
)
def test_no_moment_is_stale_or_knows_what_comes_after_it_or_spans_a_gap_or_an_instruction(
    silences: list[tuple[str, float, float]],
    switches: list[tuple[float, Source]],
    told: list[tuple[int, str]],
    latency_ns: int,
    offsets: dict[str, int],
    jitter: int,
    fps: int,
) -> None:
    def source(stamp_ns: int) -> Source:
        past = [who for time, who in sorted(switches, key=lambda one: one[0]) if at(time) <= stamp_ns]
        return past[-1] if past else Source.POLICY

    recording = Recording(
        2.0,
        source,
        latency_ns=latency_ns,
        frame_ns=FRAME_NS + jitter,
        silent=[(name, start, start + length) for name, start, length in silences],
        view_offset_ns=offsets,
    )
    samples = recording.samples()
    spans = tuple(Span(words, at(eighths / 8)) for eighths, words in sorted(told))
    stamps_of = stamps_by_channel(samples)
    found = aligned(samples, spans, fps)
    for moment in moments_in(found):
        stamps = [sample.stamp_ns or 0 for sample in moment.pictures.values()]
        assert max(stamps) <= moment.t_ns
        assert max(stamps) - min(stamps) <= pose_contract().max_camera_skew_s * NS_PER_S
        assert all((picture(s.stamp_ns or 0).pixels == s.value.pixels).all() for s in moment.pictures.values())
        assert is_fresh(moment, stamps_of)
        for pose in (moment.measured, moment.commanded):
            assert pose.position[0] <= where(moment.t_ns).position[0] + 1e-12
        assert not moment.span.is_hold
        assert moment.span == max((s for s in spans if s.from_ns <= moment.t_ns), key=lambda s: s.from_ns)
        ticks = range(-(-(moment.t_ns - START_NS) // TICK_NS), (moment.t_ns - START_NS) // TICK_NS + 80 // fps)
        assert Source.NOBODY not in {source(START_NS + tick * TICK_NS) for tick in ticks}
    slack_ns = Plan(pose_contract(), fps).slack_s * NS_PER_S
    for earlier, later in itertools.pairwise(found):
        assert earlier.t_ns <= later.t_ns
        if isinstance(earlier, Moment) and isinstance(later, Moment):
            assert abs(later.t_ns - earlier.t_ns - NS_PER_S / fps) <= slack_ns
        if isinstance(earlier, Gap) and isinstance(later, Gap):
            assert earlier.cause != later.cause


@settings(max_examples=20, deadline=None)
@given(latency_ns=st.integers(0, 60_000_000), fps=st.sampled_from([5, 10, 20]))
def test_how_long_messages_took_changes_nothing(latency_ns: int, fps: int) -> None:
    prompt = moments_in(aligned(Recording(1.5).samples(), fps=fps))
    delayed = moments_in(aligned(Recording(1.5, latency_ns=latency_ns).samples(), fps=fps))
    assert [moment.t_ns for moment in delayed][: len(prompt)] == [moment.t_ns for moment in prompt]
