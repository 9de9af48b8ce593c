"""Thinking before acting: a plan for the decoder to work from, and a choice among several chunks by what they lead to.

Shapes: B samples, C candidates, H rows, D width, F width of a sight. Choosing among sampled actions by a model of what
they lead to is planning by random shooting (Nagabandi et al., "Neural network dynamics for model-based deep RL", 2018);
here what is sampled are a flow decoder's chunks, which are all of the data's kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.chunk_decoder import Memory, Prefix
from vla_ros.model.config import VLAConfig
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.meddling import Meddling
from vla_ros.model.planner import GoalPredictor, Plan, TaskPlanner
from vla_ros.model.refiner import ActionRefiner
from vla_ros.model.sight import Sight, SightLayout
from vla_ros.model.surprise import PARTS, Calibration
from vla_ros.model.usual import Usual
from vla_ros.model.value import ValueEstimator
from vla_ros.model.world_model import WorldModel, controls

Draw = Callable[[Memory, Prefix | None], Tensor]
"""Samples one chunk for every sample of a memory. -> (B, H, 14)"""


@dataclass(frozen=True)
class Thinking:
    """How much a trained network thinks; nothing here is learned.

    candidates: chunks to choose the best of; refine: whether that is corrected; plan: whether the decoder is told the
    plan. None of it is done where the network lacks the parts.
    """

    candidates: int = 1
    refine: bool = False
    plan: bool = True

    @property
    def acts_at_once(self) -> bool:
        """Whether the decoder's first chunk is the answer."""
        return self.candidates == 1 and not self.refine


AT_ONCE = Thinking()


@dataclass(frozen=True, eq=False)
class PlannedTask:
    """plan: what is to be done from now on. features: (B, L, D), of its steps, for the decoder; proposals: (B, L, 14),
    an action for each step, normalised.
    """

    plan: Plan
    features: Tensor
    proposals: Tensor


@dataclass(frozen=True, eq=False)
class PlanLesson:
    """What a planner learns from. plan: with done steps, (B,) long, in front. proposals: (B, L, 14) physical.

    goal: the last frames of the same episodes. Where there is nothing to learn the plan has no steps, and one is done.
    """

    plan: Plan
    done: Tensor
    proposals: Tensor
    goal: ModelInputs

    @property
    def counts(self) -> Tensor:
        """1 where there is something to learn, else 0. -> (B,)"""
        return (self.plan.length > 0).float()

    def to(self, device: torch.device) -> PlanLesson:
        """The same on a device."""
        return PlanLesson(self.plan.to(device), self.done.to(device), self.proposals.to(device), self.goal.to(device))


@dataclass(frozen=True, eq=False)
class OutcomeLesson:
    """What came of it. later: what was seen one row later; counts: (B,), 0 where nothing was.

    success: (B,) bool, how the episode ended; known: (B,), 0 where nobody knows.
    """

    later: ModelInputs
    counts: Tensor
    success: Tensor
    known: Tensor

    def to(self, device: torch.device) -> OutcomeLesson:
        """The same on a device."""
        return OutcomeLesson(
            self.later.to(device), self.counts.to(device), self.success.to(device), self.known.to(device)
        )


@dataclass(frozen=True)
class Lessons:
    """What a batch teaches the parts that reason; None for what it does not, or where there is no such part."""

    plan: PlanLesson | None = None
    outcome: OutcomeLesson | None = None

    @property
    def begun(self) -> Plan | None:
        """What is done of the plans, and told."""
        return None if self.plan is None else self.plan.plan.begun(self.plan.done)

    def to(self, device: torch.device) -> Lessons:
        """The same on a device."""
        return Lessons(
            None if self.plan is None else self.plan.to(device),
            None if self.outcome is None else self.outcome.to(device),
        )


NO_LESSONS = Lessons()


