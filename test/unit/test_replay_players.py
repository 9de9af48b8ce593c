"""A bag with traces is replayed tick by tick as it was lived, and what the bag lacks is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from live_runs import SENTENCE, LightSeeker, LiveRun, eventful, small_contract
from recorded_bags import Said

from vla_ros.control import channels
from vla_ros.errors import BagError, ReplayError
from vla_ros.policy.protocol import Policy
from vla_ros.replay.decision_log import gather, write_log
from vla_ros.replay.decisions import Replayed
from vla_ros.replay.policy_player import MEASURED
from vla_ros.replay.run import Replay, Terms
from vla_ros.types import Needs


@pytest.fixture(scope="module")
def lived() -> LiveRun:
    return eventful(LiveRun())


@pytest.fixture(scope="module")
def bag(lived: LiveRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived.write(tmp_path_factory.mktemp("bags") / "lived")


def replay(terms: Terms, policy: Policy | None = None) -> tuple[Replay, Replayed]:
    replay = Replay(terms, "light seeker", policy or LightSeeker())
    decisions = list(replay.decisions())
    return replay, gather(terms.contract, {"bag": "lived"}, decisions, replay.outcome())


def terms(bag: Path, **changes: object) -> Terms:
    return replace(Terms(bag, small_contract()), **changes)  # type: ignore[arg-type]


def test_every_tick_decides_again_what_it_decided_live(lived: LiveRun, bag: Path) -> None:
    played, replayed = replay(terms(bag))
    agreement = played.agreement
    assert agreement is not None
    for tally in (agreement.policy, agreement.guard):
        assert (tally.first_difference, tally.agreeing) == ("", lived.ticks)
        assert tally.complete == tally.ticks == lived.ticks
    assert replayed.outcome.missing == {} and replayed.outcome.notes == ()
    # It was a life in which something happened.
    modes = {tick.mode for tick in replayed.guard}
    assert modes == {"disarmed", "armed", "latched"}
    assert {tick.source for tick in replayed.guard} == {"policy", "teleop", "nobody"}
    texts = " ".join({tick.text for tick in replayed.policy})
    for words in ("commanding", "camera/wrist", "the policy failed", "told to stop", "no instruction yet"):
        assert words in texts, words
    assert [told.text for told in replayed.instructions] == [
        SENTENCE,
        "something else",
        "fail",
        SENTENCE,
        "stop",
        SENTENCE,
    ]


def test_nodes_that_die_and_begin_again_are_followed(tmp_path: Path) -> None:
    run = LiveRun().run(2.0, {0.2: LiveRun.say, 0.3: LiveRun.arm, 1.0: LiveRun.lose_worker})
    run.restart_nodes()
    run.run(2.0, {0.2: LiveRun.say, 0.3: LiveRun.arm, 1.2: LiveRun.reset_world, 1.3: LiveRun.arm})
    played, replayed = replay(terms(run.write(tmp_path / "bag")))
    assert played.agreement is not None
    for tally in (played.agreement.policy, played.agreement.guard):
        assert (tally.first_difference, tally.agreeing, tally.complete) == ("", run.ticks, run.ticks)
    assert any("killed by signal 9" in tick.text for tick in replayed.policy)


def test_two_replays_of_a_bag_leave_the_same_bytes(bag: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_log(tmp_path / name, replay(terms(bag))[1])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_another_policy_differs_where_it_answers_first(lived: LiveRun, bag: Path) -> None:
    played, _ = replay(terms(bag), LightSeeker(gain=1.0 + 1e-9))
    assert played.agreement is not None
    policy, guard = played.agreement.policy, played.agreement.guard
    assert policy.complete == lived.ticks
    assert "the chunk differs" in policy.first_difference and "observation" not in policy.first_difference
    assert 0 < policy.agreeing < lived.ticks
    # A billionth is below what a robot can tell.
    assert (guard.agreeing, guard.first_difference) == (lived.ticks, "")


def test_a_policy_with_another_gain_is_told_apart_by_its_commands(lived: LiveRun, bag: Path) -> None:
    played, _ = replay(terms(bag), LightSeeker(gain=-1.0))
    assert played.agreement is not None
    assert "commands differ by" in played.agreement.guard.first_difference


def lossy(lived: LiveRun, folder: Path, topic: str, lost: Collection[int]) -> Path:
    """The bag without some of a topic's messages, by their place."""
    run = LiveRun()
    of_topic = [one for one in lived.said if one.topic == topic]
    gone = {id(of_topic[index]) for index in lost}
    run.said = [one for one in lived.said if id(one) not in gone]
    return run.write(folder)


