"""The policy's tick among cameras, clocks, instructions and a worker that misbehave at random."""

from __future__ import annotations

import numpy as np
import pytest
from builders import INSTRUCTION, pose
from policy_bench import VIEWS, PolicyBench, rows, with_camera

from vla_ros.control import channels
from vla_ros.types import Frame, WorkerDied, instruction_hash, is_hold

WORDS = (INSTRUCTION, INSTRUCTION, "push the button", "stop", " ")


class PolicyWorld:
    """A bench, and what may happen to it. Events are methods; each tick checks what must always hold."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.bench = PolicyBench(with_camera("top", required=False))
        self.said, self.is_dead, self.ros_s = "", False, 0.0125
        self.outputs = 0
        self.say()

    def say(self) -> None:
        self.said = str(self.random.choice(WORDS))
        self.bench.say(self.said)

    def answer(self) -> None:
        if self.bench.requests:
            made = rows(int(self.random.integers(2, 40)))
            if self.random.random() < 0.3:
                made[self.random.integers(len(made)), self.random.integers(14)] = self.random.choice(
                    [np.nan, -np.inf, 1e300, 2.0, -7.0]
                )
            late_ns = int(self.random.choice([0, 0, 0, 1, -(10**9)]))
            dt_s = float(self.random.choice([0.1, 0.1, 0.0125, 0.0, -1.0, np.inf, 1e-12]))
            self.bench.reply(made, self.bench.observation.t_obs_ns + late_ns, dt_s)

    def answer_well(self) -> None:
        if self.bench.requests:
            self.bench.reply(rows(30))

    def fail(self) -> None:
        if self.bench.requests:
            self.bench.fail()

    def die(self) -> None:
        if self.random.random() < 0.02:
            self.is_dead = True
            self.bench.answer(WorkerDied("killed"))

    def cameras(self) -> None:
        self.bench.cameras = [view for view in VIEWS if self.random.random() < 0.9]
        self.bench.frozen = [view for view in VIEWS if self.random.random() < 0.1]
        self.bench.camera_delay_s = {view: float(self.random.choice([0.0, 0.05, 0.3])) for view in VIEWS}

    def broken_frame(self) -> None:
        broken = Frame(np.frombuffer(b"\xff\xd8\xff", np.uint8), "jpeg")
        self.bench.hear(channels.camera("front"), broken, self.bench.ros_ns + 1)

    def feedback(self) -> None:
        named = (channels.EE_POSE, channels.COMMANDED_POSE, channels.JOINT_STATES)
        self.bench.silent = [name for name in named if self.random.random() < 0.05]
        self.bench.position = pose(float(self.random.uniform(-0.2, 0.2))).position

    def clock(self) -> None:
        self.ros_s = float(self.random.choice([0.0125, 0.0125, 0.0125, 0.0, 0.006]))

    def jump_back(self) -> None:
        if self.random.random() < 0.2:
            self.bench.tick(ros_s=-float(self.random.uniform(0.0, 2.0)))
            self.said = ""
            self.say()

    def world_reset(self) -> None:
        if self.random.random() < 0.2:
            self.bench.hear(channels.SIM_RESET, None)

    def tick(self) -> None:
        was_pending, asked = self.bench.state.pending, len(self.bench.requests)
        answered = any(sample.channel == channels.WORKER for sample in self.bench.inputs)
        result = self.bench.tick(ros_s=self.ros_s)  # which checks that the trace is JSON
        if len(self.bench.requests) > asked:
            assert (was_pending is None or answered) and not is_hold(self.said) and not self.is_dead
        if result.output is None:
            assert result.status.text.startswith("silent: ")
            return
        self.outputs += 1
        target, provenance = result.output.target, result.output.provenance
        assert not is_hold(self.said) and provenance.instruction_hash == instruction_hash(self.said)
        assert not self.is_dead and provenance.t_obs_ns <= result.output.stamp_ns == self.bench.ros_ns
        assert np.isfinite(target.pose.position).all() and np.isfinite(target.twist.linear).all()
        assert abs(np.linalg.norm(target.pose.quaternion) - 1.0) < 1e-6 and 0.0 <= target.gripper <= 1.0


EVENTS = (
    "say", "answer", "fail", "die", "cameras", "broken_frame", "feedback", "clock", "jump_back", "world_reset",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_only_a_sound_chunk_for_the_given_instruction_is_followed(seed: int) -> None:
    world = PolicyWorld(seed)
    random = np.random.default_rng((99, seed))
    for _ in range(600):
        if random.random() < 0.1:
            getattr(world, str(random.choice(EVENTS)))()
        elif random.random() < 0.15:
            world.answer_well()
        world.tick()
    assert world.outputs > 0
