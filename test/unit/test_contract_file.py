"""Every distinct way in which a contract can be wrong is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract_mapping import REMOVE, spoilt, valid_mapping
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.contract import Contract
from vla_ros.contract_file import contract_digest, load_contract, parse_contract
from vla_ros.errors import ContractError

CONFIG = Path(__file__).parents[2] / "config"
FRONT = valid_mapping()["cameras"]["front"]


def errors_of(mapping: Any) -> list[str]:
    with pytest.raises(ContractError) as caught:
        parse_contract(mapping, "arm.yaml")
    return str(caught.value).splitlines()


def twist(**limits: Any) -> dict[str, Any]:
    mapping = spoilt("command_interface", "twist")
    del mapping["limits"]["max_following_error_m"], mapping["limits"]["max_following_error_rad"]
    mapping["limits"].update(limits)
    return mapping


# path to spoil, value, path that the error must name, words that it must hold
WRONG_VALUES: list[tuple[str, Any, str, str]] = [
    # types and choices
    ("name", 7, "name", "is 7; must be text"),
    ("name", "my arm", "name", "must be a name"),
    ("name", "", "name", "must be a name"),
    ("command_interface", "velocity", "command_interface", "choices: pose, twist"),
    ("command_interface", True, "command_interface", "choices: pose, twist"),
    ("drive", "sideways", "drive", "choices: omnidirectional, differential"),
    ("drive", "differential", "drive", "is differential, which is driven by twists; choices: omnidirectional"),
    ("command_interface", ["pose"], "command_interface", "choices: pose, twist"),
    ("units.length", "mm", "units.length", "choices: m"),
    ("units.angle", "deg", "units.angle", "choices: rad"),
    ("rates", 50, "rates", "must be a mapping with keys policy_hz, guard_hz"),
    ("rates", None, "rates", "is empty; must be a mapping"),
    ("rates.policy_hz", "50", "rates.policy_hz", "must be a finite number"),
    ("rates.policy_hz", "5e1", "rates.policy_hz", "write 50.0"),
    ("rates.policy_hz", True, "rates.policy_hz", "is True; must be a finite number"),
    ("rates.policy_hz", float("nan"), "rates.policy_hz", "must be a finite number"),
    ("rates.policy_hz", float("inf"), "rates.policy_hz", "must be a finite number"),
    ("rates.policy_hz", 10**400, "rates.policy_hz", "must be a finite number"),
    ("cameras", ["front"], "cameras", "must be a mapping from names to values"),
    ("cameras.front", None, "cameras.front", "must be a mapping with keys topic"),
    ("cameras.front.width", 64.0, "cameras.front.width", "must be a whole number"),
    ("cameras.front.width", True, "cameras.front.width", "must be a whole number"),
    ("cameras.front.required", "yes", "cameras.front.required", "must be true or false"),
    ("cameras.front.required", 1, "cameras.front.required", "must be true or false"),
    ("cameras.front.transport", "theora", "cameras.front.transport", "choices: raw, compressed"),
    ("cameras.front.encoding", "rgb", "cameras.front.encoding", "did you mean rgb8?; choices: rgb8, bgr8"),
    ("feedback.joint_states.joints", "shoulder", "feedback.joint_states.joints", "must be a list"),
    ("feedback.joint_states.joints", ["a", 2], "feedback.joint_states.joints[1]", "is 2; must be text"),
    ("limits.workspace_m.min", [0, 0], "limits.workspace_m.min", "must be a list of 3, each a finite number"),
    ("limits.workspace_m.min", [0, 0, "0"], "limits.workspace_m.min[2]", "must be a finite number"),
    ("gripper.interface", "robotiq", "gripper.interface", "choices: float64, gripper_command, parallel_"),
    # names
    ("cameras.front-left", {}, "cameras.front-left", "must be a name"),
    ("cameras.front.topic", "camera/front image", "cameras.front.topic", "must be a ROS name"),
    ("cameras.front.topic", "2nd/image", "cameras.front.topic", "must be a ROS name"),
    ("cameras.front.topic", "camera//image", "cameras.front.topic", "must be a ROS name"),
    ("cameras.front.topic", "camera/", "cameras.front.topic", "must be a ROS name"),
    ("cameras.front.topic", "~/image", "cameras.front.topic", "must be a ROS name"),
    ("cameras.front.topic", "", "cameras.front.topic", "must be a ROS name"),
    ("cameras.front.topic", "a" * 250, "cameras.front.topic", "at most 200 characters"),
    ("cameras.front.frame", "/camera", "cameras.front.frame", "without leading /"),
    ("frames.base", "base link", "frames.base", "must be a frame name without white space"),
    ("feedback.joint_states.joints", ["shoulder", ""], "feedback.joint_states.joints[1]", "must be a joint name"),
    ("gripper.joint", "left finger", "gripper.joint", "must be a joint name"),
    # ranges: mostly wrong units
    ("rates.policy_hz", 0.0, "rates.policy_hz", "must be above 0 and at most 1000 Hz"),
    ("rates.policy_hz", -50.0, "rates.policy_hz", "must be above 0"),
    ("rates.guard_hz", 5.0, "rates.guard_hz", "must be from 10 to 1000 Hz"),
    ("cameras.front.rate_hz", 0, "cameras.front.rate_hz", "must be above 0"),
    ("cameras.front.width", 0, "cameras.front.width", "must be from 1 to 8192 pixels"),
    ("cameras.front.height", 100_000, "cameras.front.height", "must be from 1 to 8192 pixels"),
    ("cameras.front.max_age_s", 300, "cameras.front.max_age_s", "at most 10 s"),
    ("feedback.ee_pose.rate_hz", 0.0, "feedback.ee_pose.rate_hz", "must be above 0"),
    ("feedback.ee_pose.max_age_s", -1.0, "feedback.ee_pose.max_age_s", "must be above 0"),
    ("max_camera_skew_s", 0.0, "max_camera_skew_s", "must be above 0"),
    ("limits.workspace_m.max", [500, 500, 500], "limits.workspace_m.max[0]", "must be from -20 to 20 m"),
    ("limits.max_linear_velocity_m_s", 0.0, "limits.max_linear_velocity_m_s", "must be above 0 and at most 10 m/s"),
    ("limits.max_linear_acceleration_m_s2", 0.0, "limits.max_linear_acceleration_m_s2", "must be above 0"),
    ("limits.max_angular_velocity_rad_s", 60.0, "limits.max_angular_velocity_rad_s", "at most 20 rad/s"),
    ("limits.max_angular_acceleration_rad_s2", -3.0, "limits.max_angular_acceleration_rad_s2", "must be above 0"),
    ("limits.max_target_jump_m", 0.0, "limits.max_target_jump_m", "must be above 0"),
    ("limits.max_target_jump_rad", 20.0, "limits.max_target_jump_rad", "at most 3.2 rad"),
    ("limits.max_following_error_m", -0.1, "limits.max_following_error_m", "must be above 0"),
    ("limits.max_following_error_rad", 20.0, "limits.max_following_error_rad", "at most 3.2 rad"),
    ("limits.joint_margin", 0.0, "limits.joint_margin", "must be above 0"),
    ("limits.joints.elbow.max", 360, "limits.joints.elbow.max", "must be from -50 to 50 rad or m"),
    ("gripper.max_rate_per_s", 0.0, "gripper.max_rate_per_s", "must be above 0"),
    ("gripper.max_effort", -1.0, "gripper.max_effort", "must not be negative"),
    ("gripper.at_start", 1.1, "gripper.at_start", "must be from 0 to 1 of its range"),
    ("timeouts.policy_s", 0.0, "timeouts.policy_s", "must be above 0 and at most 10 s"),
    ("timeouts.inference_s", 500, "timeouts.inference_s", "at most 60 s"),
    ("timeouts.clock_s", 2.0, "timeouts.clock_s", "at most 1 s"),
    ("timeouts.driver_s", 100, "timeouts.driver_s", "at most 2 s"),
    ("stop_time_s", 200, "stop_time_s", "at most 5 s"),
    ("emergency_stop.silence_s", 0.0, "emergency_stop.silence_s", "must be above 0 and at most 2 s"),
    # cameras
    ("cameras", {}, "cameras", "at least one must be"),
    ("cameras.front.required", False, "cameras", "none is required; at least one must be"),
    ("cameras.front.encoding", "jpeg", "cameras.front.encoding", "transport raw does not carry; choices: rgb8, bgr8"),
    ("cameras.wrist.encoding", "rgb8", "cameras.wrist.encoding", "does not carry; choices: jpeg, png"),
    ("cameras.front.topic", "camera/front/compressed", "cameras.front.transport", "choices: compressed"),
    ("cameras.wrist.topic", "camera/wrist/compressedDepth", "cameras.wrist.topic", "compressedDepth cannot be read"),
    ("cameras.front.max_age_s", 0.09, "cameras.front.max_age_s", "at least one frame period, 0.1 s"),
    ("cameras.front", {**FRONT, "encoding": "uyvy", "width": 63}, "cameras.front.width", "is 63; must be even: uyvy"),
    ("cameras.front", {**FRONT, "encoding": "bayer_rggb8", "height": 2}, "cameras.front.height", "must be at least 3"),
    ("max_camera_skew_s", 0.31, "max_camera_skew_s", "must be at most 0.3, the smallest max_age_s"),
    ("timeouts.frozen_camera_s", 0.15, "timeouts.frozen_camera_s", "two frame periods of the slowest camera, 0.2 s"),
    # feedback
    ("feedback.ee_pose.max_age_s", 0.01, "feedback.ee_pose.max_age_s", "at least one period, 0.02 s"),
    ("feedback.ee_twist.max_age_s", 0.01, "feedback.ee_twist.max_age_s", "at least one period"),
    ("feedback.joint_states.max_age_s", 0.01, "feedback.joint_states.max_age_s", "at least one period"),
    ("feedback.ee_pose.required", False, "feedback.ee_pose.required", "must be True"),
    ("feedback.joint_states.joints", [], "feedback.joint_states.joints", "is empty; must name the joints"),
    ("feedback.joint_states.joints", ["shoulder", "elbow", "elbow"], "feedback.joint_states.joints", "elbow more than"),
    # topics
    ("cameras.wrist.topic", "camera/front/image_raw", "cameras.wrist.topic", "already cameras.front.topic"),
    ("outputs.pose", "ee_pose", "outputs.pose", "already feedback.ee_pose.topic"),
    ("outputs.twist", "/target_pose", "outputs.twist", "already outputs.pose"),
    ("gripper.topic", "joint_states", "gripper.topic", "already feedback.joint_states.topic"),
    ("emergency_stop.topic", "ee_twist", "emergency_stop.topic", "already feedback.ee_twist.topic"),
    ("outputs.pose", "policy/target_pose", "outputs.pose", "belong to vla_ros itself"),
    ("emergency_stop.topic", "/command", "emergency_stop.topic", "belong to vla_ros itself"),
    # frames, rates, gripper
    ("frames.tool", "base_link", "frames.tool", "the same as frames.base"),
    ("rates.policy_hz", 200.0, "rates.guard_hz", "must be at least policy_hz, 200"),
    ("gripper.open_at", 0.0, "gripper.open_at", "the same as closed_at"),
    ("gripper.interface", "float64", "gripper.max_effort", "choices: gripper_command"),
    # limits
    ("limits.workspace_m.max", [0.5, -0.5, 0.5], "limits.workspace_m.max", "y is -0.5; must be above min's y, -0.5"),
    ("limits.max_linear_velocity_m_s", 0.31, "limits.max_linear_velocity_m_s", "longer than stop_time_s, 0.2"),
    ("limits.max_angular_velocity_rad_s", 0.61, "limits.max_angular_velocity_rad_s", "longer than stop_time_s, 0.2"),
    ("stop_time_s", 0.01, "stop_time_s", "at least two guard periods, 0.02 s"),
    ("limits.max_target_jump_m", 1.6, "limits.max_target_jump_m", "at most the workspace's diagonal, 1.5 m"),
    ("limits.max_target_jump_m", 0.005, "limits.max_target_jump_m", "at least 0.006, one policy period at full speed"),
    ("limits.max_target_jump_rad", 0.01, "limits.max_target_jump_rad", "at least 0.012, one policy period"),
    ("limits.max_following_error_m", 0.002, "limits.max_following_error_m", "one guard period at full speed"),
    ("limits.max_following_error_rad", 0.005, "limits.max_following_error_rad", "one guard period at full speed"),
    ("limits.max_following_error_m", REMOVE, "limits.max_following_error_m", "must be given when command_interface"),
    ("limits.max_following_error_rad", None, "limits.max_following_error_rad", "must be given when command_interface"),
    ("command_interface", "twist", "limits.max_following_error_m", "must not be given when command_interface is twist"),
    ("command_interface", "twist", "limits.max_following_error_rad", "must not be given"),
    # joints
    ("limits.joint_margin", REMOVE, "limits.joint_margin", "must be given when limits.joints is"),
    ("limits.joints", REMOVE, "limits.joint_margin", "is given without limits.joints"),
    ("limits.joints.wrist", {"min": 0, "max": 1}, "limits.joints.wrist", "choices: shoulder, elbow"),
    ("limits.joints.elbow.min", 1.0, "limits.joints.elbow.max", "must be above min, 1"),
    ("limits.joint_margin", 1.0, "limits.joint_margin", "below half the range of elbow, 1"),
    ("feedback.joint_states.required", False, "feedback.joint_states.required", "True when limits.joints is given"),
    # timeouts
    ("timeouts.policy_s", 0.039, "timeouts.policy_s", "at least two policy periods, 0.04 s"),
    ("timeouts.inference_s", 0.01, "timeouts.inference_s", "at least one policy period, 0.02 s"),
    ("timeouts.teleop_s", 0.019, "timeouts.teleop_s", "at least two guard periods, 0.02 s"),
    ("timeouts.deadman_s", 0.019, "timeouts.deadman_s", "at least two guard periods"),
    ("timeouts.clock_s", 0.019, "timeouts.clock_s", "at least two guard periods"),
    ("timeouts.driver_s", 0.019, "timeouts.driver_s", "at least two guard periods"),
    ("emergency_stop.silence_s", 0.019, "emergency_stop.silence_s", "at least two guard periods"),
]


def test_the_mapping_that_the_others_spoil_is_valid() -> None:
    contract = parse_contract(valid_mapping(), "arm.yaml")
    assert contract.cameras["front"].required and not contract.cameras["wrist"].required
    assert contract.limits.workspace_m.min == (-0.5, -0.5, 0.0)
    assert parse_contract(twist(), "arm.yaml").limits.max_following_error_m is None


@pytest.mark.parametrize(
    "config", sorted(set(CONFIG.glob("*.yaml")) - {CONFIG / "joystick.yaml"}), ids=lambda path: path.stem
)
def test_shipped_contracts_are_valid(config: Path) -> None:
    contract = load_contract(config)
    assert contract.name == config.stem


@pytest.mark.parametrize(("path", "value", "named", "words"), WRONG_VALUES)
def test_wrong_value_is_refused_by_path_and_choices(path: str, value: Any, named: str, words: str) -> None:
    errors = errors_of(spoilt(path, value))
    assert any(error.startswith(f"arm.yaml: {named}: ") and words in error for error in errors), errors


def _leaves(mapping: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in mapping.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")


OPTIONAL = {
    "cameras.wrist.required", "cameras.front", "cameras.wrist", "feedback.ee_twist",
    *(f"feedback.{topic}.required" for topic in ("ee_pose", "ee_twist", "joint_states")),
    "outputs.pose", "outputs.twist", "gripper.joint", "gripper.max_effort", "limits.joints",
    "limits.joints.shoulder", "limits.joints.elbow",
}  # fmt: skip


@pytest.mark.parametrize("path", [path for path in _leaves(valid_mapping()) if path not in OPTIONAL])
def test_missing_key_is_named(path: str) -> None:
    named = path
    if path == "feedback.joint_states.joints":
        words = "is empty"  # a list that is not given is an empty one
    else:
        words = "must be"
    errors = errors_of(spoilt(path, REMOVE))
    assert any(error.startswith(f"arm.yaml: {named}: ") and words in error for error in errors), errors


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("comand_interface", "command_interface"),
        ("cameras.front.max_age", "max_age_s"),
        ("limits.max_linear_velocity", "max_linear_velocity_m_s"),
        ("limits.joints.elbow.mim", "min"),
        ("emergency_stop.silence", "silence_s"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_one(path: str, nearest: str) -> None:
    (error,) = errors_of(spoilt(path, 1))
    assert error.startswith(f"arm.yaml: {path}: unknown key, did you mean {nearest}?; choices: ")


def test_unknown_key_like_no_other_is_refused_with_the_choices() -> None:
    (error,) = errors_of(spoilt("frames.world", "map"))
    assert error == "arm.yaml: frames.world: unknown key; choices: base, tool"


def test_keys_that_are_not_text_are_refused() -> None:
    mapping: dict[Any, Any] = valid_mapping()
    mapping["cameras"][True] = mapping["cameras"].pop("wrist")
    mapping[3] = 4
    errors = errors_of(mapping)
    assert any(error.startswith("arm.yaml: cameras.True: ") for error in errors)
    assert any(error.startswith("arm.yaml: 3: unknown key") for error in errors)


def test_all_faults_are_reported_together_and_a_wrong_type_hides_no_rule_elsewhere() -> None:
    mapping = spoilt("rates.policy_hz", "fast")
    mapping["cameras"]["front"]["width"] = -1
    mapping["limits"]["workspace_m"]["max"][2] = -1.0
    mapping["gripper"]["open_at"] = 0.0
    del mapping["stop_time_s"]
    named = {error.split(": ")[1] for error in errors_of(mapping)}
    assert named == {
        "rates.policy_hz",
        "cameras.front.width",
        "limits.workspace_m.max",
        "gripper.open_at",
        "stop_time_s",
    }


def test_a_stop_that_takes_exactly_the_stop_time_is_accepted_in_spite_of_rounding() -> None:
    mapping = spoilt("limits.max_linear_velocity_m_s", 0.28)
    mapping["limits"]["max_linear_acceleration_m_s2"] = 1.4
    assert 0.28 / 1.4 > mapping["stop_time_s"] == 0.2
    parse_contract(mapping, "arm.yaml")


def test_a_contract_is_not_a_list() -> None:
    assert errors_of([]) == ["arm.yaml: must be a mapping of keys to values"]


def test_integers_are_numbers() -> None:
    contract = parse_contract(spoilt("rates", {"policy_hz": 50, "guard_hz": 100}), "arm.yaml")
    assert type(contract.rates.policy_hz) is float


# the file


WRONG_FILES: list[tuple[bytes, str]] = [
    (b"", "is empty; must be a mapping"),
    (b"- a\n- b\n", "is a list; must be a mapping"),
    (b"hello", "is a str; must be a mapping"),
    (b"name: a\nrates: [1, 2\n", "line 3, column 1: not valid YAML"),
    (b"name: a\n\tb: c\n", "line 2, column 1: not valid YAML"),
    (b"name: a\nname: b\n", "line 2, column 1: key 'name' is already given on line 1"),
    (b"name: a\nframes:\n  base: b\n  base: c\n", "line 4, column 3: key 'base' is already given on line 3"),
    (b"name: *nobody\n", "line 1, column 7: not valid YAML: found undefined alias 'nobody'"),
    (b"name: a\n---\nname: b\n", "line 2, column 1: not valid YAML: expected a single document"),
    (b"? [a]\n: b\n", "line 1, column 3: not valid YAML"),
    (b"name: !!python/object:os.system {}\n", "line 1, column 7: not valid YAML: could not determine a constructor"),
    (b"name: \x07\n", "not valid YAML: unacceptable character"),
    (b"name: \xff\xfe\n", "not UTF-8 text (byte 6)"),
    (b"name: 2026-99-99\n", "holds a value that cannot be read"),
    (b"name: !!timestamp noon\n", "holds a value that cannot be read"),
    (b"name: !!bool maybe\n", "holds a value that cannot be read"),
    (b"[" * 5000, "nested too deeply"),
    (b"a: &a {b: &b {<<: *a}}\n", "a: unknown key"),
    (b"#" * 1_000_001, "at most 1000000 bytes"),
]


@pytest.mark.parametrize(("content", "words"), WRONG_FILES, ids=lambda value: str(value)[:40])
def test_wrong_file_is_refused_with_its_place(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "arm.yaml"
    file.write_bytes(content)
    with pytest.raises(ContractError) as caught:
        load_contract(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


def test_all_duplicate_keys_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "arm.yaml"
    file.write_text("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    with pytest.raises(ContractError) as caught:
        load_contract(file)
    assert len(str(caught.value).splitlines()) == 2


def test_missing_file_directory_and_device_are_refused(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a directory"),
        (Path("/dev/zero"), "ordinary file"),
        (tmp_path / ("a" * 300), "cannot be read: File name too long|no such file"),
        (Path("a\0b"), "no such file"),
    ):
        with pytest.raises(ContractError, match=words):
            load_contract(path)


def test_merge_keys_may_be_merged_again_and_overridden(tmp_path: Path) -> None:
    mapping = valid_mapping()
    del mapping["cameras"]
    cameras = """
