"""What must hold of every guard tick, whatever happened. Written against the contract, not against the guard's code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_state import GuardConfig, GuardState, Mode
from vla_ros.control.intents import Reason, Stop
from vla_ros.control.safety import Motion
from vla_ros.control.streams import MAX_FUTURE_S
from vla_ros.geometry import integrate, rotation_between
from vla_ros.types import NS_PER_S, FloatArray, JointState, Now, Pose, Provenance, Sample, instruction_hash, is_hold

TINY = 1e-9
AGREEMENT = 1e-6
_QUIET = (Reason.POLICY_AWAITED, Reason.REOBSERVATION_AWAITED, Reason.POLICY_SILENT)


class Invariants:
    """Checks tick after tick; remembers only what it needs to know of the last ones."""

    def __init__(self, config: GuardConfig) -> None:
        self.config, self.contract = config, config.contract
        self.sent: Motion | None = None  # of the last tick
        self.opening = self.contract.gripper.at_start
        self.is_gripper_commanded = False  # by somebody, since arming
        self.was = (Mode.DISARMED, Source.NOBODY)
        self.stopping_s = 0.0
        self.started_inside = False
        self.is_pressed = False
        self.instruction: str | None = None
        self.deadman = self.deadman_heard = False
        self.void_ns = -1
        self.sets: dict[int, set[str]] = {}
        self.provenances: list[tuple[int, int, Provenance]] = []
        self.last_now: Now | None = None
        self.joints: tuple[int, int, bool] | None = (
            None  # received [steady ns], stamp [ns], whether all keep the margin
        )
        self.seen = dict.fromkeys(Source, 0)
        self.at_joint_limit = 0
        self.moved = self.latched = self.stopped = 0

    def check(self, before: GuardState, inputs: Sequence[Sample[Any]], now: Now, result: GuardResult) -> None:
        """All of it, for one tick. before: the guard's state before it."""
        json.dumps(result.trace, allow_nan=False)
        assert result.trace["dt_s"] <= 2.0 / self.contract.rates.guard_hz
        self._remember_inputs(inputs, now)
        self._modes(inputs, result)
        self._who(inputs, now, result)
        if result.state.mode is Mode.ARMED and self.was[0] is not Mode.ARMED:
            self.is_gripper_commanded = False
        self.is_gripper_commanded |= getattr(result.state.decision.intent, "gripper", None) is not None
        if any(sample.channel == channels.SIM_RESET for sample in inputs):
            self.sent, self.opening = None, self.contract.gripper.at_start  # the last command was another robot's
        if result.command is None:
            self._nothing_sent()
        else:
            self._sent(result.command, result, float(result.trace["dt_s"]))
        self._stopping(result, float(result.trace["dt_s"]))
        self.sent = result.command
        self.was = (result.state.mode, result.status.source)
        self.last_now = now
        self.seen[result.status.source] += 1

    def _remember_inputs(self, inputs: Sequence[Sample[Any]], now: Now) -> None:
        self.slept = False
        if self.last_now is not None:
            slept_s = (now.steady_ns - self.last_now.steady_ns) / NS_PER_S
            self.slept = slept_s > self.contract.timeouts.driver_s
            if now.ros_ns < self.last_now.ros_ns:
                self.instruction, self.void_ns, self.provenances, self.joints = None, now.ros_ns, [], None
            if self.slept:
                self.void_ns = now.ros_ns
        self.was_pressed = False
        for sample in inputs:
            if sample.channel == channels.EMERGENCY_STOP:
                self.is_pressed = bool(sample.value)
                self.was_pressed |= self.is_pressed
            elif sample.channel == channels.COMMAND:
                self.instruction = str(sample.value)
            elif sample.channel == channels.JOINT_STATES:
                self._remember_joints(sample, now)
            elif sample.channel == channels.TELEOP_DEADMAN:
                self.deadman, self.deadman_heard = bool(sample.value), True
            elif sample.channel == channels.SIM_RESET:
                self.provenances, self.deadman_heard, self.joints = [], False, None
            elif sample.channel == channels.POLICY_PROVENANCE and sample.stamp_ns is not None:
                self.provenances.append((now.steady_ns, sample.stamp_ns, sample.value))
        names = [sample.channel for sample in inputs]
        if channels.ARM in names and (
            self.was[0] is not Mode.ARMED or self.was_pressed or names.count(channels.ARM) > 1
        ):
            self.deadman_heard = False  # perhaps heard before arming: it counts again from the next message on
        limit_ns = now.steady_ns - round((self.contract.timeouts.policy_s + 0.01) * NS_PER_S)
        self.provenances = [entry for entry in self.provenances if entry[0] >= limit_ns]

    def _modes(self, inputs: Sequence[Sample[Any]], result: GuardResult) -> None:
        mode, (was, _) = result.state.mode, self.was
        asked = {sample.channel for sample in inputs if sample.channel != channels.ARM or sample.value}
        if self.was_pressed:
            assert mode is not Mode.ARMED or channels.RESET in asked
        if self.is_pressed:
            assert mode is Mode.LATCHED and result.status.source is Source.NOBODY
        if mode is Mode.ARMED and was is not Mode.ARMED:
            assert channels.ARM in asked and (was is not Mode.LATCHED or channels.RESET in asked)
        if was is Mode.LATCHED and mode is not Mode.LATCHED:
            assert channels.RESET in asked
        self.latched += mode is Mode.LATCHED and was is not Mode.LATCHED

    def _who(self, inputs: Sequence[Sample[Any]], now: Now, result: GuardResult) -> None:
        source, intent = result.status.source, result.state.decision.intent
        if source is not Source.NOBODY:
            assert result.state.mode is Mode.ARMED and not isinstance(intent, Stop)
        if self.deadman and self.deadman_heard and result.state.mode is Mode.ARMED:
            nobody = isinstance(intent, Stop) and intent.reason in (
                Reason.TELEOP_JUMP, Reason.TELEOP_SILENT, Reason.FEEDBACK_STALE, Reason.CLOCK_STOPPED,
            )  # fmt: skip
            assert source is Source.TELEOP or nobody, result.status.text
            if any(sample.channel == channels.TELEOP_DEADMAN for sample in inputs):
                assert Reason.TELEOP_SILENT.value not in result.status.text
        if source is Source.POLICY:
            assert self.instruction is not None and not is_hold(self.instruction)
            latest_ns = now.ros_ns + round(MAX_FUTURE_S * NS_PER_S)
            assert any(
                provenance.instruction_hash == instruction_hash(self.instruction)
                and self.void_ns < provenance.t_obs_ns <= latest_ns
                for _, _, provenance in self.provenances
            )
            assert self.contract.limits.joint_margin is None or self._joints_allow_it(now)
        self.at_joint_limit += isinstance(intent, Stop) and intent.reason is Reason.JOINT_LIMIT
        silence_began = self.was[1] is Source.POLICY and isinstance(intent, Stop)
        if (
            source is Source.TELEOP
            or (isinstance(intent, Stop) and intent.reason not in _QUIET)
            or (silence_began and isinstance(intent, Stop) and intent.reason is Reason.POLICY_SILENT)
        ):
            self.void_ns = now.ros_ns

    def _remember_joints(self, sample: Sample[Any], now: Now) -> None:
        """Only news counts: a stamp that increases and is not from the future."""
        stamp_ns = sample.stamp_ns or 0
        is_news = self.joints is None or stamp_ns > self.joints[1]
        if is_news and stamp_ns - now.ros_ns <= MAX_FUTURE_S * NS_PER_S:
            self.joints = (sample.received_ns, stamp_ns, self._keeps_margin(sample.value))

    def _keeps_margin(self, joints: JointState) -> bool:
        limits, margin = self.contract.limits.joints, self.contract.limits.joint_margin or 0.0
        places = zip(joints.names, joints.positions, strict=True)
        return all(limits[name].min + margin <= place <= limits[name].max - margin for name, place in places)

    def _joints_allow_it(self, now: Now) -> bool:
        if self.joints is None:
            return False
        received_ns, stamp_ns, keep_margin = self.joints
        age_ns = max(now.steady_ns - received_ns, now.ros_ns - stamp_ns)
        return keep_margin and age_ns <= self.contract.feedback.joint_states.max_age_s * NS_PER_S

    def _nothing_sent(self) -> None:
        if self.sent is not None and not self.slept:
            assert not self.sent.twist.linear.any() and not self.sent.twist.angular.any(), "fell silent while moving"

    def _sent(self, command: Motion, result: GuardResult, dt_s: float) -> None:
        assert not self.config.shadow
        assert result.state.mode is Mode.ARMED or self.sent is not None, "sent before arming"
        limits = self.contract.limits
        linear, angular = command.twist.linear, command.twist.angular
        assert np.isfinite(linear).all() and np.isfinite(angular).all() and np.isfinite(command.pose.position).all()
        assert abs(_norm(command.pose.quaternion) - 1.0) < TINY
        assert _norm(linear) <= limits.max_linear_velocity_m_s + TINY
        assert _norm(angular) <= limits.max_angular_velocity_rad_s + TINY
        was_linear, was_angular = np.zeros(3), np.zeros(3)
        if self.sent is not None and not self.slept:
            was_linear, was_angular = self.sent.twist.linear, self.sent.twist.angular
        assert _norm(linear - was_linear) <= limits.max_linear_acceleration_m_s2 * dt_s + TINY
        assert _norm(angular - was_angular) <= limits.max_angular_acceleration_rad_s2 * dt_s + TINY
        self._pose_and_twist_agree(command, result, dt_s)
        self._inside(command, was_linear, dt_s)
        if command.gripper is not None:
            assert self.is_gripper_commanded, "moved by nobody since arming"
            assert 0.0 <= command.gripper <= 1.0
            assert abs(command.gripper - self.opening) <= self.contract.gripper.max_rate_per_s * dt_s + TINY
            self.opening = command.gripper
        self.moved += bool(linear.any())

    def _origin(self, result: GuardResult) -> Pose:
        """What this tick's motion began from: the last command, or in a twist contract the robot."""
        measured = result.state.streams.newest(channels.EE_POSE)
        if self.contract.command_interface == "pose" and self.sent is not None:
            return self.sent.pose
        assert measured is not None
        return measured.value

    def _pose_and_twist_agree(self, command: Motion, result: GuardResult, dt_s: float) -> None:
        if self.contract.command_interface == "twist" and Reason.FEEDBACK_STALE.value in result.status.text:
            return
        if self.contract.command_interface == "twist" and result.state.streams.newest(channels.EE_POSE) is None:
            return
        expected = integrate(self._origin(result), command.twist, dt_s)
        measured = result.state.streams.newest(channels.EE_POSE)
        candidates = [expected]
        if self.sent is not None and measured is not None:
            # Feedback may be stale behind a latch: then the motion goes on from the last command.
            candidates += [integrate(self.sent.pose, command.twist, dt_s)]
        errors = [
            max(
                _norm(command.pose.position - pose.position),
                _norm(rotation_between(pose.quaternion, command.pose.quaternion)),
            )
            for pose in candidates
        ]
        error = errors[0] if self.contract.command_interface == "pose" else min(errors)
        assert error < AGREEMENT

    def _inside(self, command: Motion, was: FloatArray, dt_s: float) -> None:
        """Where braking from here would end; in a twist contract the robot's own lag is beyond the guard's power."""
        box, acceleration = self.contract.limits.workspace_m, self.contract.limits.max_linear_acceleration_m_s2
        velocity, position = command.twist.linear, command.pose.position
        ends = position + velocity * _norm(velocity) / (2.0 * acceleration)
        is_inside = bool(((position >= box.min) & (position <= box.max)).all())
        if self.sent is None:
            self.started_inside = is_inside
        if self.contract.command_interface == "twist":
            slowed = was * max(0.0, 1.0 - acceleration * dt_s / _norm(was)) if was.any() else was
            braked = position + (slowed - velocity) * dt_s + slowed * _norm(slowed) / (2.0 * acceleration)
            assert (_outside(ends, box) <= _outside(braked, box) + 1e-7).all()
        elif self.started_inside:
            assert _outside(position, box).max() <= 1e-8 and _outside(ends, box).max() <= 1e-8

    def _stopping(self, result: GuardResult, dt_s: float) -> None:
        """At exactly zero within stop_time_s and a tick, in the time that the guard could act in."""
        self.stopping_s = self.stopping_s + dt_s if result.status.source is Source.NOBODY else 0.0
        self.stopped += result.status.source is Source.NOBODY and self.was[1] is not Source.NOBODY
        if result.command is None or result.status.source is not Source.NOBODY:
            return
        twist = result.command.twist
        if self.sent is not None:
            assert _norm(twist.linear) <= _norm(self.sent.twist.linear) + TINY
            assert _norm(twist.angular) <= _norm(self.sent.twist.angular) + TINY
        if self.stopping_s >= self.contract.stop_time_s + 1.0 / self.contract.rates.guard_hz:
            assert not twist.linear.any() and not twist.angular.any()


def _norm(vector: FloatArray) -> float:
    return float(np.sqrt(vector @ vector))


def _outside(position: FloatArray, box: Any) -> FloatArray:
    return np.maximum(np.maximum(position - box.max, box.min - position), 0.0)
