"""`vla_ros check`: is this contract valid, what does it promise, and does the running robot keep to it?"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vla_ros.contract import Contract
from vla_ros.contract_file import contract_digest, load_contract
from vla_ros.errors import ContractError
from vla_ros.live_check import mismatches

VALID, MISMATCH, INVALID = 0, 1, 2


@dataclass(frozen=True)
class StopBound:
    """How long a fault can keep the commanded motion going. detection_s: until the stop is decided; then stop_s."""

    fault: str
    detection_s: float
    stop_s: float

    @property
    def total_s(self) -> float:
        """From the fault to commanded standstill."""
        return self.detection_s + self.stop_s


def run_check(
    path: str, live: bool, duration_s: float, print: Callable[[str], None] = builtins.print, namespace: str = ""
) -> int:
    """Check a contract file, and if `live` the running graph for duration_s; say what was found.

    namespace: of the robot's topics, "" for none.
    Returns the exit status: 0 valid (and the graph matches), 1 the graph differs, 2 the file is refused.
    """
    try:
        contract = load_contract(path)
    except ContractError as error:
        print(str(error))
        return INVALID
    for line in summary(contract):
        print(line)
    return _check_live(contract, duration_s, namespace, print) if live else VALID


def _check_live(contract: Contract, duration_s: float, namespace: str, print: Callable[[str], None]) -> int:
    try:
        from vla_ros.ros.live_graph import snapshot_of_running_graph
    except ImportError as error:
        print(f"--live needs ROS 2 in this Python: {error}")
        return INVALID
    print(f"\nlistening to the running graph for {duration_s:g} s")
    found = mismatches(contract, snapshot_of_running_graph(contract, duration_s, namespace))
    for text in found:
        print(f"  mismatch: {text}")
    print(f"the graph differs from the contract in {len(found)} ways" if found else "the graph matches the contract")
    return MISMATCH if found else VALID


def stop_bounds(contract: Contract) -> tuple[StopBound, ...]:
    """The worst case of every fault that ends in a stop; in order of the contract."""
    timeouts, feedback, stop_s = contract.timeouts, contract.feedback, contract.stop_time_s
    guard_s = 1.0 / contract.rates.guard_hz
    # What the policy node notices it answers with silence, which the guard notices in turn.
    silence_s = 1.0 / contract.rates.policy_hz + timeouts.policy_s + guard_s
    camera_s = max(camera.max_age_s for camera in contract.cameras.values() if camera.required)
    bounds = [
        StopBound("policy node silent", timeouts.policy_s + guard_s, stop_s),
        StopBound("model hangs", timeouts.inference_s + silence_s, stop_s),
        StopBound("required camera silent", camera_s + silence_s, stop_s),
        StopBound("camera frozen while moving", timeouts.frozen_camera_s + silence_s, stop_s),
        StopBound("tool pose silent", feedback.ee_pose.max_age_s + guard_s, stop_s),
        *_joints_silent(contract, guard_s, silence_s),
        StopBound("teleop silent", timeouts.teleop_s + guard_s, stop_s),
        StopBound("deadman silent", timeouts.deadman_s + guard_s, stop_s),
        StopBound("ROS clock stands still", timeouts.clock_s + guard_s, stop_s),
        StopBound("emergency stop pressed", guard_s, stop_s),
    ]
    if contract.emergency_stop.required:
        bounds.append(StopBound("emergency stop silent", contract.emergency_stop.silence_s + guard_s, stop_s))
    return (*bounds, StopBound("guard dead: the driver begins to stop", timeouts.driver_s, 0.0))


def _joints_silent(contract: Contract, guard_s: float, silence_s: float) -> Iterator[StopBound]:
    """With limits the guard misses the joints itself; without, the policy node, if they are required."""
    joints = contract.feedback.joint_states
    has_limits = contract.limits.joint_margin is not None
    if has_limits or joints.required:
        noticed_s = joints.max_age_s + (guard_s if has_limits else silence_s)
        yield StopBound("joints silent", noticed_s, contract.stop_time_s)


def summary(contract: Contract) -> Iterator[str]:
    """A valid contract for people, line by line."""
    yield f"{contract.name}: valid ({contract.description})"
    yield f"  digest      {contract_digest(contract)[:16]}"
    yield f"  commands    {contract.command_interface} on {_command_topic(contract)}, in frame {contract.frames.base}"
    yield f"  rates       policy {contract.rates.policy_hz:g} Hz, guard {contract.rates.guard_hz:g} Hz"
    yield f"  gripper     {contract.gripper.interface} on {contract.gripper.topic}"
    stop = contract.emergency_stop
    need = "required" if stop.required else "optional"
    yield f"  e-stop      {stop.topic}, {need}"
    yield ""
    yield from _cameras(contract)
    yield ""
    yield from _limits(contract)
    yield ""
    yield f"{'if this happens':40} {'noticed':>9} {'then stops in':>14} {'at rest after':>14}   (commanded motion)"
    for bound in stop_bounds(contract):
        yield f"  {bound.fault:38} {bound.detection_s:7.3f} s {bound.stop_s:12.3f} s {bound.total_s:12.3f} s"


def _command_topic(contract: Contract) -> str:
    return contract.outputs.pose if contract.command_interface == "pose" else contract.outputs.twist


def _cameras(contract: Contract) -> Iterator[str]:
    width = max(len(camera.topic) for camera in contract.cameras.values())
    yield f"{'camera':12} {'topic':{width}}  {'encoding':12} {'size':>10} {'rate':>8} {'max age':>8}"
    for view, camera in contract.cameras.items():
        size = f"{camera.width}x{camera.height}"
        need = "" if camera.required else "  optional"
        yield (
            f"  {view:10} {camera.topic:{width}}  {camera.encoding:12} {size:>10}"
            f" {camera.rate_hz:5g} Hz {camera.max_age_s:6g} s{need}"
        )


def _limits(contract: Contract) -> Iterator[str]:
    limits = contract.limits
    box = limits.workspace_m
    sides = ", ".join(f"{axis} {low:g}..{high:g}" for axis, low, high in zip("xyz", box.min, box.max, strict=True))
    yield "limits"
    yield f"  workspace       {sides} m"
    yield f"  linear          {limits.max_linear_velocity_m_s:g} m/s, {limits.max_linear_acceleration_m_s2:g} m/s2"
    yield (
        f"  angular         {limits.max_angular_velocity_rad_s:g} rad/s,"
        f" {limits.max_angular_acceleration_rad_s2:g} rad/s2"
    )
    yield f"  target jump     {limits.max_target_jump_m:g} m, {limits.max_target_jump_rad:g} rad"
    if limits.max_following_error_m is not None and limits.max_following_error_rad is not None:
        yield f"  following error {limits.max_following_error_m:g} m, {limits.max_following_error_rad:g} rad"
    for name, joint in limits.joints.items():
        yield f"  {name:15} {joint.min:g}..{joint.max:g}, margin {limits.joint_margin:g}"