class VLAReasoningModule(nn.Module):
    """The parts that a configuration asks for; without weights where it asks for none."""

    surprise_scales: Tensor
    surprise_threshold: Tensor

    def __init__(self, config: VLAConfig) -> None:
        """Raises ModelError for a planner without a vocabulary."""
        super().__init__()
        width = config.width
        self.planner = TaskPlanner(config.subtasks, width, config.heads, config.dropout) if config.plans else None
        self.goal = GoalPredictor(width) if config.plans else None
        self.layout = SightLayout.of(config)
        seen = self.layout.size
        self.world_model = WorldModel(seen) if config.foresees else None
        self.value = ValueEstimator(seen) if config.foresees else None
        self.refiner = ActionRefiner(config.decoder.horizon, width) if config.foresees else None
        self.usual_miss = Usual(seen) if config.foresees else None
        self.usual_view = Usual(len(config.views) * width) if config.foresees else None
        self.meddling = Meddling(config.places) if config.foresees and config.places else None
        if config.foresees:  # saved with the weights, on whose errors they were measured
            self.register_buffer("surprise_scales", torch.ones(len(PARTS)))
            self.register_buffer("surprise_threshold", torch.tensor(math.inf))

    @property
    def calibration(self) -> Calibration:
        """Of surprise; nothing is an alarm before there was one. Raises ModelError without a world model."""
        self._foresight()
        return Calibration(tuple(self.surprise_scales.tolist()), float(self.surprise_threshold))

    @calibration.setter
    def calibration(self, calibration: Calibration) -> None:
        self._foresight()
        self.surprise_scales.copy_(torch.tensor(calibration.scales))
        self.surprise_threshold.fill_(calibration.threshold)

    def plan(self, language: Tensor, features: Tensor, begun: Plan | None = None) -> PlannedTask | None:
        """What is to be done, by what is said and seen, (B, D) each; None without a planner.

        begun: what stays of an earlier plan. The plan itself passes no gradient, the features of its steps do.
        """
        if self.planner is None or self.goal is None:
            return None
        goal = self.goal(language)
        plan = self.planner.write(goal, features, begun)
        reading = self.planner(goal, features, plan)
        return PlannedTask(plan, reading.features, reading.proposals)

    def forward(
        self,
        memory: Memory,
        seen: Tensor,
        prefix: Prefix | None,
        draw: Draw,
        statistics: ActionStatistics,
        thinking: Thinking,
    ) -> Tensor:
        """Draw candidates, foresee, choose, refine. Committed rows stay as they are. seen: (B, F). -> (B, H, 14)

        Raises ModelError where the network lacks what is asked for.
        """
        if thinking.candidates == 1:
            rows = draw(memory, prefix)
        else:
            rows = self._best(memory, seen, prefix, draw, statistics, thinking.candidates)
        if not thinking.refine:
            return rows
        _, _, refiner = self._foresight()
        refined: Tensor = refiner(memory.pooled, rows, statistics)
        return refined if prefix is None else prefix.continued_by(refined)

    def foresee(self, seen: Tensor, rows: Tensor, statistics: ActionStatistics) -> tuple[Tensor, Tensor]:
        """Where each chunk leads to, and the log odds that this is a success. seen: (B, F); rows: (B, H, 14).

        -> (B, H, F), after each row; (B,). Raises ModelError without a world model.
        """
        world_model, value, _ = self._foresight()
        foretold = world_model(seen, controls(rows, statistics))
        return foretold, value(foretold[:, -1])

    def missed(self, before: Tensor, rows: Tensor, now: Tensor, statistics: ActionStatistics) -> Tensor:
        """What was not foretold. before, now: (B, F); rows: (B, n, 14), carried out between them. -> (B, F)

        Raises ModelError without a world model.
        """
        foretold, _ = self.foresee(before, rows, statistics)
        missed: Tensor = now - foretold[:, -1]
        return missed

    def errors(self, miss: Tensor, now: Tensor, glimpses: Tensor) -> tuple[float, ...]:
        """Of surprise.PARTS. miss: (F,), what was not foretold of now: (F,), what is seen.

        glimpses: (n, G), of the last looks, the newest last; a network without places makes nothing of them. Raises
        ModelError without a world model.
        """
        self._foresight()
        assert self.usual_miss is not None and self.usual_view is not None
        unforeseen, unfamiliar = self.usual_miss.distance(miss), self.usual_view.distance(now[self.layout.seen])
        meddled = 0.0 if self.meddling is None else self.meddling(glimpses)
        return float(unforeseen), float(unfamiliar), float(meddled)

    def plan_losses(
        self, language: Tensor, features: Tensor, goal: Tensor, lesson: PlanLesson, statistics: ActionStatistics
    ) -> tuple[Tensor, Tensor]:
        """language, features, and of the lesson's goal: (B, D) each. -> of the plan, written towards the true goal, and
        of the goal that is predicted. Raises ModelError without a planner.
        """
        if self.planner is None or self.goal is None:
            raise ModelError("this network cannot plan; choose reasoning: plan or all")
        proposals = statistics.normalise(lesson.proposals)
        plan = self.planner.loss(goal.detach(), features, lesson.plan, lesson.done, proposals)
        return plan, self.goal.loss(language, goal, lesson.counts)

    def outcome_losses(
        self, seen: Sight, later: Sight, rows: Tensor, lesson: OutcomeLesson, statistics: ActionStatistics
    ) -> tuple[Tensor, Tensor]:
        """seen, and what was seen one row later; rows: (B, H, 14), of which the first was carried out.

        -> of the world model and of the value. Raises ModelError without them.
        """
        world_model, value, _ = self._foresight()
        counts = lesson.counts * seen.is_complete * later.is_complete  # (B,)
        both = torch.stack((seen.features, later.features), dim=1)  # (B, 2, F)
        foresight = world_model.loss(both, controls(rows[:, :1], statistics), counts.unsqueeze(1))
        return foresight, value.loss(seen.features, lesson.success, lesson.known)

    def refinement_loss(
        self, features: Tensor, drawn: Tensor, target: Tensor, weights: Tensor | None, statistics: ActionStatistics
    ) -> Tensor:
        """drawn, target: (B, H, 14); weights: (B, H). -> (). Raises ModelError without a refiner."""
        _, _, refiner = self._foresight()
        return refiner.loss(features, drawn, target, statistics, weights)

    def _foresight(self) -> tuple[WorldModel, ValueEstimator, ActionRefiner]:
        if self.world_model is None or self.value is None or self.refiner is None:
            raise ModelError("this network cannot foresee; choose reasoning: foresee or all")
        return self.world_model, self.value, self.refiner

    def _best(
        self, memory: Memory, seen: Tensor, prefix: Prefix | None, draw: Draw, statistics: ActionStatistics, count: int
    ) -> Tensor:
        many = Memory(*(_repeated(part, count) for part in (memory.tokens, memory.mask, memory.pooled)))
        begun = None if prefix is None else Prefix(_repeated(prefix.rows, count), _repeated(prefix.length, count))
        rows = draw(many, begun)  # (B * C, H, 14)
        _, values = self.foresee(_repeated(seen, count), rows, statistics)
        best = values.reshape(-1, count).argmax(dim=1)  # (B,)
        first = count * torch.arange(len(best), device=best.device)
        return rows[first + best]


def _repeated(part: Tensor, count: int) -> Tensor:
    """Every sample so often, one after the other. (B, ...) -> (B * C, ...)"""
    return part.repeat_interleave(count, dim=0)
