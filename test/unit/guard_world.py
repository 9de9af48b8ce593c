"""A hostile world around the guard: a lagging robot, two clocks that misbehave, and everybody who talks to it.

Every method that is an event changes what the next ticks bring. `step` gives one tick's inputs to the guard and the
outcome to the invariants.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from builders import HOME, INSTRUCTION, UPRIGHT
from guard_invariants import Invariants

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.guard import guard_step
from vla_ros.control.guard_state import GuardConfig, GuardState
from vla_ros.geometry import difference, from_rotation_vector, integrate, interpolate, multiply
from vla_ros.types import NS_PER_S, FloatArray, JointState, Now, Pose, Provenance, Sample, Twist, instruction_hash

INSTRUCTIONS = (INSTRUCTION, "push the button", "stop", "")
EVENTS = (
    "arm", "arm", "arm", "disarm", "reset", "reset", "say", "say", "say_again", "press", "release", "mute_stop",
    "policy_well", "policy_well", "policy_well", "policy_silent", "policy_wild", "policy_far", "policy_blind",
    "policy_wrong", "policy_broken", "policy_stamps", "grab", "grab", "let_go", "let_go", "teleop_dies", "teleop_pose",
    "feedback", "feedback", "no_feedback", "late_feedback", "bad_feedback", "stuck", "unstuck", "clock_stops",
    "clock_runs", "clock_runs", "clock_jumps_back", "sleeps", "late_ticks", "jitter", "jitter", "world_reset",
    "policy_lying", "press_briefly", "joint_near", "joint_away", "no_joints", *("calm",) * 20,
)  # fmt: skip


class GuardWorld:
    """The plant is a first-order lag behind a dead time. Random numbers come from one generator."""

    def __init__(self, contract: Contract, seed: int, shadow: bool = False) -> None:
        self.random = np.random.default_rng(seed)
        self.config = GuardConfig(contract, shadow)
        self.period_s = 1.0 / contract.rates.guard_hz
        self.state = GuardState()
        self.invariants = Invariants(self.config)
        self.ros_ns, self.steady_ns = 50 * NS_PER_S, 9 * NS_PER_S
        self.measured = Pose(HOME + self.random.uniform(-0.2, 0.2, 3), UPRIGHT)
        self.lag_s = float(self.random.uniform(0.0, 0.15))
        self.commands: deque[Pose | Twist | None] = deque([None] * int(self.random.integers(1, 6)))
        self.policy, self.stamps, self.served = "well", "good", INSTRUCTION
        self.velocity = np.zeros(6)
        self.feedback_mode, self.is_stuck, self.ros_speed, self.jump_s = "good", False, 1.0, 0.0
        self.tick_mode, self.teleop_kind, self.stop_heard = "jitter", "twist", False
        self.deadman: bool | None = None
        self.rearm_ticks = 3
        self.joint: float | None = 0.0  # rad, of every joint that has a limit; None: not heard
        self.old_t_obs_ns = 0
        self.heading = Twist(np.zeros(3), np.zeros(3))  # of the human's hand, and of the policy's targets
        self.waiting: list[tuple[str, Any]] = []

    def happen(self, event: str) -> None:
        """One of EVENTS."""
        getattr(self, f"_{event}", lambda: self._set(event))()

    def step(self) -> None:
        """One tick of everything."""
        self._advance_clocks()
        self._move_robot()
        inputs = self._inputs()
        result = guard_step(self.state, inputs, Now(self.ros_ns, self.steady_ns), self.config)
        self.invariants.check(self.state, inputs, Now(self.ros_ns, self.steady_ns), result)
        self.state = result.state
        sent = result.command
        if sent is not None:
            self.commands.append(sent.pose if self.config.contract.command_interface == "pose" else sent.twist)
        else:
            self.commands.append(None)

    def _set(self, event: str) -> None:
        settings = {
            "policy_stamps": ("stamps", ("good", "good", "stale", "future", "duplicate")[self.random.integers(5)]),
            "grab": ("deadman", True),
            "let_go": ("deadman", False),
            "teleop_dies": ("deadman", None),
            "teleop_pose": ("teleop_kind", ("twist", "pose", "none")[self.random.integers(3)]),
            "feedback": ("feedback_mode", "good"),
            "no_feedback": ("feedback_mode", "none"),
            "late_feedback": ("feedback_mode", "late"),
            "bad_feedback": ("feedback_mode", "bad"),
            "stuck": ("is_stuck", True),
            "unstuck": ("is_stuck", False),
            "joint_near": ("joint", float(self.random.choice([-1.0, 1.0]) * self.random.uniform(0.85, 1.05))),
            "joint_away": ("joint", float(self.random.uniform(-0.85, 0.85))),
            "no_joints": ("joint", None),
            "clock_stops": ("ros_speed", 0.0),
            "clock_runs": ("ros_speed", float(self.random.choice([1.0, 1.0, 0.5]))),
            "clock_jumps_back": ("jump_s", float(self.random.uniform(0.001, 3.0))),
            "sleeps": ("tick_mode", "sleep"),
            "late_ticks": ("tick_mode", "late"),
            "jitter": ("tick_mode", "jitter"),
            "press": ("stop_heard", True),
            "release": ("stop_heard", False),
            "mute_stop": ("stop_heard", None),
        }
        name, value = settings.get(event, ("policy", event.removeprefix("policy_")))
        setattr(self, name, value)

    def _arm(self) -> None:
        self.waiting.append((channels.ARM, True))

    def _disarm(self) -> None:
        self.waiting.append((channels.ARM, False))

    def _reset(self) -> None:
        self.waiting.append((channels.RESET, None))

    def _press_briefly(self) -> None:
        self.waiting += [(channels.EMERGENCY_STOP, True), (channels.EMERGENCY_STOP, False)]

    def _calm(self) -> None:
        """All is well again, and somebody resets and arms."""
        self.policy, self.stamps, self.feedback_mode, self.is_stuck = "well", "good", "good", False
        self.ros_speed, self.tick_mode, self.stop_heard, self.rearm_ticks = 1.0, "jitter", False, 3
        self.joint = 0.0
        self.deadman = False if self.deadman is None or self.random.random() < 0.5 else self.deadman
        self._say_again()

    def _say(self) -> None:
        self.served = INSTRUCTIONS[self.random.choice(4, p=(0.45, 0.35, 0.1, 0.1))]
        self.waiting.append((channels.COMMAND, self.served))

    def _say_again(self) -> None:
        self.served = INSTRUCTION
        self.waiting.append((channels.COMMAND, INSTRUCTION))

    def _world_reset(self) -> None:
        if self.random.random() < 0.3:
            self.waiting.append((channels.SIM_RESET, None))
            self.measured = Pose(HOME + self.random.uniform(-0.2, 0.2, 3), UPRIGHT)
            self.commands = deque([None] * len(self.commands))

    def _advance_clocks(self) -> None:
        periods = 1.0
        if self.tick_mode == "jitter":
            periods = float(self.random.uniform(0.6, 1.4))
        elif self.tick_mode == "late":
            periods = float(self.random.choice([0.0, 1.0, 3.0]))
        elif self.tick_mode == "sleep":
            periods, self.tick_mode = float(self.random.choice([8.0, 40.0])), "jitter"
        self.dt_s = periods * self.period_s
        self.steady_ns += round(self.dt_s * NS_PER_S)
        self.ros_ns += round((self.dt_s * self.ros_speed - self.jump_s) * NS_PER_S)
        self.jump_s = 0.0

    def _move_robot(self) -> None:
        obeyed = self.commands.popleft()
        if obeyed is None or self.is_stuck:
            return
        gain = self.dt_s / (self.dt_s + self.lag_s) if self.dt_s > 0.0 else 0.0
        if isinstance(obeyed, Pose):
            self.measured = interpolate(self.measured, obeyed, gain)
        else:
            wanted = np.concatenate([obeyed.linear, obeyed.angular])
            self.velocity = self.velocity + gain * (wanted - self.velocity)
            moving = Twist(self.velocity[:3], self.velocity[3:])
            self.measured = integrate(self.measured, moving, min(self.dt_s, 0.25))

    def _inputs(self) -> list[Sample[Any]]:
        if self.random.random() < 0.03:
            self.heading = Twist(self._vector(2.0), self._vector(2.0))
        inputs = [self._sample(channel, value) for channel, value in self.waiting]
        self.waiting = []
        if self.rearm_ticks > 0:
            self.rearm_ticks -= 1
            inputs += [self._sample(channels.RESET, None), self._sample(channels.ARM, True)]
        if self.stop_heard is not None:
            inputs.append(self._sample(channels.EMERGENCY_STOP, self.stop_heard))
        inputs += self._feedback_samples() + self._policy_samples() + self._teleop_samples()
        self.random.shuffle(inputs)
        return inputs

    def _sample(self, channel: str, value: Any, stamp_ns: int | None = None) -> Sample[Any]:
        received_ns = self.steady_ns - int(self.random.integers(0, 5_000_000))
        return Sample(channel, value, stamp_ns, received_ns)

    def _feedback_samples(self) -> list[Sample[Any]]:
        if self.feedback_mode == "none" or self.random.random() < 0.02:
            return []
        late_s = float(self.random.uniform(0.0, 0.4)) if self.feedback_mode == "late" else 0.005
        measured = self.measured
        if self.feedback_mode == "bad":
            measured = replace(measured, position=measured.position * np.nan)
        stamp_ns = self.ros_ns - round(late_s * NS_PER_S)
        samples = [self._sample(channels.EE_POSE, measured, stamp_ns)]
        names = tuple(self.config.contract.limits.joints)
        if names and self.joint is not None:
            trembling = 0.0 if self.is_stuck else 1e-6 * self.random.random()
            joints = JointState(names, np.full(len(names), self.joint + trembling))
            samples.append(self._sample(channels.JOINT_STATES, joints, stamp_ns))
        return samples

    def _policy_samples(self) -> list[Sample[Any]]:
        if self.policy == "silent" or self.random.random() < 0.05:
            return []
        age_s = {"good": 0.01, "stale": 1.0, "future": -5.0, "duplicate": 0.01}[self.stamps]
        stamp_ns = self.ros_ns - round(age_s * NS_PER_S)
        if self.stamps == "duplicate":
            stamp_ns -= stamp_ns % 100_000_000
        t_obs_ns = self.ros_ns - round(float(self.random.uniform(0.02, 0.1)) * NS_PER_S)
        if self.policy == "blind":
            t_obs_ns = self.old_t_obs_ns
        if self.policy == "lying":
            t_obs_ns = self.ros_ns + NS_PER_S
        self.old_t_obs_ns = t_obs_ns
        served = "another sentence" if self.policy == "wrong" else self.served
        target, moving = self._target()
        gripper: float = float(self.random.choice([0.0, 1.0, 0.3, np.nan if self.policy == "broken" else 7.0]))
        parts = [
            (channels.POLICY_POSE, target),
            (channels.POLICY_TWIST, moving),
            (channels.POLICY_GRIPPER, gripper),
            (channels.POLICY_PROVENANCE, Provenance(instruction_hash(served), t_obs_ns)),
        ]
        return [self._sample(name, value, stamp_ns) for name, value in parts if self.random.random() > 0.02]

    def _target(self) -> tuple[Pose, Twist]:
        near = self.state.motion.pose if self.state.motion else self.measured
        reach = {"wild": 0.25, "far": 2.0}.get(self.policy, 0.1)
        away = self._vector(1.0) if self.policy == "wild" else self.heading.linear + self._vector(0.01)
        position = near.position + reach * self.random.random() * away / np.linalg.norm(away)
        turn = from_rotation_vector(self._vector(0.2) if self.policy == "wild" else 0.05 * self.heading.angular)
        target = Pose(position, multiply(turn, near.quaternion))
        if self.policy == "broken":
            broken = target.position * self.random.choice([np.nan, np.inf, 1e300])
            target = replace(target, position=broken)
        moving = difference(near, target, 0.2) if self.policy != "broken" else Twist(away * 1e9, away * 1e200)
        return target, moving

    def _teleop_samples(self) -> list[Sample[Any]]:
        if self.deadman is None:
            return []
        samples = [self._sample(channels.TELEOP_DEADMAN, self.deadman)]
        if self.teleop_kind == "twist":
            wish = Twist(self._vector(2.0), self._vector(3.0)) if self.policy == "wild" else self.heading
            samples.append(self._sample(channels.TELEOP_TWIST, wish, self.ros_ns))
        elif self.teleop_kind == "pose":
            target = Pose(self.measured.position + self._vector(0.15), self.measured.quaternion)
            samples.append(self._sample(channels.TELEOP_POSE, target, self.ros_ns))
        samples.append(self._sample(channels.TELEOP_GRIPPER, float(self.random.random()), self.ros_ns))
        return samples

    def _vector(self, size: float) -> FloatArray:
        return np.asarray(self.random.uniform(-size, size, 3))
