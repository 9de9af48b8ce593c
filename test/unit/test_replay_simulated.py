"""A bag without traces is replayed by the contract's schedule, and what it cannot tell is said."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_runs import SENTENCE, LightSeeker, LiveRun, small_contract

from vla_ros.contract import Contract
from vla_ros.errors import BagError, ReplayError
from vla_ros.replay.decision_log import gather, write_log
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.policy_player import RECORDED
from vla_ros.replay.run import FALLBACK_LATENCY_S, Replay, Terms
from vla_ros.types import Needs

TRACES = ("/policy/trace", "/guard/trace")


@pytest.fixture(scope="module")
def lived() -> LiveRun:
    return LiveRun().run(
        3.0,
        {
            0.3: LiveRun.say,
            0.35: LiveRun.arm,
            1.5: lambda run: run.take_over(0.1),
            2.0: lambda run: run.take_over(None),
            2.5: lambda run: run.say("stop"),
        },
    )


@pytest.fixture(scope="module")
def bag(lived: LiveRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived.write(tmp_path_factory.mktemp("bags") / "plain", TRACES)


def replay(bag: Path, policy: LightSeeker | None = None, contract: Contract | None = None, **given: object) -> Replayed:
    terms = replace(Terms(bag, contract or small_contract()), **given)  # type: ignore[arg-type]
    replay = Replay(terms, "light seeker", policy or LightSeeker())
    assert replay.agreement is None
    return gather(terms.contract, {}, list(replay.decisions()), replay.outcome())


def without(lived: LiveRun, folder: Path, topics: Collection[str]) -> Path:
    return lived.write(folder, [*TRACES, *topics])


def test_policy_and_guard_tick_at_the_contracts_rates_and_act(lived: LiveRun, bag: Path) -> None:
    replayed = replay(bag)
    for ticks in (replayed.policy, replayed.guard):
        assert abs(len(ticks) - lived.ticks) <= 2
        assert {round(tick.dt_s, 6) for tick in ticks} == {0.0125}
    assert {tick.source for tick in replayed.guard} == {"nobody", "policy", "teleop"}
    assert replayed.guard[0].mode == "disarmed" and replayed.guard[-1].mode == "armed"
    assert "told to stop" in replayed.policy[-1].text
    assert [told.text for told in replayed.instructions] == [SENTENCE, "stop"]
    assert any("simulated at the contract's rates" in note for note in replayed.outcome.notes)
    assert any("armed while there is an instruction" in note for note in replayed.outcome.notes)
    assert f"every inference is taken to last {FALLBACK_LATENCY_S:g} s" in replayed.outcome.notes


def test_what_the_robot_obeyed_is_told_as_recorded(lived: LiveRun, bag: Path) -> None:
    sent = [one for one in lived.said if one.topic == "/target_pose"]
    recorded = replay(bag).recorded
    # A pose alone has no twist: the first one tells where the second comes from.
    assert len(recorded) == len(sent) - 1
    position = sent[1].message.pose.position
    assert recorded[0].motion.pose.position.tolist() == [position.x, position.y, position.z]
    step = recorded[6].motion.pose.position - recorded[5].motion.pose.position
    assert np.allclose(recorded[6].motion.twist.linear * 0.0125, step)


@pytest.mark.parametrize("latency_s", [0.02, 0.2])
def test_an_inference_lasts_as_long_as_it_is_told_to(bag: Path, latency_s: float) -> None:
    replayed = replay(bag, latency=latency_s)
    asked = {tick.requested_t_obs_ns: tick.now.steady_ns for tick in replayed.policy if tick.requested_t_obs_ns}
    waits = [
        (tick.now.steady_ns - asked[reply.t_obs_ns]) / 1e9
        for tick in replayed.policy
        for reply in tick.replies
        if reply.t_obs_ns is not None
    ]
    assert waits and all(latency_s <= wait <= latency_s + 0.0126 for wait in waits)


def test_two_replays_leave_the_same_bytes(bag: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_log(tmp_path / name, replay(bag))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_the_measured_pose_stands_for_a_commanded_one_that_is_not_there(lived: LiveRun, tmp_path: Path) -> None:
    replayed = replay(without(lived, tmp_path / "bag", ["/guard/commanded_pose"]))
    assert any("the measured pose stands for it" in note for note in replayed.outcome.notes)
    assert any(tick.text == "commanding" for tick in replayed.policy)


def test_an_instruction_may_be_given_beside_the_bag(lived: LiveRun, tmp_path: Path) -> None:
    bag = without(lived, tmp_path / "bag", ["/command"])
    with pytest.raises(BagError, match=r"lacks /command \(std_msgs/msg/String\)"):
        replay(bag)
    replayed = replay(bag, instruction="follow it")
    assert [told.text for told in replayed.instructions] == ["follow it"]
    assert any(tick.source == "policy" for tick in replayed.guard)


def test_a_part_begins_with_the_instruction_given_before(bag: Path) -> None:
    replayed = replay(bag, from_s=1.0, to_s=1.4)
    assert [told.text for told in replayed.instructions] == [SENTENCE]
    assert 31 <= len(replayed.policy) <= 33
    assert replayed.policy[0].text == "commanding", "the streams filled before"


def test_without_a_clock_the_robots_time_is_the_recorders(lived: LiveRun, tmp_path: Path) -> None:
    """These stamps are of a simulated clock: nothing is fresh by another."""
    replayed = replay(without(lived, tmp_path / "bag", ["/clock"]))
    assert all(tick.target is None for tick in replayed.policy)
    assert any("missing or stale" in tick.text for tick in replayed.policy)


def test_a_policy_that_needs_fewer_views_needs_fewer_topics(lived: LiveRun, tmp_path: Path) -> None:
    bag = without(lived, tmp_path / "bag", ["/camera/wrist/image_raw", "/camera/top/image_raw"])
    with pytest.raises(BagError, match="lacks /camera/wrist/image_raw"):
        replay(bag)
    assert any(tick.text == "commanding" for tick in replay(bag, LightSeeker(Needs(("front",)))).policy)


def test_a_latency_that_nobody_recorded_is_refused(bag: Path) -> None:
    with pytest.raises(ReplayError, match="no traces, which record the latency: choose measured, or seconds"):
        replay(bag, latency=RECORDED)


def test_a_robot_that_obeys_twists_has_its_twists_recorded(lived: LiveRun, bag: Path) -> None:
    limits = replace(small_contract().limits, max_following_error_m=None, max_following_error_rad=None)
    contract = replace(small_contract(), command_interface="twist", limits=limits)
    recorded = replay(bag, contract=contract).recorded
    sent = [one.message.twist.linear for one in lived.said if one.topic == "/target_twist"]
    assert [one.motion.twist.linear.tolist() for one in recorded] == [[v.x, v.y, v.z] for v in sent]