cameras:
  front: &front {topic: a, transport: raw, encoding: rgb8, width: 8, height: 8, rate_hz: 10, max_age_s: 0.3, frame: f}
  left: &left {<<: *front, topic: b, frame: g}
  right: {<<: *left, topic: c}
"""
    file = tmp_path / "arm.yaml"
    file.write_text(yaml.safe_dump(mapping) + cameras)
    views = load_contract(file).cameras
    assert {name: (view.topic, view.frame) for name, view in views.items()} == {
        "front": ("a", "f"),
        "left": ("b", "g"),
        "right": ("c", "g"),
    }


# the digest


def test_digest_ignores_order_and_spelling_but_no_value() -> None:
    contract = parse_contract(valid_mapping(), "a")
    reordered = parse_contract(dict(reversed(valid_mapping().items())), "b")
    assert contract_digest(contract) == contract_digest(reordered)
    assert contract_digest(contract) == contract_digest(parse_contract(spoilt("rates.policy_hz", 50), "c"))
    for path, value in (("rates.policy_hz", 50.001), ("gripper.joint", "other"), ("limits.joints.elbow.max", 1.1)):
        assert contract_digest(parse_contract(spoilt(path, value), "d")) != contract_digest(contract)
    assert len(contract_digest(contract)) == 64


# random damage

PATHS = list(_leaves(valid_mapping()))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.one_of(st.floats(), st.integers(), st.text(max_size=4), st.none()), max_size=4),
    st.dictionaries(st.one_of(st.text(max_size=6), st.integers(), st.none()), st.floats(), max_size=3),
    st.just(REMOVE),
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(PATHS), VALUES, min_size=1, max_size=4))
def test_random_damage_raises_nothing_but_contract_errors(damage: dict[str, Any]) -> None:
    mapping = valid_mapping()
    for path, value in damage.items():
        _damage(mapping, path, value)
    try:
        contract = parse_contract(mapping, "arm.yaml")
    except ContractError as error:
        assert all(line.startswith("arm.yaml: ") for line in str(error).splitlines())
    else:
        assert isinstance(contract, Contract)
        assert contract_digest(contract) == contract_digest(dataclasses.replace(contract))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_damage_to_the_text_raises_nothing_but_contract_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = yaml.safe_dump(valid_mapping()).encode()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    junk = data.draw(st.one_of(st.binary(max_size=6), st.text("{}[]&*!|>%@`:,-? \n\t<'\"#ab1~", max_size=8)))
    file = tmp_path_factory.getbasetemp() / "arm.yaml"
    file.write_bytes(text[:start] + (junk if isinstance(junk, bytes) else junk.encode()) + text[end:])
    try:
        load_contract(file)
    except ContractError as error:
        assert str(error).startswith(f"{file}: ")


def _damage(mapping: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place: Any = mapping
    for key in parents:
        if not isinstance(place, dict) or key not in place:
            return
        place = place[key]
    if not isinstance(place, dict):
        return
    if value is REMOVE:
        place.pop(last, None)
    else:
        place[last] = value
