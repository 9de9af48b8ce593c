"""`vla_ros check` without a robot: what it prints, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract_mapping import spoilt, valid_mapping

from vla_ros.check import run_check, stop_bounds
from vla_ros.contract_file import parse_contract


def check(tmp_path: Path, mapping: object) -> tuple[int, list[str]]:
    file = tmp_path / "arm.yaml"
    file.write_text(yaml.safe_dump(mapping))
    said: list[str] = []
    return run_check(str(file), live=False, duration_s=1.0, print=said.append), said


def test_a_valid_contract_is_summarised(tmp_path: Path) -> None:
    status, said = check(tmp_path, valid_mapping())
    text = "\n".join(said)
    assert status == 0
    assert "arm: valid (an arm for tests)" in text
    assert "commands    pose on target_pose, in frame base_link" in text
    assert any(line.split()[:2] == ["front", "camera/front/image_raw"] for line in said)
    assert any("wrist" in line and line.endswith("optional") for line in said)
    assert "0.3 m/s, 1.5 m/s2" in text
    assert any(line.split()[:1] == ["elbow"] and "margin 0.1" in line for line in said)
    assert any(line.startswith("  policy node silent") and line.split()[-2] == "0.310" for line in said)


def test_every_error_of_a_wrong_contract_is_printed(tmp_path: Path) -> None:
    mapping = spoilt("stop_time_s", -1.0)
    del mapping["timeouts"]["driver_s"]
    status, said = check(tmp_path, mapping)
    assert status == 2
    lines = "\n".join(said).splitlines()
    assert len(lines) == 2
    assert any("arm.yaml: stop_time_s: " in line for line in lines)
    assert any("arm.yaml: timeouts.driver_s: is missing" in line for line in lines)


def test_a_missing_file_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    said: list[str] = []
    assert run_check(str(tmp_path / "none.yaml"), live=True, duration_s=1.0, print=said.append) == 2
    assert said == [f"{tmp_path / 'none.yaml'}: no such file"]


def test_worst_case_is_detection_and_one_tick_and_stop_time() -> None:
    contract = parse_contract(valid_mapping(), "arm.yaml")
    bounds = {bound.fault: bound.total_s for bound in stop_bounds(contract)}
    assert abs(bounds["policy node silent"] - (0.1 + 0.01 + 0.2)) < 1e-9
    assert (
        abs(bounds["required camera silent"] - (0.3 + 0.02 + 0.1 + 0.01 + 0.2)) < 1e-9
    )  # the optional one does not count
    assert abs(bounds["emergency stop silent"] - (0.5 + 0.01 + 0.2)) < 1e-9
    optional = parse_contract(spoilt("emergency_stop.required", False), "arm.yaml")
    assert "emergency stop silent" not in {bound.fault for bound in stop_bounds(optional)}


def test_silent_joints_are_missed_by_the_guard_where_they_have_limits_and_else_by_the_policy() -> None:
    def silent_s(mapping: dict[str, Any]) -> list[float]:
        bounds = stop_bounds(parse_contract(mapping, "arm.yaml"))
        return [bound.detection_s for bound in bounds if bound.fault == "joints silent"]

    assert silent_s(valid_mapping()) == pytest.approx([0.2 + 0.01])
    free = valid_mapping()
    del free["limits"]["joint_margin"], free["limits"]["joints"]
    assert silent_s(free) == pytest.approx([0.2 + 0.02 + 0.1 + 0.01])
    free["feedback"]["joint_states"]["required"] = False
    assert silent_s(free) == []


def test_the_static_check_imports_neither_ros_nor_torch(tmp_path: Path) -> None:
    file = tmp_path / "arm.yaml"
    file.write_text(yaml.safe_dump(valid_mapping()))
    code = (
        "import sys; from vla_ros.check import run_check; status = run_check(sys.argv[1], False, 1.0);"
        "sys.exit(status or bool({'rclpy', 'torch', 'cv2'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True)
