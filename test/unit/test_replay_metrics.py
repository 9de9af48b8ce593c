"""Metrics of hand-made replays, where the answer is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import UPRIGHT, pose, twist
from hypothesis import given
from hypothesis import strategies as st
from replay_builders import (
    ANSWERED_AFTER,
    CHUNK_ROWS,
    at,
    chunk,
    compared,
    guard_tick,
    judged,
    motion,
    perfect,
    policy_tick,
    reply,
    with_chunks,
    with_guard,
)

from vla_ros.geometry import from_rotation_vector, multiply, rotation_between
from vla_ros.replay.decision_log import read_log, write_log
from vla_ros.replay.decisions import Instructed, RecordedCommand, Replayed, ReplyDecision, in_order
from vla_ros.replay.judging.action_errors import over_horizon
from vla_ros.replay.judging.catalogue import METRICS, measure
from vla_ros.replay.judging.commands import recorded_track, rows_at
from vla_ros.replay.judging.judgement import judge
from vla_ros.replay.judging.samples import Pooled
from vla_ros.types import GRIPPER, POSITION, QUATERNION, Chunk

NOT_COUNTED_IN_NOTHING = {"stops", "latches", "near_misses", "policy_failures", "gripper_missed", "gripper_extra"}
_ROTATION_VECTOR = st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3)


def metric(replayed: Replayed, name: str) -> float:
    value = judged(replayed).metrics[name]
    assert value is not None
    return value


def test_a_policy_that_decides_what_was_recorded_has_no_error() -> None:
    metrics = judged(perfect()).metrics
    for name in ("position_error_max", "rotation_error_max", "velocity_error_max", "gripper_error_mean"):
        assert metrics[name] == pytest.approx(0.0, abs=1e-9)
    assert metrics["direction_agreement"] == pytest.approx(1.0)
    assert metrics["compared_rows"] > CHUNK_ROWS
    assert (metrics["stops"], metrics["latches"], metrics["near_misses"], metrics["silent"]) == (0, 0, 0, 0)
    assert metrics["chunk_disagreement_max"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["target_leap_max"] == pytest.approx(0.0, abs=1e-9)


def test_every_metric_is_explained_and_has_a_name_that_a_condition_can_have() -> None:
    for name, one in METRICS.items():
        assert name.isidentifier() and one.meaning


def test_a_constant_displacement_is_the_position_error() -> None:
    replayed = with_chunks(perfect(), offset=(0.0, 0.03, -0.04))
    assert metric(replayed, "position_error_p95") == pytest.approx(0.05)
    assert metric(replayed, "y_error_mean") == pytest.approx(0.03)
    assert metric(replayed, "z_error_p95") == pytest.approx(0.04)
    assert metric(replayed, "x_error_p95") == pytest.approx(0.0, abs=1e-9)


def test_a_plan_that_leads_the_other_way_has_opposed_directions_and_errors_that_grow() -> None:
    replayed = with_chunks(perfect(), direction=-1.0)
    assert metric(replayed, "direction_agreement") == pytest.approx(-1.0)
    assert metric(replayed, "direction_opposed") == 1.0
    assert metric(replayed, "velocity_error_mean") == pytest.approx(0.2)
    parts = over_horizon(judged(replayed).quantities, bins=4)
    errors = [part["x"] for part in parts]
    assert errors == sorted(errors)
    assert parts[-1]["to_s"] == pytest.approx(0.4) and parts[-1]["x"] == pytest.approx(0.2 * 0.375, abs=0.006)


def test_slow_velocities_have_no_direction() -> None:
    assert judged(with_chunks(perfect(), direction=0.1)).metrics["direction_agreement"] is None


def test_rows_under_the_next_instruction_are_not_compared() -> None:
    replayed = perfect(40)
    told = (*replayed.instructions, Instructed(at(20).ros_ns, "come back"))
    found = compared(replace(replayed, instructions=told))
    before = found.t_obs_ns < at(20).ros_ns
    assert before.any() and (found.at_ns[before] < at(20).ros_ns).all()
    assert (~before).any()


def test_rows_are_not_compared_with_what_a_human_commanded() -> None:
    replayed = with_guard(perfect(40), {tick: {"source": "teleop"} for tick in range(10, 30)})
    at_ns = compared(replayed).at_ns
    assert not ((at_ns >= at(10).ros_ns) & (at_ns < at(30).ros_ns)).any()
    assert (at_ns >= at(30).ros_ns).any()


def test_rows_are_not_compared_where_the_robot_was_sent_nothing() -> None:
    replayed = perfect(80)
    kept = tuple(command for index, command in enumerate(replayed.recorded) if not 20 <= index < 60)
    at_ns = compared(replace(replayed, recorded=kept)).at_ns
    assert not ((at_ns > at(19).ros_ns) & (at_ns < at(60).ros_ns)).any()


def test_recorded_commands_are_interpolated_and_the_gripper_is_not() -> None:
    turned = multiply(from_rotation_vector(np.array([0.0, 0.0, 0.02])), UPRIGHT)
    later = replace(motion(1, gripper=0.0), pose=replace(motion(1).pose, quaternion=-turned))
    track = recorded_track([RecordedCommand(at(0).ros_ns, motion(0)), RecordedCommand(at(1).ros_ns, later)])
    middle = rows_at(track, np.array([at(0).ros_ns + 6_250_000]), 0.25)[0]
    assert middle[POSITION] == pytest.approx(pose(x=0.1 * 0.00625).position)
    assert rotation_between(UPRIGHT, middle[QUATERNION])[2] == pytest.approx(0.01, abs=1e-6)
    assert middle[GRIPPER] == 1.0
    assert np.isnan(rows_at(track, np.array([at(2).ros_ns]), 0.25)).all()


@given(_ROTATION_VECTOR, _ROTATION_VECTOR)
def test_rotation_errors_are_those_of_the_geometry(first: list[float], second: list[float]) -> None:
    start, end = from_rotation_vector(np.array(first)), from_rotation_vector(np.array(second))
    plan = chunk(0)
    rows = plan.rows.copy()
    rows[:, QUATERNION] = end
    still = [replace(motion(tick), pose=replace(motion(tick).pose, quaternion=start)) for tick in range(80)]
    replayed = replace(
        perfect(),
        policy=(policy_tick(2, replies=(_reply(Chunk(plan.t_obs_ns, plan.dt_s, rows)),)),),
        recorded=tuple(RecordedCommand(at(tick).ros_ns, one) for tick, one in enumerate(still)),
    )
    errors = compared(replayed).errors[:, 3:6]
    expected = rotation_between(start, end)
    if np.linalg.norm(expected) < math.pi - 1e-3:  # half a turn has two axes
        assert errors == pytest.approx(np.tile(expected, (len(errors), 1)), abs=1e-6)


def test_gripper_switches_are_matched_within_a_second() -> None:
    replayed = perfect(240)
    recorded = [replace(motion(tick), gripper=0.0 if 40 <= tick < 200 else 1.0) for tick in range(240)]
    late = {tick: {"command": motion(tick, gripper=0.0 if 48 <= tick < 239 else 1.0)} for tick in range(240)}
    replayed = replace(
        with_guard(replayed, late),
        recorded=tuple(RecordedCommand(at(tick).ros_ns, one) for tick, one in enumerate(recorded)),
    )
    assert metric(replayed, "gripper_delay_mean") == pytest.approx((8 * 0.0125 + 39 * 0.0125) / 2)
    assert metric(replayed, "gripper_missed") == 0.0
    never = with_guard(replayed, {tick: {"command": motion(tick)} for tick in range(240)})
    assert metric(never, "gripper_missed") == 2.0 and judged(never).metrics["gripper_delay_mean"] is None
    assert metric(replace(replayed, recorded=replayed.recorded[:1]), "gripper_extra") == 2.0


def test_half_open_is_neither_open_nor_closed() -> None:
    wavering = {tick: {"command": motion(tick, gripper=0.5 if tick % 2 else 1.0)} for tick in range(80)}
    assert metric(with_guard(perfect(), wavering), "gripper_extra") == 0.0


def test_latency_is_from_the_tick_that_asked_and_the_horizon_is_used_up_by_it() -> None:
    assert metric(perfect(), "latency_max") == pytest.approx(ANSWERED_AFTER * 0.0125)
    assert metric(perfect(), "inference_p50") == pytest.approx(0.02)
    assert metric(perfect(), "horizon_used_max") == pytest.approx(ANSWERED_AFTER * 0.0125 / 0.4)


def test_failed_answers_are_counted_and_are_no_inference() -> None:
    failed = ReplyDecision(1, at(0).ros_ns, "a" * 64, None, "", "it raised", 0.0)
    ticks = (policy_tick(0, requested_t_obs_ns=at(0).ros_ns), policy_tick(1, replies=(failed,)))
    replayed = replace(perfect(), policy=ticks)
    assert metric(replayed, "policy_failures") == 1.0
    assert judged(replayed).metrics["inference_mean"] is None
    assert metric(replayed, "latency_mean") == pytest.approx(0.0125)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: replace(plan, rows=plan.rows[:, :7]),
        lambda plan: replace(plan, rows=np.zeros_like(plan.rows)),
        lambda plan: replace(plan, rows=plan.rows + np.nan),
        lambda plan: replace(plan, rows=plan.rows * np.inf),
        lambda plan: replace(plan, rows=plan.rows[:0]),
        lambda plan: replace(plan, rows=plan.rows + 1e7),
        lambda plan: replace(plan, dt_s=0.0),
        lambda plan: replace(plan, dt_s=math.inf),
        lambda plan: replace(plan, dt_s=math.nan),
    ],
    ids=["narrow", "no rotation", "NaN", "infinite", "empty", "huge", "no time", "endless", "dt NaN"],
)
def test_a_chunk_that_no_robot_can_follow_is_a_failure_and_nothing_is_measured_of_it(
    spoil: Callable[[Chunk], Chunk], tmp_path: Path
) -> None:
    replayed = perfect()
    policy = list(replayed.policy)
    index = next(index for index, tick in enumerate(policy) if tick.replies)
    answer = policy[index].replies[0]
    with np.errstate(invalid="ignore"):
        policy[index] = replace(policy[index], replies=(replace(answer, chunk=spoil(answer.chunk)),))
    found = judged(replace(replayed, policy=tuple(policy)))
    usual = judged(replayed)
    assert found.metrics["policy_failures"] == 1.0
    assert found.metrics["compared_rows"] == usual.metrics["compared_rows"] - CHUNK_ROWS
    assert json.loads(json.dumps(found.metrics, allow_nan=False)) == pytest.approx(
        {**usual.metrics, "policy_failures": 1.0, "compared_rows": found.metrics["compared_rows"]}
    )
    write_log(tmp_path / "log", replace(replayed, policy=tuple(policy)))
    assert judged(read_log(tmp_path / "log", replayed.contract)).metrics == found.metrics


def test_an_answer_that_is_almost_too_late_is_a_near_miss() -> None:
    patience_s = perfect().contract.timeouts.inference_s
    late = round(0.95 * patience_s / 0.0125)
    asked = policy_tick(0, requested_t_obs_ns=at(0).ros_ns)
    ticks = (asked, *(policy_tick(tick) for tick in range(1, late)), policy_tick(late, replies=(reply(chunk(0)),)))
    found = judged(replace(perfect(), policy=ticks))
    assert found.metrics["patience_used_max"] == pytest.approx(0.95, abs=0.03)
    assert found.interventions["near miss: an answer is late"] == 1


def test_silence_is_counted_by_cause_and_only_under_an_instruction() -> None:
    silent = policy_tick(0, target=None, text="silent: an input is missing or stale (camera/top: 0.61 s old)")
    ticks = [replace(silent, now=at(tick), stale=("camera/top",)) for tick in range(4)]
    replayed = replace(perfect(), policy=(*ticks, *(policy_tick(tick) for tick in range(4, 8))))
    found = judged(replayed)
    assert found.silences == {"an input is missing or stale": 4}
    assert found.stale == {"camera/top": 4}
    assert (found.metrics["silent"], found.metrics["stale"]) == (0.5, 0.5)
    stopped = replace(replayed, instructions=(Instructed(at(0).ros_ns, " Stop "),))
    assert judged(stopped).silences == {} and judged(stopped).metrics["silent"] is None


def test_clips_count_only_with_the_policy_in_command() -> None:
    clipped = {tick: {"clips": ("workspace", "linear acceleration")} for tick in range(20)}
    human = {tick: {"source": "teleop", "clips": ("workspace",)} for tick in range(40, 80)}
    replayed = with_guard(perfect(), {**clipped, **human})
    assert metric(replayed, "clipped") == 0.5
    assert metric(replayed, "clipped_workspace") == 0.5
    assert metric(replayed, "clipped_gripper_rate") == 0.0


def test_stops_and_latches_are_counted_once_and_by_cause() -> None:
    stop = {"source": "nobody", "text": "nobody in command: the policy fell silent (for 0.21 s)"}
    latch = {
        "source": "nobody",
        "mode": "latched",
        "text": "nobody in command: latched until reset (target 0.400 m away exceeds 0.3 m)",
    }
    wait = {"source": "nobody", "text": "nobody in command: waiting for the policy to observe again"}
    changes = {**dict.fromkeys((10, 11, 12), stop), 30: wait, **dict.fromkeys(range(50, 80), latch)}
    found = judged(with_guard(perfect(), changes))
    assert (found.metrics["stops"], found.metrics["latches"]) == (1.0, 1.0)
    assert found.interventions == {
        "stop: the policy fell silent": 1,
        "latch: target 0.400 m away exceeds 0.3 m": 1,
    }


def test_a_target_almost_out_of_reach_is_a_near_miss_once() -> None:
    limit_m = perfect().contract.limits.max_target_jump_m
    far = replace(policy_tick(0).target, pose=pose(y=0.95 * limit_m))
    replayed = replace(
        perfect(),
        policy=tuple(policy_tick(tick, **({"target": far} if 10 <= tick < 14 else {})) for tick in range(80)),
        guard=tuple(guard_tick(tick, command=replace(motion(0), twist=twist())) for tick in range(80)),
    )
    found = judged(replayed)
    assert found.metrics["near_misses"] == 1.0
    assert found.metrics["jump_used_max"] == pytest.approx(0.95)
    assert found.interventions == {"near miss: the target is far from the command": 1}


def test_a_policy_almost_silent_for_too_long_is_a_near_miss() -> None:
    replayed = perfect()
    silent = tuple(
        replace(tick, target=None) if 10 <= index < 25 else tick for index, tick in enumerate(replayed.policy)
    )
    found = judged(replace(replayed, policy=silent))
    assert found.metrics["silence_used_max"] == pytest.approx(15 * 0.0125 / 0.2)
    assert found.interventions == {"near miss: the policy is silent": 1}


def test_room_in_the_workspace_is_to_the_nearest_wall() -> None:
    replayed = with_guard(perfect(1), {})
    assert judged(replayed).metrics["workspace_room_min"] is None  # one tick follows nothing
    low = {tick: {"command": replace(motion(tick), pose=pose(z=-0.14))} for tick in range(80)}
    assert metric(with_guard(perfect(), low), "workspace_room_min") == pytest.approx(0.01)


def test_chunks_that_differ_from_the_one_before_disagree() -> None:
    replayed = perfect(40)
    policy = list(replayed.policy)
    policy[10] = replace(policy[10], replies=(_reply(chunk(8, offset=(0.0, 0.0, 0.02))),))
    found = judged(replace(replayed, policy=tuple(policy)))
    assert found.metrics["chunk_disagreement_max"] == pytest.approx(0.02)
    assert found.metrics["chunk_disagreement_p50"] == pytest.approx(0.01, abs=0.011)


def test_a_shaking_command_is_less_smooth() -> None:
    steady = with_guard(perfect(160), {})
    shaking = {
        tick: {"command": replace(motion(tick), pose=pose(x=0.00125 * tick + 0.003 * (tick % 4 < 2)))}
        for tick in range(160)
    }
    assert metric(with_guard(steady, shaking), "smoothness") < metric(steady, "smoothness")


def test_what_cannot_be_measured_has_no_value() -> None:
    nothing = replace(perfect(), policy=(), guard=(), recorded=())
    metrics = judged(nothing).metrics
    assert metrics["position_error_p95"] is None and metrics["silent"] is None
    assert metrics["compared_rows"] == 0.0
    assert all(metrics[name] is None for name in NOT_COUNTED_IN_NOTHING)


@pytest.mark.parametrize(("source", "commands"), [("nobody", False), ("teleop", True)])
def test_a_policy_that_is_never_in_command_has_not_been_stopped_zero_times(source: str, commands: bool) -> None:
    replayed = perfect()
    idle = replace(
        replayed,
        policy=tuple(replace(tick, target=None) for tick in replayed.policy),
        guard=tuple(
            replace(tick, source=source, command=tick.command if commands else None) for tick in replayed.guard
        ),
    )
    metrics = judged(idle).metrics
    assert metrics["silent"] == 1.0 and metrics["policy_failures"] == 0.0
    assert all(metrics[name] is None for name in NOT_COUNTED_IN_NOTHING - {"policy_failures"})


def test_damage_is_counted() -> None:
    assert judged(perfect()).metrics["damaged"] == 0.0
    torn = perfect()
    assert judge(torn.contract, in_order(torn), damage="bag_0.mcap is damaged").metrics["damaged"] == 1.0


def test_many_bags_count_by_their_samples() -> None:
    short, long = judged(with_chunks(perfect(24), offset=(0.0, 0.1, 0.0))), judged(perfect(240))
    together = measure(Pooled([short.quantities, long.quantities]))
    rows = [one.metrics["compared_rows"] for one in (short, long)]
    assert together["compared_rows"] == sum(rows)
    assert together["position_error_max"] == pytest.approx(0.1)
    assert together["position_error_p50"] == pytest.approx(0.0, abs=1e-9)


def _reply(plan: Chunk) -> ReplyDecision:
    return ReplyDecision(1, plan.t_obs_ns, "a" * 64, plan, "b" * 64, "", 0.02)
