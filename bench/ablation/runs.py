"""Training and trying one variant at one seed. What is there already is not done again, whenever it was cut short."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench.ablation.data import fingerprint
from bench.ablation.plan import Plan, recipe_of
from bench.report import write_text
from vla_ros.contract_file import load_contract
from vla_ros.errors import LearningError, PolicyError, VlaRosError
from vla_ros.learning.evaluation.log import OutcomeLog, locked
from vla_ros.learning.evaluation.names import HORIZON
from vla_ros.learning.evaluation.run import Conditions, run_trials
from vla_ros.learning.evaluation.subject import Subject, checkpoint_subject
from vla_ros.learning.evaluation.suites import trials
from vla_ros.learning.evaluation.trials import Key, Outcome
from vla_ros.lifetime import end_with
from vla_ros.policy.registry import create_policy
from vla_ros.policy.sentences import load_sentences

_REFUSED = 2  # the command's exit status for what cannot be done
_POLL_S = 0.5
_one_at_a_time = threading.Lock()
"""Trainings are watched by threads, which must not fork, nor load what a policy needs, at the same time."""

Advance = Callable[[float], None]
"""Told how many more steps, or episodes, are done."""


class Refused(VlaRosError):
    """A variant that this version cannot train or run, and why."""


@dataclass(frozen=True)
class Training:
    """recipe: the whole of it, as plain types; folder: of its results, named by all that it depends on, the data
    too.
    """

    recipe: Mapping[str, Any]
    folder: Path

    @classmethod
    def of(cls, plan: Plan, base: Mapping[str, Any], variant: str, seed: int, root: Path) -> Training:
        """base: the plan's recipe; variant: one that has a training of its own. Raises VlaRosError without the data."""
        recipe = {**recipe_of(plan, base, variant), "seed": seed}
        data = [fingerprint(folder) for folder in recipe["data"]]
        text = json.dumps([recipe, data], sort_keys=True)
        name = f"{variant.replace(' ', '-')}-seed{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return cls(recipe, root / name)

    @property
    def steps(self) -> int:
        """How many it takes."""
        return int(self.recipe["steps"])

    @property
    def checkpoint(self) -> Path:
        """What is tried."""
        return self.folder / "last"

    @property
    def is_done(self) -> bool:
        """Whether it has gone to its end."""
        record = self.checkpoint / "training.json"
        return record.is_file() and json.loads(record.read_text(encoding="utf-8"))["step"] == self.steps

    @property
    def steps_done(self) -> int:
        """As far as what a resume needs is written."""
        return max((int(path.name.partition("-")[2]) for path in (self.folder / "state").glob("step-*")), default=0)

    def run(self, threads: int, advance: Advance) -> None:
        """The one command, as a user gives it, with so many threads; what it says is in train.log.

        Raises Refused, VlaRosError, and whatever `advance` does, which ends it.
        """
        if self.is_done:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path, log = self.folder / "recipe.yaml", self.folder / "train.log"
        write_text(path, yaml.safe_dump(dict(self.recipe)))
        command = [sys.executable, "-m", "vla_ros.cli", "train", str(path), "--output", str(self.folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with log.open("w", encoding="utf-8") as said:
            # It must not go on by itself, beside the one that a second run of this would start.
            ends = partial(end_with, os.getpid())
            with _one_at_a_time:
                process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, preexec_fn=ends)
            status = self._watched(process, advance)
        if status == 0:
            return
        text = log.read_text(encoding="utf-8", errors="replace")
        reason = text.rpartition("error: ")[2].strip() or f"status {status}"
        if status == _REFUSED:
            raise Refused(reason)
        raise VlaRosError(f"a training failed ({reason.splitlines()[-1]}); see {log}")

    def _watched(self, process: subprocess.Popen[bytes], advance: Advance) -> int:
        known = self.steps_done
        try:
            while process.poll() is None:
                time.sleep(_POLL_S)
                done = max(known, self.steps_done)
                advance(done - known)
                known = done
            advance(self.steps_done - known)
            return process.returncode
        finally:
            process.terminate()
            process.wait()


def tried(plan: Plan, variant: str, training: Training, advance: Advance) -> dict[Key, bool]:
    """Each trial of the plan, and whether it succeeded.

    Raises Refused for options that this version does not take, LearningError for what goes wrong in a trial.
    """
    wanted = trials(plan.suite, plan.tasks_of(variant), load_sentences(), plan.episodes)
    conditions = Conditions(HORIZON, plan.latency_s)

    def told(outcomes: Iterable[Outcome], _: int) -> Iterator[Outcome]:
        for outcome in outcomes:
            yield outcome
            advance(1)

    subject = _subject(training.checkpoint, plan.variants[variant].options)
    with locked(folder := training.folder / "trials"):
        log = OutcomeLog(folder, {**subject.identity(), **conditions.identity()})
        advance(sum(trial.key in log for trial in wanted))
        run_trials(subject, wanted, conditions, 1, log, told, _unheard)
    outcomes = {outcome.key: outcome.success for outcome in log.outcomes}
    return {trial.key: outcomes[trial.key] for trial in wanted}


def _subject(checkpoint: Path, options: Mapping[str, str]) -> Subject:
    """The policy is loaded once, to know before the first trial. Raises Refused for options that it does not take."""
    try:
        subject = checkpoint_subject(checkpoint, options)
        with _one_at_a_time:
            create_policy(subject.policy, load_contract(subject.contract), subject.worker_options)
    except (LearningError, PolicyError) as error:
        raise Refused(str(error)) from error
    return subject


def _unheard(_: str) -> None:
    """The bar says enough."""
