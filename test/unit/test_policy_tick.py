"""What the policy sees and asks, and which answers it believes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import INSTRUCTION, pose, pose_contract, twist
from policy_bench import ROW_DT_S, PolicyBench, rows, with_camera

from vla_ros.control import channels
from vla_ros.control.policy_state import PolicyReason
from vla_ros.types import NS_PER_S, Chunk, ChunkReply, Frame, Needs, WorkerDied, instruction_hash


def test_it_asks_once_it_sees_and_is_told_and_follows_the_answer():
    bench = PolicyBench()
    bench.tick()
    assert bench.reason is PolicyReason.NO_INSTRUCTION and not bench.requests
    bench.say().tick()
    assert bench.reason is PolicyReason.CHUNK_AWAITED and not bench.result.status.reason.is_fault
    assert sorted(bench.observation.images) == ["front", "top", "wrist"]
    assert bench.observation.instruction == INSTRUCTION and bench.observation.gripper == 0.5
    bench.reply().tick()
    output = bench.result.output
    assert output.stamp_ns == bench.ros_ns
    assert output.provenance.instruction_hash == instruction_hash(INSTRUCTION)
    assert output.provenance.t_obs_ns == bench.observation.t_obs_ns or len(bench.requests) > 1


@pytest.mark.parametrize("words", ["", "stop", " Stop "])
def test_a_hold_instruction_asks_nothing_and_says_nothing(words):
    bench = PolicyBench().commanding()
    bench.say(words)
    asked = len(bench.requests)
    assert all(result.output is None for result in bench.run(0.5))
    assert len(bench.requests) == asked and bench.reason is PolicyReason.TOLD_TO_STOP


def test_one_request_is_in_flight_at_a_time():
    bench = PolicyBench().asked()
    bench.run(1.0)
    assert len(bench.requests) == 1


def test_an_instant_is_asked_about_once():
    bench = PolicyBench().commanding()
    asked = len(bench.requests)
    bench.cameras = []
    for _ in range(8):
        bench.tick()
    assert len(bench.requests) == asked


def test_t_obs_is_the_newest_instant_that_every_required_view_has_seen():
    bench = PolicyBench()
    bench.camera_delay_s["top"] = 0.07
    bench.run(0.15)
    bench.say().tick()
    newest_ns = max(sample.stamp_ns for sample in bench.state.streams.history(channels.camera("front")))
    assert bench.observation.t_obs_ns == newest_ns - NS_PER_S // 10


def test_views_of_different_rates_and_delays_have_common_instants():
    bench = PolicyBench(with_camera("wrist", rate_hz=40.0))
    bench.camera_delay_s["front"] = 0.15
    bench.run(0.4)
    bench.say()
    reasons = {bench.tick().status.reason for _ in range(40)}
    assert PolicyReason.VIEWS_APART not in reasons


def test_views_that_never_meet_are_no_observation():
    contract = replace(with_camera("top", rate_hz=1.0, max_age_s=2.0), max_camera_skew_s=0.001)
    bench = PolicyBench(contract)
    bench.cameras = ["front", "wrist"]
    bench.hear(channels.camera("top"), Frame(np.zeros((2, 2, 3), np.uint8), "rgb8"), bench.ros_ns - 50_000_000)
    bench.say().tick()
    assert bench.reason is PolicyReason.VIEWS_APART and not bench.requests


@pytest.mark.parametrize("channel", ["camera/top", "ee_pose", "joint_states", "guard/commanded_pose"])
def test_a_missing_required_input_silences_the_policy_and_is_named(channel):
    bench = PolicyBench().commanding()
    bench.silent = [channel]
    bench.cameras = [view for view in bench.cameras if not channel.endswith(view)]
    bench.run(0.55)
    assert bench.reason is PolicyReason.INPUT_STALE and channel in bench.result.status.text
    assert bench.result.output is None and bench.result.status.reason.is_fault


@pytest.mark.parametrize("required", [True, False])
def test_a_measured_twist_is_required_where_the_contract_says_so(required: bool):
    contract = pose_contract()
    measured = replace(contract.feedback.ee_twist, required=required)
    bench = PolicyBench(replace(contract, feedback=replace(contract.feedback, ee_twist=measured)))
    bench.say().tick()
    assert bool(bench.requests) is not required
    assert (channels.EE_TWIST in bench.result.status.text) is required
    bench.hear(channels.EE_TWIST, twist(), bench.ros_ns).tick()
    assert bench.requests


def test_privileged_state_is_required_where_it_is_needed():
    bench = PolicyBench(needs=Needs((), privileged=True))
    bench.silent = [channels.PRIVILEGED]
    bench.say().tick()
    assert channels.PRIVILEGED in bench.result.status.text
    bench.silent = []
    bench.tick()
    assert np.array_equal(bench.observation.privileged, np.arange(5.0))
    assert bench.observation.t_obs_ns == bench.ros_ns and bench.observation.images == {}


def test_an_absent_optional_view_is_left_out():
    bench = PolicyBench(with_camera("top", required=False))
    bench.cameras = ["front", "wrist"]
    bench.asked()
    assert sorted(bench.observation.images) == ["front", "wrist"]


def test_an_optional_view_that_died_is_left_out_and_not_called_frozen():
    bench = PolicyBench(with_camera("top", required=False)).commanding()
    bench.cameras = ["front", "wrist"]
    for tick in range(80):
        bench.position = pose(0.002 * tick).position
        bench.reply(rows(30), t_obs_ns=bench.observation.t_obs_ns).tick()
    assert bench.reason is PolicyReason.NONE
    assert sorted(bench.observation.images) == ["front", "wrist"]


def test_optional_joints_that_died_are_left_out():
    contract = pose_contract()
    joints = replace(contract.feedback.joint_states, required=False)
    bench = PolicyBench(replace(contract, feedback=replace(contract.feedback, joint_states=joints))).commanding()
    assert bench.observation.joint_positions is not None
    bench.silent = [channels.JOINT_STATES]
    bench.run(0.5)
    bench.reply().tick()
    bench.run(0.2)
    assert bench.observation.joint_positions is None


def test_poses_are_those_of_the_observed_instant():
    bench = PolicyBench()
    bench.cameras = ["front", "wrist"]
    bench.run(0.1)
    seen_ns = bench.ros_ns
    bench.hear(channels.camera("top"), Frame(np.zeros((2, 2, 3), np.uint8), "rgb8"), seen_ns + 6_000_000)
    for view in ("front", "wrist"):
        frame = Frame(np.ones((2, 2, 3), np.uint8), "rgb8")
        bench.hear(channels.camera(view), frame, seen_ns + 6_250_000)
    bench.cameras = []
    bench.position = pose(0.1).position
    bench.say().tick()
    assert bench.observation.t_obs_ns == seen_ns + 6_250_000
    assert bench.observation.ee_pose.position[0] == pytest.approx(0.05)
    assert bench.observation.commanded_pose.position[0] == pytest.approx(0.05)


def test_a_frame_that_cannot_be_decoded_is_not_asked_about_and_named():
    bench = PolicyBench()
    bench.cameras = ["front", "wrist"]
    broken = Frame(np.frombuffer(b"\xff\xd8\xff no jpeg at all", np.uint8), "jpeg")
    bench.hear(channels.camera("top"), broken, bench.ros_ns + 1)
    bench.say().tick()
    assert not bench.requests and bench.reason is PolicyReason.INPUT_STALE
    assert bench.result.status.values["frames refused"] == "1"


def test_rows_that_inference_has_used_up_are_skipped():
    bench = PolicyBench().asked()
    bench.run(0.5)
    bench.reply(rows(21, speed_m_s=0.2)).tick()
    elapsed_s = (bench.ros_ns - bench.requests[0].observation.t_obs_ns) / NS_PER_S
    assert bench.result.output.target.pose.position[0] == pytest.approx(0.2 * elapsed_s)
    assert bench.result.output.target.twist.linear[0] == pytest.approx(0.2)


def test_a_chunk_ends_in_silence_and_not_in_its_last_row():
    bench = PolicyBench().asked()
    bench.reply(rows(4))
    results = bench.run(0.6)
    spoken = [result for result in results if result.output is not None]
    end_ns = bench.requests[0].observation.t_obs_ns + round(3 * ROW_DT_S * NS_PER_S)
    assert spoken[-1].output.stamp_ns <= end_ns < spoken[-1].output.stamp_ns + bench.period_s * NS_PER_S
    assert bench.reason is PolicyReason.CHUNK_ENDED and bench.reason.is_fault


def test_a_chunk_whose_first_row_is_still_ahead_is_waited_for():
    """A camera's clock may be a little ahead of ours."""
    bench = PolicyBench(needs=Needs(("front",)))
    bench.cameras = []
    bench.hear(channels.camera("front"), Frame(np.zeros((2, 2, 3), np.uint8), "rgb8"), bench.ros_ns + NS_PER_S // 12)
    bench.say().tick()
    bench.reply().tick()
    assert bench.result.output is None
    assert bench.reason is PolicyReason.CHUNK_AHEAD and not bench.reason.is_fault
    bench.run(0.1)
    assert bench.result.output is not None


def test_the_gripper_is_never_blended():
    bench = PolicyBench().asked()
    made = rows(11)
    made[5:, 13] = 1.0
    made[:5, 13] = 0.0
    bench.reply(made)
    grippers = {result.output.target.gripper for result in bench.run(0.8) if result.output}
    assert grippers == {0.0, 1.0}


def _bad(kind: str) -> tuple[np.ndarray, float]:
    made, dt_s = rows(), ROW_DT_S
    if kind == "nan":
        made[3, 1] = np.nan
    elif kind == "absurd":
        made[3, 7] = 1e300
    elif kind == "quaternion":
        made[3, 3:7] = 0.0
    elif kind == "gripper":
        made[3, 13] = 1.5
    elif kind == "narrow":
        made = made[:, :13]
    elif kind == "one row":
        made = made[:1]
    elif kind == "flat":
        made = made.ravel()
    else:
        dt_s = {"dt 0": 0.0, "dt < 0": -0.1, "dt nan": np.nan, "dt huge": 1e300}[kind]
    return made, dt_s


@pytest.mark.parametrize(
    "kind",
    ["nan", "absurd", "quaternion", "gripper", "narrow", "one row", "flat", "dt 0", "dt < 0", "dt nan", "dt huge"],
)
def test_a_bad_chunk_is_refused_and_the_policy_stays_silent(kind):
    bench = PolicyBench().asked()
    made, dt_s = _bad(kind)
    bench.reply(made, dt_s=dt_s).tick()
    assert bench.result.output is None and bench.result.status.values["chunks refused"] == "1"
    assert bench.state.trouble[0] is PolicyReason.CHUNK_REFUSED
    bench.run(0.2)
    bench.reply().tick()
    assert bench.result.output is not None


def test_a_bad_chunk_leaves_the_good_one_until_it_ends():
    bench = PolicyBench().commanding()
    bench.run(0.1)
    bench.reply(rows() * np.nan)
    spoken = [result.output is not None for result in bench.run(1.2)]
    assert spoken[0] and not spoken[-1] and bench.reason is PolicyReason.CHUNK_REFUSED


def test_a_chunk_for_another_instant_is_refused():
    bench = PolicyBench().asked()
    bench.reply(t_obs_ns=bench.observation.t_obs_ns + 1).tick()
    assert bench.result.output is None and "another instant" in bench.result.status.values["last failure"]


def test_a_chunk_that_lies_wholly_in_the_past_is_refused():
    bench = PolicyBench().asked()
    bench.run(1.2)
    bench.reply().tick()
    assert bench.result.output is None and "in the past" in bench.result.status.values["last failure"]


def test_replies_to_nothing_are_counted_and_ignored():
    bench = PolicyBench().commanding()
    before = bench.state.plan
    stray = Chunk(bench.ros_ns, ROW_DT_S, rows(speed_m_s=-0.5))
    bench.answer(ChunkReply(99, b"asked", 1, 2, stray, 0.01)).tick()
    assert bench.state.plan is before and bench.result.status.values["unasked replies"] == "1"


def test_a_failure_is_told_and_the_next_chunk_mends_it():
    bench = PolicyBench().asked()
    bench.fail("CUDA out of memory").tick()
    assert bench.reason is PolicyReason.POLICY_FAILED and "CUDA" in bench.result.status.text
    bench.run(0.2)
    bench.reply().tick()
    assert bench.result.output is not None


def test_a_failing_policy_follows_its_last_plan_no_longer_than_a_silent_one():
    bench = PolicyBench().asked()
    inference_s = bench.config.contract.timeouts.inference_s
    bench.reply(rows(count=round(2.0 * inference_s / ROW_DT_S))).tick()
    outputs = []
    for _ in range(round(1.5 * inference_s / bench.period_s)):
        bench.fail()
        outputs.append(bench.tick().output is not None)
    assert outputs[0] and not outputs[-1]
    assert sum(outputs) * bench.period_s <= inference_s + bench.period_s
    assert bench.reason is PolicyReason.POLICY_FAILED


def test_a_dead_worker_is_lasting():
    bench = PolicyBench().commanding()
    bench.answer(WorkerDied("killed by signal 9 (SIGKILL)"))
    asked = len(bench.requests)
    bench.run(0.5)
    bench.say("another task").run(0.5)
    assert bench.reason is PolicyReason.WORKER_DIED and len(bench.requests) == asked


def test_a_silent_worker_silences_the_policy_after_its_timeout_and_may_recover():
    bench = PolicyBench().asked()
    bench.reply(rows(60)).tick()
    bench.run(bench.config.contract.timeouts.inference_s)
    assert bench.result.output is not None
    bench.run(0.2)
    assert bench.reason is PolicyReason.WORKER_SILENT and bench.result.output is None
    bench.reply(rows(60)).tick()
    assert bench.result.output is not None


def test_a_new_instruction_makes_plan_and_question_void_at_once():
    bench = PolicyBench().commanding()
    bench.run(0.1)
    stale = bench.requests[-1]
    assert bench.state.pending is not None
    bench.say("push the button").tick()
    assert bench.result.output is None and bench.reason is PolicyReason.CHUNK_AWAITED
    bench.reply().tick()
    assert bench.result.output is None
    assert bench.result.status.values["chunks for an old instruction"] == "1"
    assert bench.requests[-1] is not stale and bench.observation.instruction == "push the button"


def test_a_sentence_given_again_after_another_needs_a_new_answer():
    bench = PolicyBench().commanding()
    bench.run(0.1)
    assert bench.state.pending is not None
    bench.say("push the button").say().tick()
    bench.reply().tick()
    assert bench.result.output is None
    assert bench.result.status.values["chunks for an old instruction"] == "1"
    bench.run(0.1)
    bench.reply().tick()
    assert bench.result.output is not None


def test_white_space_is_no_new_instruction():
    bench = PolicyBench().commanding()
    bench.say(f" {INSTRUCTION} ").tick()
    assert bench.result.output is not None


def test_a_backward_clock_voids_the_plan_and_the_question_in_flight():
    bench = PolicyBench().asked()
    bench.run(0.3)
    bench.say().tick(ros_s=-5.0)
    assert bench.result.output is None and bench.result.status.values["clock jumped back"] == "1"
    bench.reply().tick()
    assert bench.state.plan is None
    bench.run(0.3)
    bench.reply().tick()
    assert bench.result.output is not None and bench.result.output.provenance.t_obs_ns <= bench.ros_ns


def test_another_world_voids_the_plan_and_the_question_in_flight():
    bench = PolicyBench().commanding()
    bench.run(0.1)
    bench.hear(channels.SIM_RESET, None)
    bench.reply().tick()
    assert bench.result.output is None and bench.state.plan is None


def test_a_frozen_camera_silences_the_policy_while_the_robot_moves():
    bench = PolicyBench().asked()
    bench.reply(rows(60)).tick()
    bench.frozen = ["wrist"]
    reasons = []
    for tick in range(80):
        bench.position = pose(0.002 * tick).position
        reasons.append(bench.tick().status.reason)
    assert bench.reason is PolicyReason.CAMERA_FROZEN and "wrist" in bench.result.status.text
    first = reasons.index(PolicyReason.CAMERA_FROZEN) * bench.period_s
    assert first <= bench.config.contract.timeouts.frozen_camera_s + 0.3


def test_history_reaches_back_a_second_whatever_the_rates():
    contract = replace(pose_contract(), rates=replace(pose_contract().rates, guard_hz=500.0))
    bench = PolicyBench(contract)
    start_ns = bench.ros_ns
    for tick in range(250):
        stamp_ns = start_ns - NS_PER_S // 2 + tick * 2_000_000
        bench.hear(channels.COMMANDED_POSE, pose(tick * 0.001), stamp_ns)
    bench.tick()
    assert bench.state.streams.history(channels.COMMANDED_POSE)[0].stamp_ns == start_ns - NS_PER_S // 2
