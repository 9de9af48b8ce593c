"""twist_mux's semantics: priorities, timeouts, locks."""

from __future__ import annotations

import pytest
from builders import twist

from vla_ros.control.arbiter import Claim, Decision, Lock, Source, arbitrate
from vla_ros.control.intents import Move, Reason, Stop

IDLE = Stop(Reason.POLICY_AWAITED)
GO = Move(twist(x=0.1), None)
POLICY = Claim(Source.POLICY, 10, GO)
TELEOP = Claim(Source.TELEOP, 100, GO)
LATCH, STALE = Stop(Reason.LATCHED), Stop(Reason.FEEDBACK_STALE)


@pytest.mark.parametrize("claims", [[POLICY, TELEOP], [TELEOP, POLICY], [TELEOP]])
def test_the_highest_claim_wins_in_any_order(claims):
    assert arbitrate(claims, [], IDLE) == Decision(Source.TELEOP, GO)


def test_without_claims_it_is_idle():
    assert arbitrate([], [], IDLE) == Decision(Source.NOBODY, IDLE)


def test_a_claim_to_stop_keeps_lower_claims_out():
    silent = Claim(Source.TELEOP, 100, Stop(Reason.TELEOP_SILENT))
    assert arbitrate([POLICY, silent], [], IDLE) == Decision(Source.NOBODY, silent.intent)


@pytest.mark.parametrize(("priority", "winner"), [(50, Source.TELEOP), (100, Source.TELEOP), (101, Source.NOBODY)])
def test_a_lock_silences_the_claims_below_it(priority, winner):
    decision = arbitrate([POLICY, TELEOP], [Lock(priority, True, LATCH)], IDLE)
    assert decision.source is winner


def test_a_lock_between_two_claims_silences_the_lower_alone():
    assert arbitrate([POLICY], [Lock(50, True, STALE)], IDLE) == Decision(Source.NOBODY, STALE)


def test_an_open_lock_does_nothing():
    assert arbitrate([POLICY], [Lock(255, False, LATCH)], IDLE).source is Source.POLICY


def test_the_highest_lock_tells_why_and_the_first_of_equals():
    assert arbitrate([], [Lock(50, True, STALE), Lock(255, True, LATCH)], IDLE).intent == LATCH
    assert arbitrate([], [Lock(255, True, LATCH), Lock(255, True, STALE)], IDLE).intent == LATCH
