"""A policy side whose time is data: cameras, feedback, and a worker that answers when it is told to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from builders import HOME, INSTRUCTION, UPRIGHT, pose_contract

from vla_ros.contract import Contract
from vla_ros.control import channels
from vla_ros.control.policy_report import PolicyResult
from vla_ros.control.policy_state import PolicyConfig, PolicyReason, PolicyState
from vla_ros.control.policy_tick import policy_tick
from vla_ros.types import (
    NS_PER_S,
    Chunk,
    ChunkReply,
    FailureReply,
    FloatArray,
    Frame,
    JointState,
    Needs,
    Now,
    Observation,
    Pose,
    Request,
    Sample,
    WorkerReply,
)

ROW_DT_S = 0.1
VIEWS = ("front", "wrist", "top")


def rows(count: int = 11, speed_m_s: float = 0.1, gripper: float = 0.5) -> FloatArray:
    """Rows that move along x from HOME, ROW_DT_S apart. -> (count, 14)."""
    made = np.zeros((count, 14))
    made[:, 0:3], made[:, 3:7], made[:, 7], made[:, 13] = HOME, UPRIGHT, speed_m_s, gripper
    made[:, 0] += speed_m_s * ROW_DT_S * np.arange(count)
    return made


def with_camera(view: str, **changes: Any) -> Contract:
    """The pose contract with one camera different."""
    contract = pose_contract()
    return replace(contract, cameras={**contract.cameras, view: replace(contract.cameras[view], **changes)})


class PolicyBench:
    """Ticks at the contract's rate. Cameras give new pixels at their rates unless frozen or off."""

    def __init__(self, contract: Contract | None = None, needs: Needs | None = None) -> None:
        self.config = PolicyConfig(contract or pose_contract(), needs or Needs(VIEWS))
        self.state = PolicyState()
        self.ros_ns, self.steady_ns = 2_000 * NS_PER_S, 3 * NS_PER_S
        self.position = HOME
        self.cameras = list(self.config.needs.views)
        self.frozen: list[str] = []
        self.camera_delay_s: dict[str, float] = {}
        self.silent: list[str] = []
        self.inputs: list[Sample[Any]] = []
        self.requests: list[Request] = []
        self.last: PolicyResult | None = None
        self._ticks = 0
        self._due: list[tuple[int, Sample[Any]]] = []
        self._pixels = dict.fromkeys(self.cameras, 0)

    @property
    def now(self) -> Now:
        """The present instant."""
        return Now(self.ros_ns, self.steady_ns)

    @property
    def period_s(self) -> float:
        """One tick [s]."""
        return 1.0 / self.config.contract.rates.policy_hz

    def hear(self, channel: str, value: Any, stamp_ns: int | None = None) -> PolicyBench:
        """Let a sample arrive before the next tick."""
        self.inputs.append(Sample(channel, value, stamp_ns, self.steady_ns))
        return self

    def say(self, instruction: str = INSTRUCTION) -> PolicyBench:
        """Give an instruction."""
        return self.hear(channels.COMMAND, instruction)

    def reply(self, made: FloatArray | None = None, t_obs_ns: int | None = None, dt_s: float = ROW_DT_S) -> PolicyBench:
        """Let the worker answer the newest request."""
        t_obs_ns = self.observation.t_obs_ns if t_obs_ns is None else t_obs_ns
        chunk = Chunk(t_obs_ns, dt_s, rows() if made is None else made)
        return self.answer(ChunkReply(self.requests[-1].id, b"asked", 1, 2, chunk, 0.01))

    def fail(self, text: str = "out of memory") -> PolicyBench:
        """Let the worker say that the policy raised."""
        return self.answer(FailureReply(self.requests[-1].id, b"asked", 1, 2, text))

    def answer(self, reply: WorkerReply) -> PolicyBench:
        """Let the worker say something."""
        return self.hear(channels.WORKER, reply)

    def tick(self, ros_s: float | None = None) -> PolicyResult:
        """One tick later, with what sensors gave meanwhile."""
        self.steady_ns += round(self.period_s * NS_PER_S)
        self.ros_ns += round((self.period_s if ros_s is None else ros_s) * NS_PER_S)
        self._sense()
        self.last = policy_tick(self.state, self.inputs, self.now, self.config)
        json.dumps(self.last.trace, allow_nan=False)
        self.inputs, self.state = [], self.last.state
        if self.last.request is not None:
            self.requests.append(self.last.request)
        self._ticks += 1
        return self.last

    def run(self, seconds: float) -> list[PolicyResult]:
        """Tick for a while."""
        return [self.tick() for _ in range(round(seconds / self.period_s))]

    def asked(self) -> PolicyBench:
        """Seeing, told what to do, and with a request in flight."""
        self.say().tick()
        assert self.requests, self.last and self.last.status.text
        return self

    def commanding(self) -> PolicyBench:
        """Following a first chunk."""
        self.asked().reply().tick()
        assert self.result.output is not None, self.result.status.text
        return self

    @property
    def observation(self) -> Observation:
        """What the worker was asked about last."""
        return self.requests[-1].observation

    @property
    def result(self) -> PolicyResult:
        """The last tick's result."""
        assert self.last is not None
        return self.last

    @property
    def reason(self) -> PolicyReason:
        """Why it is silent."""
        return self.result.status.reason

    def _sense(self) -> None:
        measured = Pose(self.position, UPRIGHT)
        joints = JointState(self.config.contract.feedback.joint_states.joints, np.arange(9.0))
        sensed: list[tuple[str, Any]] = [
            (channels.EE_POSE, measured),
            (channels.COMMANDED_POSE, measured),
            (channels.JOINT_STATES, joints),
            (channels.PRIVILEGED, np.arange(5.0)),
        ]
        self.inputs += [Sample(n, v, self.ros_ns, self.steady_ns) for n, v in sensed if n not in self.silent]
        for view in self.cameras:
            every = round(self.config.contract.rates.policy_hz / self.config.contract.cameras[view].rate_hz)
            if self._ticks % every == 0:
                self._shoot(view)
        arrived = [sample for due_ns, sample in self._due if due_ns <= self.ros_ns]
        self._due = [(due_ns, sample) for due_ns, sample in self._due if due_ns > self.ros_ns]
        self.inputs += [replace(sample, received_ns=self.steady_ns) for sample in arrived]

    def _shoot(self, view: str) -> None:
        self._pixels[view] += view not in self.frozen
        pixels = np.full((2, 2, 3), self._pixels[view] % 256, np.uint8)
        due_ns = self.ros_ns + round(self.camera_delay_s.get(view, 0.0) * NS_PER_S)
        self._due.append((due_ns, Sample(channels.camera(view), Frame(pixels, "rgb8"), self.ros_ns, 0)))
