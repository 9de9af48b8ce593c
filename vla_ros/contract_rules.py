"""What must hold between the values of a contract. Single values are checked by their types in `vla_ros.contract`.

A rule is a generator of problems. Its parameters are names of the contract's fields: it is run whenever
those could be read, so that a fault elsewhere in the file does not hide what it has to say.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from vla_ros.contract import (
    Box,
    Camera,
    EmergencyStop,
    Encoding,
    FeedbackTopics,
    Frames,
    Gripper,
    Limits,
    Outputs,
    Rates,
    Timeouts,
)
from vla_ros.strict import BROKEN, Problem

_PACKED = ("jpeg", "png")
_FOREIGN_TRANSPORTS = ("compressedDepth", "theora", "ffmpeg", "zstd")
_SHARED_COLOURS = ("uyvy", "yuyv", "yuv422", "yuv422_yuy2")  # by two neighbours each
_MOSAICS = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")
_SMALLEST_MOSAIC = 3
_OWN_TOPICS = ("command", "joy", "clock", "policy", "guard", "teleop", "sim", "diagnostics")
_ROUNDING = 1e-9  # 0.3 / 1.5 is a little less than 0.2, 0.6 / 3 a little more


def broken_rules(fields: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong between the fields that could be read. fields: name -> value or BROKEN."""
    problems: list[Problem] = []
    for rule in RULES:
        wanted = [fields.get(name, BROKEN) for name in inspect.signature(rule).parameters]
        if not any(value is BROKEN for value in wanted):
            problems.extend(rule(*wanted))
    return problems


def _below(value: float, bound: float) -> bool:
    return value < bound * (1.0 - _ROUNDING)


def camera_formats(cameras: Mapping[str, Camera]) -> Iterator[Problem]:
    """The encoding must be one that the transport carries."""
    raw = ", ".join(encoding for encoding in get_args(Encoding) if encoding not in _PACKED)
    for view, camera in cameras.items():
        if (camera.encoding in _PACKED) != (camera.transport == "compressed"):
            choices = ", ".join(_PACKED) if camera.transport == "compressed" else raw
            text = f"is {camera.encoding}, which transport {camera.transport} does not carry; choices: {choices}"
            yield Problem(f"cameras.{view}.encoding", text)
        ending = camera.topic.rsplit("/", 1)[-1]
        if ending in _FOREIGN_TRANSPORTS:
            text = f"is {camera.topic}; {ending} cannot be read; choices: a raw image topic, or its /compressed"
            yield Problem(f"cameras.{view}.topic", text)
        if ending == "compressed" and camera.transport == "raw":
            text = f"is raw, but topic {camera.topic} carries compressed images; choices: compressed"
            yield Problem(f"cameras.{view}.transport", text)


def camera_sizes(cameras: Mapping[str, Camera]) -> Iterator[Problem]:
    """Some encodings spread a pixel's colour over its neighbours, which must be there."""
    for view, camera in cameras.items():
        if camera.encoding in _SHARED_COLOURS and camera.width % 2:
            text = f"is {camera.width}; must be even: {camera.encoding} shares colours between two neighbours"
            yield Problem(f"cameras.{view}.width", text)
        for side in ("width", "height"):
            pixels = getattr(camera, side)
            if camera.encoding in _MOSAICS and pixels < _SMALLEST_MOSAIC:
                text = f"is {pixels}; must be at least {_SMALLEST_MOSAIC}: {camera.encoding} is a mosaic of colours"
                yield Problem(f"cameras.{view}.{side}", text)


def camera_times(cameras: Mapping[str, Camera], max_camera_skew_s: float) -> Iterator[Problem]:
    """Observations are made at the newest instant for which every required view has a fresh frame."""
    required = [camera for camera in cameras.values() if camera.required]
    if not required:
        yield Problem("cameras", "none is required; at least one must be, since observations are made from its frames")
        return
    for view, camera in cameras.items():
        yield from _outlasts(f"cameras.{view}.max_age_s", camera.max_age_s, 1, camera.rate_hz, "frame period")
    largest = min(camera.max_age_s for camera in required)
    if max_camera_skew_s > largest:
        text = f"is {max_camera_skew_s:g}; must be at most {largest:g}, the smallest max_age_s of a required camera"
        yield Problem("max_camera_skew_s", text)


def frozen_camera(cameras: Mapping[str, Camera], timeouts: Timeouts) -> Iterator[Problem]:
    """Two equal frames in a row are needed to call a camera frozen."""
    if cameras:
        slowest = min(camera.rate_hz for camera in cameras.values())
        path = "timeouts.frozen_camera_s"
        yield from _outlasts(path, timeouts.frozen_camera_s, 2, slowest, "frame periods of the slowest camera")


