"""What the loop costs the oracle: its success over ROS, between processes, with cameras and limits, beside the same
episodes on the bare robot and through the decision path in one process.

Meta-World's experts on variations of the test split, which are in no training set. An episode ends with success or
after 500 steps of 12.5 ms, as Meta-World's do. Each is written to episodes.jsonl as it ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from metaworld.env_dict import MT10_V3

from bench.episodes import MIN_REALTIME, WAYS, EpisodeLog, Measured, Way, realtime_factor, summary
from bench.in_process import MAX_STEPS, Job, run_jobs
from bench.options import Options
from bench.report import Bar, conclude
from vla_ros.bringup import BringUp, node_processes
from vla_ros.errors import VlaRosError
from vla_ros.learning.evaluation.statistics import Paired, Rate
from vla_ros.learning.evaluation.suites import MT50
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.policy.sentences import load_sentences
from vla_ros.ros.sim_client import SimClient, Told
from vla_ros.ros.talk import Graph
from vla_ros.supervise import running

_UP_TIMEOUT_S = 120.0
_MIN_SUCCESS = 0.95
_TITLES: dict[Way, str] = {
    "bare": "bare robot, no limits",
    "in process": "decision path in one process, contract's limits",
    "ros": "over ROS between processes, contract's limits",
}


def run(options: Options) -> bool:
    """Measure, or go on with what was cut short, print all of it, and return whether the bars are met."""
    tasks = _tasks(options.tasks)
    variations = tuple(f"test:{index}" for index in range(options.variations))
    ways = WAYS if options.with_ros else WAYS[:2]
    wanted = [(way, task, name) for way in ways for task in tasks for name in variations]
    log = EpisodeLog(options.output / "episodes.jsonl", options.contract, wanted, options.fresh)
    print(f"oracle: {len(tasks)} tasks x {len(variations)} unseen variations", flush=True)
    if len(log):
        print(f"  going on behind {log.origin()}; --fresh measures all again", flush=True)
    jobs = [
        Job(way, task, missing)
        for way in WAYS[:2]
        for task in tasks
        if (missing := tuple(name for name in variations if (way, task, name) not in log))
    ]
    for job, episodes in zip(jobs, run_jobs(jobs, options.contract) if jobs else (), strict=True):
        for episode in episodes:
            log.add(episode)
        print(f"  {job.way:10} {job.task:24} {summary(episodes)}", flush=True)
    if options.with_ros:
        todo = [(task, name) for task in tasks for name in variations if ("ros", task, name) not in log]
        _run_over_ros(todo, log, options)
    return _report(options, log, tasks, variations)


def _tasks(asked: Sequence[str]) -> tuple[str, ...]:
    if not asked:
        return tuple(MT10_V3)
    if tuple(asked) == ("all",):
        return MT50
    for task in asked:
        if task not in MT50:
            raise VlaRosError(f"{task!r} is not a task; choose from: all, {', '.join(MT50)}")
    return tuple(asked)


def _run_over_ros(todo: Sequence[tuple[str, str]], log: EpisodeLog, options: Options) -> None:
    """One graph for all episodes. When it breaks, that is said, and what has been measured stays."""
    if not todo:
        return
    plan = BringUp(contract=options.contract, policy="oracle", sim=True, use_sim_time=True)
    try:
        with (
            running(node_processes(plan), options.output / "oracle.log") as supervisor,
            Graph("", _UP_TIMEOUT_S, supervisor.require_alive) as graph,
        ):
            graph.wait_until_up()
            client = SimClient(graph)
            for number, (task, variation) in enumerate(todo, 1):
                episode = _run_episode(client, graph, task, variation)
                log.add(episode)
                verdict = "success" if episode.success else "FAILURE"
                print(
                    f"  {number:3}/{len(todo)} {task:24} {variation:8} {verdict} {summary([episode])[8:]}", flush=True
                )
    except VlaRosError as error:
        print(f"  the graph broke: {error}\n  the same command goes on from here", flush=True)


def _run_episode(client: SimClient, graph: Graph, task: str, variation: str) -> Measured:
    graph.reset()  # a latch in one episode is counted there, and must not end the others
    done = client.run(task, variation, [Told(load_sentences().usual(task))], MAX_STEPS * CONTROL_DT_S)
    return Measured(
        "ros", task, variation, done.success, done.sim_time_s, done.stops, done.latches, done.clips, done.wall_time_s
    )


def _report(options: Options, log: EpisodeLog, tasks: Sequence[str], variations: Sequence[str]) -> bool:
    ways = WAYS if options.with_ros else WAYS[:2]
    results = {way: log.of(way, tasks, variations) for way in ways}
    print(f"  {log.origin()}")
    planned = len(tasks) * len(variations)
    for way, episodes in results.items():
        print(f"  {_TITLES[way]}")
        for task in tasks:
            print(f"    {task:26} {summary([episode for episode in episodes if episode.task == task])}")
        print(f"    {'all':26} {summary(episodes)}")
        if episodes:
            low, high = _rate(episodes).interval
            print(f"    {'95 % interval':26} {low:.1%} to {high:.1%}")
    for first, second in (("bare", "in process"), ("bare", "ros"), ("in process", "ros")):
        if first in results and second in results:
            _print_discordant(first, second, results[first], results[second])
    numbers = {"origin": log.origin(), **_numbers(results)}
    return conclude(options.output, "oracle", numbers, _bars(results, planned))


def _rate(episodes: Sequence[Measured]) -> Rate:
    return Rate(sum(episode.success for episode in episodes), len(episodes))


def _print_discordant(first: str, second: str, ones: Sequence[Measured], others: Sequence[Measured]) -> None:
    """Episodes that went well one way only, and how likely so uneven a split is by chance (McNemar, exact)."""
    outcome = {(episode.task, episode.variation): episode.success for episode in ones}
    pairs = [(episode, outcome.get((episode.task, episode.variation), episode.success)) for episode in others]
    lost = [f"{episode.task} {episode.variation}" for episode, before in pairs if before and not episode.success]
    won = [f"{episode.task} {episode.variation}" for episode, before in pairs if episode.success and not before]
    chance = f"p {Paired(len(pairs), len(lost), len(won)).p:.2f}" if lost or won else "alike"
    print(f"  only {first}: {', '.join(lost) or 'none'}; only {second}: {', '.join(won) or 'none'} ({chance})")


def _bars(results: dict[Way, list[Measured]], planned: int) -> list[Bar]:
    if "ros" not in results:
        return []
    episodes = results["ros"]
    successes = sum(episode.success for episode in episodes)
    return [
        Bar("episodes measured over ROS", len(episodes), planned, "episodes", at_least=True),
        Bar("successes over ROS", successes, math.ceil(_MIN_SUCCESS * planned), "episodes", at_least=True),
        Bar("stops over ROS", _total([episode.stops for episode in episodes]), 0, "stops"),
        Bar("latches over ROS", _total([episode.latches for episode in episodes]), 0, "latches"),
        Bar("real time factor", realtime_factor(episodes), MIN_REALTIME, "of real time", at_least=True),
    ]


def _total(counts: Sequence[int]) -> float:
    """Nothing measured is not zero."""
    return float(sum(counts)) if counts else math.nan


def _numbers(results: dict[Way, list[Measured]]) -> dict[str, object]:
    return {
        way: {
            "successes": sum(episode.success for episode in episodes),
            "episodes": [asdict(episode) for episode in episodes],
            "wilson_95": _rate(episodes).interval if episodes else None,
        }
        for way, episodes in results.items()
    }
