"""evaluate --ros: trials through the live graph, each node in a process of its own, the robot at the wall's time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.bringup import BringUp, node_processes
from vla_ros.policy.metaworld_action import CONTROL_DT_S
from vla_ros.supervise import running

if TYPE_CHECKING:
    from vla_ros.learning.evaluation.log import OutcomeLog
    from vla_ros.learning.evaluation.run import Progress
    from vla_ros.learning.evaluation.subject import Subject
    from vla_ros.learning.evaluation.trials import Outcome, Trial
    from vla_ros.ros.sim_client import Episode

_UP_TIMEOUT_S = 120.0


def run_over_ros(
    subject: Subject, trials: Sequence[Trial], horizon: int, log: OutcomeLog, words: Path, progress: Progress
) -> None:
    """Perform what the log lacks, one after the other in one graph, and write it down. words: what the nodes say.

    Raises VlaRosError: when the graph breaks, what was measured is kept.
    """
    missing = [trial for trial in trials if trial.key not in log]
    if not missing:
        return
    log.begin(log.latency)
    for outcome in progress(_perform(subject, missing, horizon, words), len(missing)):
        log.add(outcome)


def _perform(subject: Subject, trials: Sequence[Trial], horizon: int, words: Path) -> Iterator[Outcome]:
    from vla_ros.ros.runtime import isolate
    from vla_ros.ros.sim_client import SimClient, Told
    from vla_ros.ros.talk import Graph

    os.environ.update(isolate(os.environ))
    options = tuple(f"{name}={value}" for name, value in subject.options.items())
    plan = BringUp(subject.contract, subject.policy, options, sim=True, use_sim_time=True)
    with (
        running(node_processes(plan), words) as supervisor,
        Graph("", _UP_TIMEOUT_S, supervisor.require_alive) as graph,
    ):
        graph.wait_until_up()
        client = SimClient(graph)
        for trial in trials:
            graph.reset()  # a latch in one episode is counted there, and must not end the others
            episode = client.run(trial.task, str(trial.variation), [Told(trial.sentence)], horizon * CONTROL_DT_S)
            yield _outcome(trial, episode)


def _outcome(trial: Trial, episode: Episode) -> Outcome:
    from vla_ros.learning.evaluation.trials import Outcome

    return Outcome.of(
        trial,
        success=episode.success,
        steps=round(episode.sim_time_s / CONTROL_DT_S),
        stops=episode.stops,
        latches=episode.latches,
        clips=dict(episode.clips),
        wall_time_s=episode.wall_time_s,
    )