def feedback_times(feedback: FeedbackTopics) -> Iterator[Problem]:
    """A bound shorter than the period would call every sample stale."""
    named = {"ee_pose": feedback.ee_pose, "ee_twist": feedback.ee_twist, "joint_states": feedback.joint_states}
    for name, topic in named.items():
        if topic is not None:
            yield from _outlasts(f"feedback.{name}.max_age_s", topic.max_age_s, 1, topic.rate_hz, "period")


def feedback_content(feedback: FeedbackTopics) -> Iterator[Problem]:
    """The guard compares every command with the measured pose; joints are picked by name."""
    if not feedback.ee_pose.required:
        yield Problem("feedback.ee_pose.required", "is False; must be True: the guard acts on the measured pose")
    joints = feedback.joint_states.joints
    if not joints:
        yield Problem("feedback.joint_states.joints", "is empty; must name the joints that the policy is given")
    for name in sorted({name for name in joints if joints.count(name) > 1}):
        yield Problem("feedback.joint_states.joints", f"names {name} more than once")


def topics(
    cameras: Mapping[str, Camera],
    feedback: FeedbackTopics,
    outputs: Outputs,
    gripper: Gripper,
    emergency_stop: EmergencyStop,
) -> Iterator[Problem]:
    """Every topic has one meaning, and vla_ros's own topics keep theirs."""
    named = {f"cameras.{view}.topic": camera.topic for view, camera in cameras.items()}
    named |= {"feedback.ee_pose.topic": feedback.ee_pose.topic}
    named |= {"feedback.joint_states.topic": feedback.joint_states.topic}
    named |= {} if feedback.ee_twist is None else {"feedback.ee_twist.topic": feedback.ee_twist.topic}
    named |= {"outputs.pose": outputs.pose, "outputs.twist": outputs.twist}
    named |= {"gripper.topic": gripper.topic, "emergency_stop.topic": emergency_stop.topic}
    seen: dict[str, str] = {}
    for path, topic in named.items():
        bare = topic.lstrip("/")  # without a namespace, "/a" and "a" are one topic
        if bare in seen:
            yield Problem(path, f"is {topic}, which is already {seen[bare]}; every topic must be another")
        seen.setdefault(bare, path)
        if bare.split("/", 1)[0] in _OWN_TOPICS:
            text = f"is {topic}; names that begin with {', '.join(_OWN_TOPICS)} belong to vla_ros itself"
            yield Problem(path, text)


def frames(frames: Frames) -> Iterator[Problem]:
    """The tool moves in the base frame."""
    if frames.base == frames.tool:
        yield Problem("frames.tool", f"is {frames.tool}, the same as frames.base; must be another frame")


def drive(drive: str, command_interface: str) -> Iterator[Problem]:
    """A pose beside a base that cannot move sideways is out of its reach, however near."""
    if drive == "differential" and command_interface == "pose":
        yield Problem("drive", "is differential, which is driven by twists; choices: omnidirectional")


def rates(rates: Rates) -> Iterator[Problem]:
    """A slower guard would skip commands."""
    if _below(rates.guard_hz, rates.policy_hz):
        yield Problem("rates.guard_hz", f"is {rates.guard_hz:g}; must be at least policy_hz, {rates.policy_hz:g}")


def gripper(gripper: Gripper) -> Iterator[Problem]:
    """Open and closed differ; only one interface takes an effort."""
    if gripper.closed_at == gripper.open_at:
        yield Problem("gripper.open_at", f"is {gripper.open_at:g}, the same as closed_at; the two must differ")
    if gripper.max_effort > 0.0 and gripper.interface != "gripper_command":
        text = f"is {gripper.max_effort:g}, but interface {gripper.interface} carries none; choices: gripper_command"
        yield Problem("gripper.max_effort", text)


def workspace(limits: Limits) -> Iterator[Problem]:
    """A box has an inside."""
    box = limits.workspace_m
    for axis, low, high in zip("xyz", box.min, box.max, strict=True):
        if not low < high:
            yield Problem("limits.workspace_m.max", f"{axis} is {high:g}; must be above min's {axis}, {low:g}")


def stopping(limits: Limits, stop_time_s: float, rates: Rates) -> Iterator[Problem]:
    """The guard promises standstill within stop_time_s; from full speed that takes v / a."""
    speeds = {
        "linear": ("m_s", limits.max_linear_velocity_m_s, limits.max_linear_acceleration_m_s2),
        "angular": ("rad_s", limits.max_angular_velocity_rad_s, limits.max_angular_acceleration_rad_s2),
    }
    for kind, (unit, velocity, acceleration) in speeds.items():
        if _below(stop_time_s, velocity / acceleration):
            text = (
                f"is {velocity:g}; at {acceleration:g} a stop takes {velocity / acceleration:.3g} s, longer than"
                f" stop_time_s, {stop_time_s:g}; lower the velocity, or raise the acceleration or stop_time_s"
            )
            yield Problem(f"limits.max_{kind}_velocity_{unit}", text)
    yield from _outlasts("stop_time_s", stop_time_s, 2, rates.guard_hz, "guard periods")