@pytest.mark.parametrize(
    ("topic", "channel"),
    [("/camera/top/image_raw", "camera/top"), ("/ee_pose", channels.EE_POSE), ("/policy/trace", "an earlier tick")],
)
def test_what_is_not_in_the_bag_is_told_and_not_called_a_disagreement(
    lived: LiveRun, tmp_path: Path, topic: str, channel: str
) -> None:
    places = [9, 10] if "camera" in topic else [72, 73]
    played, replayed = replay(terms(lossy(lived, tmp_path / "bag", topic, places)))
    assert replayed.outcome.missing[channel] >= 1
    assert played.agreement is not None
    for tally in (played.agreement.policy, played.agreement.guard):
        assert tally.first_difference == "" and tally.agreeing == tally.complete
    # The policy remembers what it saw until it is told something else.
    assert lived.ticks * 0.3 < played.agreement.policy.complete < lived.ticks


def test_a_bag_of_the_middle_of_a_run_agrees_once_the_policy_has_been_asked_anew(tmp_path: Path) -> None:
    run = LiveRun(LightSeeker(gain=0.5)).run(1.0, {0.1: LiveRun.say, 0.2: LiveRun.arm})
    run.said = []
    before = run.ticks
    run.run(3.0)
    played, replayed = replay(terms(run.write(tmp_path / "bag")), LightSeeker(gain=0.5))
    assert [told.text for told in replayed.instructions] == [SENTENCE]
    assert len(replayed.policy) == run.ticks - before
    assert played.agreement is not None and played.agreement.policy.first_difference == ""


def test_what_a_policy_heard_before_it_was_told_anything_decides_nothing(tmp_path: Path) -> None:
    run = LiveRun().run(1.0)
    run.said = []
    before = run.ticks
    run.run(4.0, {0.1: LiveRun.say, 0.2: LiveRun.arm})
    played, _ = replay(terms(run.write(tmp_path / "bag")))
    tally = played.agreement.policy if played.agreement is not None else None
    assert tally is not None and tally.first_difference == "" and tally.agreeing == tally.complete
    # The first tick lacks what came before it. The plans made while the old samples are kept may, too.
    assert tally.complete > tally.ticks - 0.3 * (run.ticks - before)


def test_a_part_of_a_bag_begins_with_what_was_known_by_then(bag: Path) -> None:
    _, whole = replay(terms(bag))
    _, part = replay(terms(bag, from_s=3.9, to_s=4.9))
    assert part.policy[-1].text == next(t.text for t in whole.policy if t.now == part.policy[-1].now)
    assert 75 <= len(part.policy) <= 81
    assert [told.text for told in part.instructions] == [SENTENCE, "stop", SENTENCE]


def test_a_slower_policy_answers_later(bag: Path) -> None:
    delays = {}
    for latency in (0.03, 0.15):
        _, replayed = replay(terms(bag, latency=latency))
        asked = {tick.requested_t_obs_ns: tick.now.steady_ns for tick in replayed.policy if tick.requested_t_obs_ns}
        waits = [t.now.steady_ns - asked[r.t_obs_ns] for t in replayed.policy for r in t.replies if r.t_obs_ns in asked]
        delays[latency] = min(waits) / 1e9
    assert 0.03 <= delays[0.03] < 0.03 + 0.014
    assert 0.15 <= delays[0.15] < 0.15 + 0.014


def test_a_measured_latency_is_that_of_the_policy_here(bag: Path) -> None:
    _, replayed = replay(terms(bag, latency=MEASURED))
    replies = [reply for tick in replayed.policy for reply in tick.replies if not reply.failed]
    assert replies and all(0.0 < reply.inference_s < 1.0 for reply in replies)


def test_a_policy_that_needs_other_views_hears_them_as_they_were_recorded(bag: Path) -> None:
    _, replayed = replay(terms(bag), LightSeeker(Needs(("front",))))
    blind_live = [tick for tick in replayed.policy if "camera/wrist" in tick.text]
    assert blind_live == []
    run = LiveRun(LightSeeker(Needs(("front",)))).run(2.0, {0.2: LiveRun.say, 0.3: LiveRun.arm})
    several = replay(terms(run.write(bag.parent / "one view")), LightSeeker())[1]
    assert any(tick.text == "commanding" for tick in several.policy)


def test_what_cannot_be_asked_for_is_refused_in_words(bag: Path, lived: LiveRun, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"from 4 s to 3 s there is nothing: an interval begins before it ends"):
        replay(terms(bag, from_s=4.0, to_s=3.0))
    with pytest.raises(ReplayError, match="there is nothing from 50 to 4"):
        replay(terms(bag, from_s=50.0))
    with pytest.raises(
        BagError, match=r"lacks /robot/camera/front/image_raw \(sensor_msgs/msg/Image\), .*; in the bag are /camera"
    ):
        replay(terms(bag, namespace="robot"))
    without = lived.write(tmp_path / "without", without=["/camera/front/image_raw", "/policy/trace"])
    with pytest.raises(BagError, match="lacks /camera/front/image_raw"):
        replay(terms(without))
    run = LiveRun()
    run.said = [Said(one.topic.replace("ee_pose", "joint_states_"), *_rest(one)) for one in lived.said[:50]]
    with pytest.raises(BagError, match="lacks"):
        replay(terms(run.write(tmp_path / "renamed")))


def _rest(said: Said) -> tuple[int, object]:
    return said.received_ns, said.message
