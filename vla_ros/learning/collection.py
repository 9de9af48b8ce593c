"""Many demonstrations, in parallel processes, as the columns of one dataset that a run goes on with."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from typing import Any

import numpy as np

from vla_ros.contract import Contract
from vla_ros.data.episode import EpisodeRecord, Fact
from vla_ros.data.schema import IMAGE_PREFIX, Feature, Schema
from vla_ros.errors import LearningError
from vla_ros.learning.collection_plan import Plan
from vla_ros.learning.columns import ACTION, POSE, STATE
from vla_ros.learning.demonstration import Demonstration, Take
from vla_ros.learning.teaching import subtask_names, teaching_of
from vla_ros.lifetime import end_with
from vla_ros.policy.sentences import load_sentences
from vla_ros.sim.simulated import SimulatedRobot
from vla_ros.sim.views import image_size
from vla_ros.types import ACTION_WIDTH

_AHEAD = 4  # takes that are under way for each worker
_KEPT_ROBOTS = 12  # by each worker
_IN_A_ROW = 10


def schema_of(contract: Contract, plan: Plan, is_video: bool) -> Schema:
    """The columns of a plan's demonstrations, seen by the contract's cameras. Raises LearningError, SimError."""
    teaching = teaching_of(contract)
    joints = contract.feedback.joint_states.joints
    width, height = image_size(contract.cameras, contract.cameras)
    picture = Feature("video" if is_video else "image", (height, width, 3))
    state = (*STATE, *joints)
    return Schema(
        robot_type=contract.name,
        fps=teaching.fps,
        features={
            **{f"{IMAGE_PREFIX}{view}": picture for view in contract.cameras},
            "observation.state": Feature("float32", (len(state),), state),
            "observation.environment_state": Feature("float32", (teaching.privileged,)),
            "action": Feature("float32", (ACTION_WIDTH,), ACTION),
            "subtask_index": Feature("int64", (1,)),
            "is_perturbed": Feature("bool", (1,)),
            "label.grasp_pose": Feature("float32", (7,), POSE),
            "label.has_grasp": Feature("bool", (1,)),
            "label.visible": Feature("bool", (len(teaching.things),), teaching.things),
            "next.success": Feature("bool", (1,)),
        },
        facts={
            "metaworld_task": "string",
            "world": "string",
            "variation": "string",
            "success": "bool",
            "seed": "int64",
            "scene": "string",
        },
        subtasks=tuple(sorted({name for task in plan.named for name in subtask_names(task)})),
    )


def facts_of(take: Take) -> dict[str, Fact]:
    """What names a take, and is known before it is done."""
    return {
        "metaworld_task": take.task,
        "world": take.world,
        "variation": str(take.variation),
        "seed": take.seed,
        "scene": json.dumps(asdict(take.scene), sort_keys=True),
    }


def record_of(demonstration: Demonstration, schema: Schema) -> EpisodeRecord:
    """A demonstration as a dataset takes it, with one of the task's sentences."""
    take = demonstration.take
    sentences = load_sentences().training(take.task)
    sentence = sentences[int(np.random.default_rng((take.seed, take.variation.index)).integers(len(sentences)))]
    return EpisodeRecord(
        sentence,
        demonstration.images,
        {
            **demonstration.columns,
            "subtask_index": np.array([schema.subtasks.index(name) for name in demonstration.subtasks]),
        },
        {**facts_of(take), "success": demonstration.success},
    )


def missing(takes: Iterable[Take], there: Iterable[Mapping[str, Fact]]) -> list[Take]:
    """The takes that a dataset does not hold yet."""
    done = {_key(facts) for facts in there}
    return [take for take in takes if _key(facts_of(take)) not in done]


def in_rows(takes: Sequence[Take], kept_for: Callable[[Take], str]) -> list[Take]:
    """The same takes, a few of one world behind each other if there are more worlds than a worker keeps.

    All worlds take turns, so that what there is of a run that was cut short is of all of them. kept_for: of Teaching.
    """
    worlds = len({kept_for(take) for take in takes})
    if worlds <= _KEPT_ROBOTS:
        return list(takes)
    turn = _IN_A_ROW * worlds
    turns = [takes[start : start + turn] for start in range(0, len(takes), turn)]
    return [take for some in turns for take in sorted(some, key=kept_for)]


def perform(takes: Sequence[Take], contract: Contract, workers: int) -> Iterator[Demonstration]:
    """Do them, as `in_rows` has them, on so many processes. Raises SimError, and LearningError if a process dies."""
    waiting = deque[Future[Demonstration]]()
    # Not forked: a fork would share the OpenGL of this process.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_be_modest, initargs=(os.getpid(),)) as pool:
        try:
            for take in in_rows(takes, teaching_of(contract).kept_for):
                waiting.append(pool.submit(_perform_one, take, contract))
                if len(waiting) >= workers * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise LearningError(
                "a process that collects died; is there enough memory? Run it again to go on"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_robots: dict[str, SimulatedRobot] = {}


def _perform_one(take: Take, contract: Contract) -> Demonstration:
    """In a worker. Worlds are kept: building one takes as long as a demonstration."""
    teaching = teaching_of(contract)
    key = teaching.kept_for(take)
    if key not in _robots:
        if len(_robots) >= _KEPT_ROBOTS:
            _robots.pop(next(iter(_robots))).close()
        views = tuple(contract.cameras)
        _robots[key] = teaching.kind.make(take.world, take.variation, views, image_size(contract.cameras, views))
    return teaching.demonstrate(_robots[key], take, contract.limits)


def _be_modest(parent: int) -> None:
    """Whoever works on this machine goes first, Ctrl-C is the main process's to handle, and nobody outlives that."""
    import signal

    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)


def _key(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(facts[name] for name in ("metaworld_task", "world", "variation", "seed", "scene"))


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0))
