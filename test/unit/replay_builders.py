"""Hand-made replays whose metrics are known: a robot that moves along x, and a policy that plans it so or otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from builders import HOME, UPRIGHT, pose, pose_contract, twist

from vla_ros.control.safety import Motion
from vla_ros.replay.decisions import (
    GuardDecision,
    Instructed,
    Outcome,
    PolicyDecision,
    RecordedCommand,
    Replayed,
    ReplyDecision,
    in_order,
)
from vla_ros.replay.judging.action_errors import Compared, chunks_of, compare
from vla_ros.replay.judging.commands import no_surroundings
from vla_ros.replay.judging.comparison import Answers, Side, side_by_side
from vla_ros.replay.judging.judgement import Judgement, judge
from vla_ros.types import (
    ACTION_WIDTH,
    GRIPPER,
    LINEAR_VELOCITY,
    NS_PER_S,
    POSITION,
    QUATERNION,
    Chunk,
    Now,
    Target,
)

TICK_NS = 12_500_000
START_NS = 100 * NS_PER_S
SPEED_M_S = 0.1
CHUNK_DT_S, CHUNK_ROWS = 0.05, 9
ASKED_EVERY, ANSWERED_AFTER = 8, 2


def at(tick: int) -> Now:
    """The instant of a tick. ROS time and steady time differ on purpose."""
    return Now(START_NS + tick * TICK_NS, 5 * NS_PER_S + tick * TICK_NS)


def seconds(tick: int) -> float:
    return tick * TICK_NS / NS_PER_S


def motion(tick: int, gripper: float | None = 1.0, speed_m_s: float = SPEED_M_S) -> Motion:
    """Where the recorded robot was sent at a tick: along x at a constant speed."""
    return Motion(pose(x=SPEED_M_S * seconds(tick)), twist(speed_m_s), gripper)


def chunk(tick: int, offset: Sequence[float] = (0.0, 0.0, 0.0), direction: float = 1.0, gripper: float = 1.0) -> Chunk:
    """What the recorded robot did, planned at a tick, displaced by an offset [m]; direction -1: the other way."""
    rows = np.zeros((CHUNK_ROWS, ACTION_WIDTH))
    along = SPEED_M_S * direction * CHUNK_DT_S * np.arange(CHUNK_ROWS)
    rows[:, POSITION] = HOME + np.array([SPEED_M_S * seconds(tick), 0.0, 0.0]) + np.array(offset)
    rows[:, 0] += along
    rows[:, QUATERNION] = UPRIGHT
    rows[:, LINEAR_VELOCITY] = [SPEED_M_S * direction, 0.0, 0.0]
    rows[:, GRIPPER] = gripper
    return Chunk(at(tick).ros_ns, CHUNK_DT_S, rows)


def reply(plan: Chunk, request_id: int = 1, inference_s: float = 0.02) -> ReplyDecision:
    return ReplyDecision(request_id, plan.t_obs_ns, "a" * 64, plan, "b" * 64, "", inference_s)


def policy_tick(tick: int, **changes: Any) -> PolicyDecision:
    """A tick on which the policy commands what the recorded robot did."""
    moved = motion(tick)
    target = Target(moved.pose, moved.twist, 1.0)
    plain = PolicyDecision(at(tick), 0.0125, (), None, "commanding", target, at(tick).ros_ns)
    return replace(plain, **changes)


def guard_tick(tick: int, **changes: Any) -> GuardDecision:
    """A tick on which the policy is followed without any limit."""
    plain = GuardDecision(at(tick), 0.0125, "armed", "policy", "policy in command", (), motion(tick))
    return replace(plain, **changes)


def perfect(ticks: int = 80) -> Replayed:
    """A replay that decides what was recorded: asked every eighth tick, answered two ticks later."""
    policy = []
    for tick in range(ticks):
        asked = at(tick).ros_ns if tick % ASKED_EVERY == 0 else None
        is_answer = tick % ASKED_EVERY == ANSWERED_AFTER
        replies = (reply(chunk(tick - ANSWERED_AFTER), tick),) if is_answer else ()
        policy.append(policy_tick(tick, requested_t_obs_ns=asked, replies=replies))
    return Replayed(
        contract=pose_contract(),
        identity={"bag": "made by hand", "policy": {"name": "perfect"}},
        instructions=(Instructed(at(0).ros_ns, "go along x"),),
        policy=tuple(policy),
        guard=tuple(guard_tick(tick) for tick in range(ticks)),
        recorded=tuple(RecordedCommand(at(tick).ros_ns, motion(tick)) for tick in range(ticks)),
        outcome=Outcome(),
    )


def judged(replayed: Replayed) -> Judgement:
    return judge(replayed.contract, in_order(replayed))


def compared(replayed: Replayed) -> Compared:
    """All rows of all chunks."""
    around = no_surroundings().and_then(replayed)
    return compare(tuple(chunks_of(replayed.policy)), around, replayed.contract.timeouts.driver_s)


def sides(first: Replayed, second: Replayed) -> Side:
    """Both beside each other."""
    return side_by_side(*(Answers(judged(one).quantities, chunks_of(one.policy)) for one in (first, second)))


def with_chunks(replayed: Replayed, **changes: Any) -> Replayed:
    """The same replay with every chunk made anew, see `chunk`."""
    policy = []
    for index, tick in enumerate(replayed.policy):
        replies = tuple(reply(chunk(index - ANSWERED_AFTER, **changes), one.request_id) for one in tick.replies)
        policy.append(replace(tick, replies=replies))
    return replace(replayed, policy=tuple(policy))


def with_guard(replayed: Replayed, changes: dict[int, dict[str, Any]]) -> Replayed:
    """The same replay with some of the guard's ticks changed."""
    guard = tuple(replace(tick, **changes.get(index, {})) for index, tick in enumerate(replayed.guard))
    return replace(replayed, guard=guard)
