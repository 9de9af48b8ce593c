"""Small builders for tests of the decision path: contracts, values, and benches whose time is data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.contract_file import load_contract
from vla_ros.control import channels
from vla_ros.control.arbiter import Source
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_report import GuardResult
from vla_ros.control.guard_state import GuardConfig, GuardState, Mode
from vla_ros.types import NS_PER_S, FloatArray, Now, Pose, Provenance, Sample, Twist, instruction_hash

UPRIGHT = np.array([0.0, 1.0, 0.0, 0.0])
HOME = np.array([0.0, 0.6, 0.2])
INSTRUCTION = "open the drawer"


@cache
def pose_contract() -> Contract:
    """The simulated robot's contract, as it ships."""
    return load_contract(Path(__file__).parents[2] / "config" / "sawyer_sim.yaml")


def twist_contract() -> Contract:
    """The same robot, if it obeyed twists."""
    limits = replace(pose_contract().limits, max_following_error_m=None, max_following_error_rad=None)
    return replace(pose_contract(), command_interface="twist", limits=limits)


def with_limits(**changes: Any) -> Contract:
    """The pose contract with other limits."""
    return replace(pose_contract(), limits=replace(pose_contract().limits, **changes))


def with_required_emergency_stop() -> Contract:
    """The pose contract on a robot whose emergency stop must be heard."""
    return replace(pose_contract(), emergency_stop=replace(pose_contract().emergency_stop, required=True))


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Pose:
    """The tool upright, displaced from HOME [m]."""
    return Pose(HOME + np.array([x, y, z]), UPRIGHT)


def twist(x: float = 0.0, y: float = 0.0, z: float = 0.0, angular: Iterable[float] = (0.0, 0.0, 0.0)) -> Twist:
    """Linear x, y, z [m/s]; angular [rad/s]."""
    return Twist(np.array([x, y, z]), np.array(list(angular), float))


def speed(vector: FloatArray) -> float:
    """Length of a velocity."""
    return float(np.linalg.norm(vector))


class GuardBench:
    """A guard, a robot that obeys it perfectly, and a clock that moves only when told to.

    ROS time and steady time differ on purpose: a mix-up of the two must not pass.
    """

    def __init__(self, contract: Contract | None = None, shadow: bool = False) -> None:
        self.config = GuardConfig(contract or pose_contract(), shadow)
        self.state = GuardState()
        self.ros_ns, self.steady_ns = 1_000 * NS_PER_S, 7 * NS_PER_S
        self.measured = pose()
        self.has_feedback = True
        self.is_followed = True
        self.is_noisy = False
        self._noise = np.array([1e-9, 0.0, 0.0])
        self.policy_target: Pose | None = None
        self.policy_twist = twist()
        self.policy_t_obs_ns: int | None = None
        self.held_deadman = False
        self.teleop_twist: Twist | None = None
        self.last: GuardResult | None = None
        self.inputs: list[Sample[Any]] = []

    @property
    def period_s(self) -> float:
        """One tick [s]."""
        return 1.0 / self.config.contract.rates.guard_hz

    @property
    def now(self) -> Now:
        """The present instant."""
        return Now(self.ros_ns, self.steady_ns)

    def hear(self, channel: str, value: Any, stamp_ns: int | None = None) -> GuardBench:
        """Let a sample arrive before the next tick."""
        self.inputs.append(Sample(channel, value, stamp_ns, self.steady_ns))
        return self

    def hear_policy(
        self,
        target: Pose,
        moving: Twist | None = None,
        gripper: float = 0.5,
        t_obs_ns: int | None = None,
        instruction: str = INSTRUCTION,
        stamp_ns: int | None = None,
        without: str = "",
    ) -> GuardBench:
        """Let the policy's set of four arrive just after the last tick, one part perhaps missing."""
        provenance = Provenance(instruction_hash(instruction), self.ros_ns + 1 if t_obs_ns is None else t_obs_ns)
        parts = (
            (channels.POLICY_POSE, target),
            (channels.POLICY_TWIST, moving or twist()),
            (channels.POLICY_GRIPPER, gripper),
            (channels.POLICY_PROVENANCE, provenance),
        )
        for channel, value in parts:
            if channel != without:
                self.hear(channel, value, self.ros_ns + 1 if stamp_ns is None else stamp_ns)
        return self

    def arm(self) -> GuardBench:
        """Ask to arm."""
        return self.hear(channels.ARM, True)

    def say(self, instruction: str = INSTRUCTION) -> GuardBench:
        """Give an instruction."""
        return self.hear(channels.COMMAND, instruction)

    def tick(self, ros_s: float | None = None, steady_s: float | None = None) -> GuardResult:
        """One tick, a period later unless told otherwise, with all that speaks at every tick."""
        steady_s = self.period_s if steady_s is None else steady_s
        self.steady_ns += round(steady_s * NS_PER_S)
        self.ros_ns += round((steady_s if ros_s is None else ros_s) * NS_PER_S)
        if self.has_feedback:
            self.inputs.insert(0, Sample(channels.EE_POSE, self.measured, self.ros_ns, self.steady_ns))
        if self.policy_target is not None:
            t_obs_ns = self.ros_ns if self.policy_t_obs_ns is None else self.policy_t_obs_ns
            self.hear_policy(self.policy_target, self.policy_twist, t_obs_ns=t_obs_ns, stamp_ns=self.ros_ns)
        if self.held_deadman:
            self.hear(channels.TELEOP_DEADMAN, True)
        if self.teleop_twist is not None:
            self.hear(channels.TELEOP_TWIST, self.teleop_twist, self.ros_ns)
        self.last = guard_step(self.state, self.inputs, self.now, self.config)
        self.inputs, self.state = [], self.last.state
        if self.last.command is not None and self.is_followed:
            self.measured = self.last.command.pose
        if self.is_noisy:
            self.measured = replace(self.measured, position=self.measured.position + self._noise)
            self._noise = -self._noise
        return self.last

    def run(self, seconds: float) -> list[GuardResult]:
        """Tick for a while."""
        return [self.tick() for _ in range(round(seconds / self.period_s))]

    def armed(self) -> GuardBench:
        """Armed and told what to do, with nobody speaking yet."""
        self.say().arm().tick()
        assert self.state.mode is Mode.ARMED
        return self

    def moving(self, towards: Pose | None = None) -> GuardBench:
        """In the middle of a policy's motion at more than half of full speed."""
        self.armed()
        self.policy_target = towards or pose(x=0.25)
        self.run(0.15)
        assert self.source is Source.POLICY and self.speed > 0.2
        return self

    @property
    def source(self) -> Source:
        """Who was in command at the last tick."""
        return self.result.status.source

    @property
    def text(self) -> str:
        """The last tick's status."""
        return self.result.status.text

    @property
    def result(self) -> GuardResult:
        """The last tick's result."""
        assert self.last is not None
        return self.last

    @property
    def speed(self) -> float:
        """Commanded linear speed [m/s]; 0 where nothing is commanded."""
        return 0.0 if self.result.command is None else speed(self.result.command.twist.linear)