def target_jump(limits: Limits, rates: Rates) -> Iterator[Problem]:
    """Larger than ordinary motion between two ticks, smaller than the whole workspace."""
    diagonal = _diagonal(limits.workspace_m)
    if limits.max_target_jump_m > diagonal > 0.0:
        text = f"is {limits.max_target_jump_m:g}; must be at most the workspace's diagonal, {diagonal:.3g} m"
        yield Problem("limits.max_target_jump_m", text)
    yield from _exceeds_one_period(limits, "max_target_jump", rates.policy_hz, "policy")


def following_error(command_interface: str, limits: Limits, rates: Rates) -> Iterator[Problem]:
    """A pose contract compares the commanded with the measured pose; in a twist contract the two are one."""
    for unit in ("m", "rad"):
        path = f"limits.max_following_error_{unit}"
        given = getattr(limits, f"max_following_error_{unit}") is not None
        if command_interface == "pose" and not given:
            yield Problem(path, "is missing; must be given when command_interface is pose")
        if command_interface == "twist" and given:
            text = "must not be given when command_interface is twist: the pose then follows the measured one"
            yield Problem(path, text)
    if command_interface == "pose":
        yield from _exceeds_one_period(limits, "max_following_error", rates.guard_hz, "guard")


def joint_limits(limits: Limits, feedback: FeedbackTopics) -> Iterator[Problem]:
    """Limits are watched on measured joints, and stop the robot joint_margin before the end of the range."""
    known = feedback.joint_states.joints
    if limits.joints and limits.joint_margin is None:
        yield Problem("limits.joint_margin", "is missing; must be given when limits.joints is")
    if limits.joint_margin is not None and not limits.joints:
        yield Problem("limits.joint_margin", "is given without limits.joints; give both or none")
    if limits.joints and not feedback.joint_states.required:
        yield Problem("feedback.joint_states.required", "is False; must be True when limits.joints is given")
    for name, limit in limits.joints.items():
        path = f"limits.joints.{name}"
        if name not in known:
            text = f"is not in feedback.joint_states.joints; choices: {', '.join(known)}"
            yield Problem(path, text)
        if not limit.min < limit.max:
            yield Problem(f"{path}.max", f"is {limit.max:g}; must be above min, {limit.min:g}")
        elif limits.joint_margin is not None and 2.0 * limits.joint_margin >= limit.max - limit.min:
            half = 0.5 * (limit.max - limit.min)
            text = f"is {limits.joint_margin:g}; must be below half the range of {name}, {half:g}"
            yield Problem("limits.joint_margin", text)


def timeouts(timeouts: Timeouts, rates: Rates) -> Iterator[Problem]:
    """One late message is no silence: every bound outlasts two periods."""
    yield from _outlasts("timeouts.policy_s", timeouts.policy_s, 2, rates.policy_hz, "policy periods")
    yield from _outlasts("timeouts.inference_s", timeouts.inference_s, 1, rates.policy_hz, "policy period")
    for name in ("teleop_s", "deadman_s", "clock_s", "driver_s"):
        yield from _outlasts(f"timeouts.{name}", getattr(timeouts, name), 2, rates.guard_hz, "guard periods")


def emergency_stop(emergency_stop: EmergencyStop, rates: Rates) -> Iterator[Problem]:
    """Silence is counted in guard ticks."""
    path = "emergency_stop.silence_s"
    yield from _outlasts(path, emergency_stop.silence_s, 2, rates.guard_hz, "guard periods")


def _outlasts(path: str, value: float, periods: int, rate_hz: float, what: str) -> Iterator[Problem]:
    if _below(value, periods / rate_hz):
        count = {1: "one", 2: "two"}[periods]
        yield Problem(path, f"is {value:g}; must be at least {count} {what}, {periods / rate_hz:.4g} s")


def _exceeds_one_period(limits: Limits, name: str, rate_hz: float, who: str) -> Iterator[Problem]:
    speeds = {"m": limits.max_linear_velocity_m_s, "rad": limits.max_angular_velocity_rad_s}
    for unit, speed in speeds.items():
        bound = getattr(limits, f"{name}_{unit}")
        if bound is not None and _below(bound, speed / rate_hz):
            text = f"is {bound:g}; must be at least {speed / rate_hz:.3g}, one {who} period at full speed"
            yield Problem(f"limits.{name}_{unit}", text)


def _diagonal(box: Box) -> float:
    return math.dist(box.min, box.max)


Rule = Callable[..., Iterator[Problem]]
RULES: tuple[Rule, ...] = (
    camera_formats,
    camera_sizes,
    camera_times,
    frozen_camera,
    feedback_times,
    feedback_content,
    topics,
    frames,
    drive,
    rates,
    gripper,
    workspace,
    stopping,
    target_jump,
    following_error,
    joint_limits,
    timeouts,
    emergency_stop,
)
