"""Episodes without ROS: the oracle on the bare robot, and behind the policy's and the guard's tick in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from bench.episodes import Measured, Way
from vla_ros.contract_file import load_contract
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.oracle import create
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.episode import run_direct, run_episode
from vla_ros.sim.robot import SimRobot
from vla_ros.sim.variations import parse

MAX_STEPS = 500
_PROCESSES = 2


@dataclass(frozen=True)
class Job:
    """Variations of one task, to be run in one way: "bare" or "in process"."""

    way: Way
    task: str
    variations: tuple[str, ...]


def run_jobs(jobs: Sequence[Job], contract: Path) -> Iterator[list[Measured]]:
    """The episodes of each job, in order; two jobs at a time, each in a process of its own."""
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_run_job, jobs, [contract] * len(jobs))


def _run_job(job: Job, contract_path: Path) -> list[Measured]:
    contract = load_contract(contract_path)
    policy = create(contract, {})
    instruction = load_sentences().usual(job.task)
    episodes = []
    with SimRobot(job.task) as robot:
        for variation in job.variations:
            robot.reset(job.task, parse(variation))
            if job.way == "bare":
                result = run_direct(robot, policy, instruction, MAX_STEPS)
            else:
                result = run_episode(robot, policy, contract, instruction, MAX_STEPS)
            sim_time_s = result.steps * CONTROL_DT_S
            acted = (result.stops, result.latches, result.clips)
            episodes.append(Measured(job.way, job.task, variation, result.success, sim_time_s, *acted))
    return episodes
