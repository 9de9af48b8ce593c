"""The guard in a hostile world: random programs, checked tick by tick. `--steps` sets how many ticks they run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import pose_contract, twist_contract, with_required_emergency_stop
from guard_world import EVENTS, GuardWorld
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from vla_ros.contract import Contract, JointLimit
from vla_ros.control.arbiter import Source

TICKS_PER_PROGRAM = 1000


def _exact_stop(contract: Contract) -> Contract:
    """Stops take all of the time that they may take, and the gripper is slow."""
    limits = contract.limits
    speed, turning = limits.max_linear_velocity_m_s, limits.max_angular_velocity_rad_s
    limits = replace(
        limits,
        max_linear_acceleration_m_s2=speed / contract.stop_time_s,
        max_angular_acceleration_rad_s2=turning / contract.stop_time_s,
    )
    return replace(contract, limits=limits, gripper=replace(contract.gripper, max_rate_per_s=2.0))


def _jointed(contract: Contract) -> Contract:
    """Some of its joints have a range, and a margin before its ends."""
    joints = dict.fromkeys(("right_j0", "right_j1"), JointLimit(-1.0, 1.0))
    return replace(contract, limits=replace(contract.limits, joints=joints, joint_margin=0.1))


CONTRACTS = {
    "pose": pose_contract(),
    "twist": twist_contract(),
    "pose, gentle": _exact_stop(pose_contract()),
    "twist, gentle": _exact_stop(twist_contract()),
    "pose, required emergency stop": with_required_emergency_stop(),
    "pose, joints": _jointed(pose_contract()),
    "twist, joints": _jointed(twist_contract()),
    "pose, shadow": pose_contract(),
}


def _world(kind: str, seed: int) -> GuardWorld:
    return GuardWorld(CONTRACTS[kind], seed, shadow=kind.endswith("shadow"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", CONTRACTS)
def test_no_program_leads_out_of_the_limits(kind: str, request: pytest.FixtureRequest) -> None:
    steps = int(request.config.getoption("steps", 100_000)) // len(CONTRACTS) + 1
    seen = dict.fromkeys(Source, 0)
    moved = latched = stopped = at_joint_limit = 0
    for program in range(-(-steps // TICKS_PER_PROGRAM)):
        world = _world(kind, program)
        _run(world, np.random.default_rng((list(CONTRACTS).index(kind), program)))
        checks = world.invariants
        seen = {source: seen[source] + checks.seen[source] for source in seen}
        moved, latched, stopped = moved + checks.moved, latched + checks.latched, stopped + checks.stopped
        at_joint_limit += checks.at_joint_limit
    # A world in which nothing happens would prove nothing.
    ticks = sum(seen.values())
    assert seen[Source.POLICY] > ticks / 50 and seen[Source.TELEOP] > ticks / 50
    assert latched > ticks / 2000 and stopped > ticks / 1000
    assert at_joint_limit > ticks / 500 or not kind.endswith("joints")
    assert moved > ticks / 20 or kind.endswith("shadow")


def _run(world: GuardWorld, random: np.random.Generator) -> None:
    """Events come in bursts of one to a few, now and then, so that motion builds up between them."""
    world.happen("say_again")
    world.happen("arm")
    for tick in range(TICKS_PER_PROGRAM):
        if random.random() < 0.06:
            for event in random.choice(EVENTS, size=random.integers(1, 4)):
                world.happen(str(event))
        try:
            world.step()
        except AssertionError as error:
            raise AssertionError(f"in tick {tick} of this program: {error}") from error


@settings(max_examples=30, stateful_step_count=40)
class HostileWorld(RuleBasedStateMachine):
    """The same world, its program chosen and shrunk by hypothesis."""

    @initialize(kind=st.sampled_from(sorted(CONTRACTS)), seed=st.integers(0, 2**16))
    def begin(self, kind: str, seed: int) -> None:
        self.world = _world(kind, seed)
        self.world.happen("say_again")
        self.world.happen("arm")

    @rule(event=st.sampled_from(sorted(set(EVENTS))), ticks=st.sampled_from([0, 1, 2, 12]))
    def happen(self, event: str, ticks: int) -> None:
        self.world.happen(event)
        for _ in range(ticks):
            self.world.step()


TestHostileWorld = HostileWorld.TestCase
