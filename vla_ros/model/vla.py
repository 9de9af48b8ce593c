"""The whole network: see, read, fuse, act.

    frames -> MultiViewVisionEncoder      -> view tokens     \\
    state  -> ActionEncoder               -> state token      > HierarchicalFusion -> memory -> reasoning -> decoder
    words  -> HierarchicalLanguageEncoder -> language tokens /   with earlier instants          -> rows (B, H, 14)

Rows are relative to the pose commanded at the instant of the frames (relative.py). Shapes: B samples, V views, N view
tokens, L words, S sentences, T earlier instants, D width, H rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vla_ros.errors import ModelError
from vla_ros.model.actions import ActionEncoder, ActionStatistics
from vla_ros.model.alignment import AlignmentHead
from vla_ros.model.chunk_decoder import Memory, Prefix
from vla_ros.model.config import VLAConfig
from vla_ros.model.fusion import FusedFeatures, HierarchicalFusion
from vla_ros.model.grounding import GroundingHead, grounding_loss
from vla_ros.model.inputs import ModelInputs, build_inputs
from vla_ros.model.language import HierarchicalLanguageEncoder, HierarchicalLanguageFeatures
from vla_ros.model.memory import MemoryAugmentedFusion, MemoryState, Recall
from vla_ros.model.multi_task import MultiTaskLosses, MultiTaskOutputs, Target, acting_losses, answers, make_decoder
from vla_ros.model.planner import Plan
from vla_ros.model.reasoning import AT_ONCE, NO_LESSONS, Lessons, PlannedTask, Thinking, VLAReasoningModule
from vla_ros.model.sight import Sight
from vla_ros.model.vision import MultiViewFeatures, MultiViewVisionEncoder
from vla_ros.types import ACTION_WIDTH, Observation

_TOKEN_TYPES = ("state", "word", "sentence")


@dataclass(frozen=True, eq=False)
class Perception:
    """memory: what the decoder works from. frame_features: (B, D), what a later instant is given as history.

    places: (B, places, 3) [m], where the things of the task are, from the tool; None without a head for them.
    recall: what the experience given with the inputs brought to mind; None where none was given.
    plan: what is to be done, which the memory tells of too; None without a planner.
    """

    memory: Memory
    frame_features: Tensor
    vision: MultiViewFeatures
    language: HierarchicalLanguageFeatures
    fusion: FusedFeatures
    places: Tensor | None
    recall: Recall | None
    plan: PlannedTask | None


@dataclass(frozen=True, eq=False)
class Losses:
    """Scalars. action: of the decoder, over the rows that count; alignment: contrastive, vision against language;
    grounding: of the places, zero without a head for them or without known places.

    alignment is zero where the instruction steers the vision backbone: what it has been told it could only repeat.
    plan, goal, foresight, value, refinement: of the parts that reason, zero without them or without lessons for them.
    tasks: of all tasks together, the action's among them, where there are several.
    """

    action: Tensor
    alignment: Tensor
    grounding: Tensor
    plan: Tensor
    goal: Tensor
    foresight: Tensor
    value: Tensor
    refinement: Tensor
    tasks: MultiTaskLosses | None = None

    @property
    def acting(self) -> Tensor:
        """What the decoder is trained on."""
        return self.action if self.tasks is None else self.tasks.total

    @property
    def reasoning(self) -> Tensor:
        """Of all parts that reason, together."""
        return self.plan + self.goal + self.foresight + self.value + self.refinement


@dataclass(frozen=True, eq=False)
class Places:
    """Where the things of the task are, from the tool. positions: (B, 3 * places) [m], base axes; known: bool."""

    positions: Tensor
    known: Tensor


class VLAModel(nn.Module):
    """Built from its configuration and the statistics of the data that it is trained on.

    Raises ModelError if a backbone cannot be loaded.
    """

    def __init__(
        self, config: VLAConfig, action_statistics: ActionStatistics, state_statistics: ActionStatistics
    ) -> None:
        super().__init__()
        self.config = config
        width, heads, dropout = config.width, config.heads, config.dropout
        self.action_statistics = action_statistics
        self.state_statistics = state_statistics
        self.vision = MultiViewVisionEncoder(config.vision, config.views, width, heads, dropout)
        self.language = HierarchicalLanguageEncoder(config.language, width, heads, dropout)
        self.state_encoder = ActionEncoder(ACTION_WIDTH, width)
        self.token_types = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in _TOKEN_TYPES})
        attends = config.fusion.meeting == "attention"
        self.fusion = HierarchicalFusion(width, heads, config.fusion.layers, config.fusion.history, dropout, attends)
        remembers = config.memory == "external"
        self.memory = MemoryAugmentedFusion(width, config.memory_slots, dropout) if remembers else None
        self.reasoning = VLAReasoningModule(config)
        self.decoder = make_decoder(config)
        steered = any(encoder.backbone.is_steered for encoder in self.vision.all_encoders())
        self.alignment = None if steered else AlignmentHead(width)
        self.grounding = GroundingHead(config.places, width, heads) if config.places else None

    def inputs(self, observations: Sequence[Observation]) -> ModelInputs:
        """Observations as a batch on the model's device. Raises ModelError if none has any of its views."""
        return build_inputs(observations, self.vision, self.language, self.config.axes).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.fusion.level_logits.device

    def perceive(self, inputs: ModelInputs, plan: bool = True) -> Perception:
        """Everything before the decoder. plan: whether a network that can plan does."""
        language = self.language(inputs.command)
        vision = self.vision(inputs.images, inputs.present, condition=language.global_features)
        seen, seen_mask = self._perception_tokens(vision, inputs.state)  # (B, N + 1, D)
        read, read_mask = self._language_tokens(language)  # (B, L + S, D)
        fusion = self.fusion(seen, read, seen_mask, read_mask, inputs.history, inputs.history_mask)
        recall = self._recall(fusion.fused_features, inputs.memory)
        fused = fusion.fused_features if recall is None else recall.fused_features
        tokens = torch.cat([fusion.vision_attended, fusion.language_attended], dim=1)  # (B, N + 1 + L + S, D)
        mask = torch.cat([seen_mask, read_mask], dim=1)
        places = None
        if self.grounding is not None:
            places = self.grounding(tokens, mask)  # (B, places, 3)
            tokens = torch.cat([tokens, self.grounding.tell(places)], dim=1)
            mask = torch.cat([mask, mask.new_ones(places.shape[:2])], dim=1)
        memory = Memory(tokens, mask, fused)
        perception = Perception(memory, fusion.frame_features, vision, language, fusion, places, recall, None)
        return self.planned(perception) if plan else perception

    def planned(self, perception: Perception, begun: Plan | None = None) -> Perception:
        """The same with a plan, of which its memory tells too; as it is without a planner.

        begun: what stays of an earlier plan.
        """
        memory = perception.memory
        planned = self.reasoning.plan(perception.language.global_features, memory.pooled, begun)
        if planned is None:
            return perception
        tokens = torch.cat([memory.tokens, planned.features], dim=1)
        mask = torch.cat([memory.mask, planned.plan.mask], dim=1)
        return replace(perception, memory=Memory(tokens, mask, memory.pooled), plan=planned)

    def sight(self, perception: Perception) -> Sight:
        """Of what was perceived, what a world model foretells."""
        return self.reasoning.layout.sight(perception.memory.pooled, perception.vision, perception.places)

    def empty_memory(self, memories: int = 1) -> MemoryState:
        """Raises ModelError for a network that has none."""
        if self.memory is None:
            raise ModelError("a network without a memory has not even an empty one; choose memory: external")
        return self.memory.external_memory.empty(memories)

    def remember(self, perception: Perception, mask: Tensor | None = None) -> MemoryState:
        """The memory that it was perceived with, and what was perceived: found by what was understood of the instant,
        before anything came to mind, it gives what was seen then. mask: (B,) bool, False where there was nothing to
        perceive. Raises ModelError if it was perceived without a memory.
        """
        recall = perception.recall
        if self.memory is None or recall is None:
            raise ModelError("what was perceived without a memory cannot be remembered")
        found_by, what = perception.fusion.fused_features, perception.frame_features
        return self.memory.store_experience(found_by, what, recall.memory, mask)

    def act(
        self, perception: Perception, prefix: Prefix | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Rows from what was perceived. generator: of the noise, on any device. -> (B, H, 14), relative and valid."""
        return self.decoder.sample(perception.memory, self.action_statistics, prefix, generator)

    def decide(
        self,
        perception: Perception,
        prefix: Prefix | None = None,
        generator: torch.Generator | None = None,
        thinking: Thinking = AT_ONCE,
    ) -> Tensor:
        """As act, after as much thought as is asked for. Raises ModelError where the network lacks the parts."""
        if thinking.acts_at_once:
            return self.act(perception, prefix, generator)

        def draw(memory: Memory, begun: Prefix | None) -> Tensor:
            return self.decoder.sample(memory, self.action_statistics, begun, generator)

        seen = self.sight(perception).features
        rows: Tensor = self.reasoning(perception.memory, seen, prefix, draw, self.action_statistics, thinking)
        return rows

    def forward(
        self, inputs: ModelInputs, prefix: Prefix | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See, read, fuse, act. prefix: rows that are already committed. -> (B, H, 14), relative, valid."""
        return self.act(self.perceive(inputs), prefix, generator)

    def loss(
        self,
        inputs: ModelInputs,
        target: Tensor,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
        places: Places | None = None,
        lessons: Lessons = NO_LESSONS,
        targets: Mapping[str, Target] | None = None,
    ) -> Losses:
        """target: (B, H, 14) relative rows in physical units; weights: (B, H), 0 for rows that do not count.

        targets: of the tasks beside the chunk. Raises ModelError for one that this network has not.
        """
        perception = self.planned(self.perceive(inputs, plan=False), lessons.begun)
        rows = Target(target, torch.ones_like(target[..., 0]) if weights is None else weights)
        statistics, memory = self.action_statistics, perception.memory
        action, tasks = acting_losses(self.decoder, memory, rows, targets or {}, statistics, generator)
        alignment = self._alignment_loss(perception, inputs.command.input_ids)
        grounding = self._grounding_loss(perception, places)
        planned = self._plan_losses(perception, lessons)
        foreseen = self._outcome_losses(perception, target, weights, generator, lessons)
        return Losses(action, alignment, grounding, *planned, *foreseen, tasks)

    def answers(self, perception: Perception) -> MultiTaskOutputs:
        """What the tasks beside the chunk say. Raises ModelError without them."""
        return answers(self.decoder, perception.memory)

    def reasoning_loss(
        self,
        inputs: ModelInputs,
        target: Tensor,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
        lessons: Lessons = NO_LESSONS,
    ) -> Losses:
        """As loss, but of the parts that reason alone: the rest passes no gradient, and its losses are zero."""
        with torch.no_grad():
            perception = self.perceive(inputs)
        zero = perception.frame_features.new_zeros(())
        planned = self._plan_losses(perception, lessons)
        foreseen = self._outcome_losses(perception, target, weights, generator, lessons)
        return Losses(zero, zero, zero, *planned, *foreseen)

    def aligned(self, perception: Perception) -> tuple[Tensor, Tensor] | None:
        """What monitor_alignment compares: what is seen and what is said, as unit vectors of one space, (B, D) each."""
        if self.alignment is None:
            return None
        return self.alignment.embed(perception.vision.fused_features, perception.language.global_features)

    def _recall(self, fused: Tensor, memory: MemoryState | None) -> Recall | None:
        if memory is None:
            return None
        if self.memory is None:
            raise ModelError("a network without a memory was given one; choose memory: external")
        recall: Recall = self.memory(fused, memory)
        return recall

    def _alignment_loss(self, perception: Perception, input_ids: Tensor) -> Tensor:
        """Equal tokens are one instruction. -> ()"""
        if self.alignment is None:
            return perception.frame_features.new_zeros(())
        _, instruction = torch.unique(input_ids, dim=0, return_inverse=True)
        vision, language = perception.vision.fused_features, perception.language.global_features
        return self.alignment.loss(vision, language, instruction)

    def _grounding_loss(self, perception: Perception, places: Places | None) -> Tensor:
        if perception.places is None or places is None:
            return perception.frame_features.new_zeros(())
        return grounding_loss(perception.places, places.positions, places.known)

    def _plan_losses(self, perception: Perception, lessons: Lessons) -> tuple[Tensor, Tensor]:
        """-> plan, goal"""
        lesson, zero = lessons.plan, perception.frame_features.new_zeros(())
        if lesson is None:
            return zero, zero
        goal = self._seen(lesson.goal).memory.pooled
        said = perception.language.global_features
        return self.reasoning.plan_losses(said, perception.memory.pooled, goal, lesson, self.action_statistics)

    def _outcome_losses(
        self,
        perception: Perception,
        target: Tensor,
        weights: Tensor | None,
        generator: torch.Generator | None,
        lessons: Lessons,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-> foresight, value, refinement"""
        lesson, zero = lessons.outcome, perception.frame_features.new_zeros(())
        if lesson is None:
            return zero, zero, zero
        features, statistics = perception.memory.pooled, self.action_statistics
        seen, later = self.sight(perception), self.sight(self._seen(lesson.later))
        with torch.no_grad():  # the refiner learns from what is drawn, and not to draw
            drawn = self.decoder.sample(perception.memory, statistics, generator=generator)
        foresight, value = self.reasoning.outcome_losses(seen, later, target, lesson, statistics)
        return foresight, value, self.reasoning.refinement_loss(features, drawn, target, weights, statistics)

    @torch.no_grad()
    def _seen(self, inputs: ModelInputs) -> Perception:
        """Other instants, which nobody learns to see by."""
        return self.perceive(inputs, plan=False)

    def _perception_tokens(self, vision: MultiViewFeatures, state: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.state_encoder(self.state_statistics.normalise(state)) + self.token_types["state"]  # (B, D)
        tokens = torch.cat([vision.tokens, encoded.unsqueeze(1)], dim=1)
        return tokens, torch.cat([vision.mask, vision.mask.new_ones(len(state), 1)], dim=1)

    def _language_tokens(self, language: HierarchicalLanguageFeatures) -> tuple[Tensor, Tensor]:
        words = language.word_features + self.token_types["word"]
        sentences = language.paragraph_features + self.token_types["sentence"]
        return torch.cat([words, sentences], dim=1), torch.cat([language.word_mask, language.sentence_mask], dim=1)
