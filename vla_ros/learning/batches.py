"""From frames to what the network is given: images and states, a sentence of the task, and the chunk that followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.learning.augmentation import augmented
from vla_ros.learning.earlier import PastMaker
from vla_ros.learning.experience import Experience, chunks_at, stride_of
from vla_ros.learning.lessons import LessonMaker
from vla_ros.learning.recipe import PLACES, AugmentationConfig
from vla_ros.learning.task_targets import TargetMaker
from vla_ros.model.actions import ActionStatistics
from vla_ros.model.config import Axes, VLAConfig
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.language import CommandTokens
from vla_ros.model.multi_task import Target
from vla_ros.model.past import NO_PAST, Past, after, later_after
from vla_ros.model.reasoning import Lessons
from vla_ros.model.relative import state_along
from vla_ros.model.vla import Places, VLAModel
from vla_ros.policy.sentences import SentenceTable
from vla_ros.types import POSITION, QUATERNION

_PLAIN = AugmentationConfig(shift_px=0, colour=0.0, view_dropout=0.0, state_noise_m=0.0)
_MEASURED_ON = 20_000  # frames, of statistics


@dataclass(frozen=True, eq=False)
class Batch:
    """targets: (B, H, 14) relative rows; weights: (B, H), 0 where a row does not count; places: of grounding; lessons:
    for the parts that reason; tasks: for those beside the chunk; past: what went before, for networks that look back or
    remember.
    """

    inputs: ModelInputs
    targets: Tensor
    weights: Tensor
    places: Places
    lessons: Lessons
    tasks: Mapping[str, Target]
    past: Past

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        places = Places(self.places.positions.to(device), self.places.known.to(device))
        tensors = self.targets.to(device), self.weights.to(device)
        tasks = {name: target.to(device) for name, target in self.tasks.items()}
        lessons, past = self.lessons.to(device), self.past.to(device)
        return Batch(self.inputs.to(device), *tensors, places, lessons, tasks, past)

    def lived(self, model: VLAModel) -> Batch:
        """The same with its past behind it: what is seen now, and later, comes with history and memory."""
        inputs, lessons = after(self.past, model, self.inputs), self.lessons
        if lessons.outcome is not None:
            later = later_after(self.past, model, lessons.outcome.later, inputs.memory)
            lessons = replace(lessons, outcome=replace(lessons.outcome, later=later))
        return replace(self, inputs=inputs, lessons=lessons, past=NO_PAST)


class BatchMaker:
    """Makes batches for one network. Raises LearningError if the data does not fit it, by its rate or by names."""

    def __init__(
        self, experience: Experience, model: VLAModel, sentences: SentenceTable, camera_rate_hz: float
    ) -> None:
        """camera_rate_hz: of the robot that the network is for."""
        self._experience = experience
        self._model = model
        self._sentences = sentences
        self._horizon = model.config.decoder.horizon
        self._stride = stride_of(experience.fps, model.config.decoder.dt_s)
        self._lessons = LessonMaker(experience, model.config, self._stride)
        self._targets = TargetMaker(experience, model.config)
        self._past = PastMaker(experience, model.config, camera_rate_hz)

    def make(self, frames: NDArray[np.int64], seed: Sequence[int], augmentation: AugmentationConfig = _PLAIN) -> Batch:
        """The batch of some frames, (B,). seed: of all that is drawn; the same seed gives the same batch."""
        rng = np.random.default_rng(tuple(seed))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        phrasings = [self._phrasings(self._experience.task_of(int(frame))) for frame in frames]
        told = [choices[int(rng.integers(len(choices)))] for choices in phrasings]
        command = self._model.language.tokenize_commands(told)
        chunks = chunks_at(self._experience, frames, self._horizon, self._stride, self._model.config.axes)
        still = self._targets.still(len(frames), augmentation)
        shown = partial(self._inputs, command=command, augmentation=augmentation)
        # What is seen a row later is changed as what is seen now: nobody could foretell another change.
        again = _twin(generator)
        inputs = shown(frames, generator=generator, still=still)
        plain = partial(self._inputs, command=command, augmentation=_PLAIN, generator=generator)
        lessons = self._lessons.make(frames, plain, partial(shown, generator=again, still=still), rng)
        again = _twin(generator)
        past = self._past.make(frames, partial(shown, generator=generator), rng)
        if lessons.outcome is not None:
            recent = self._past.recent(self._lessons.later(frames), partial(shown, generator=again))
            past = replace(past, recent_later=recent)
        return Batch(
            inputs,
            torch.from_numpy(chunks.rows),
            torch.from_numpy(chunks.weights),
            self._places(frames),
            lessons,
            self._targets.make(frames, inputs.present, still),
            past,
        )

    def _inputs(
        self,
        frames: NDArray[np.int64],
        command: CommandTokens,
        augmentation: AugmentationConfig,
        generator: torch.Generator,
        still: Tensor | None = None,
    ) -> ModelInputs:
        pictures = {
            view: torch.from_numpy(self._experience.images[view][frames]).permute(0, 3, 1, 2).contiguous()
            for view in self._model.config.views
        }
        states = torch.from_numpy(self._experience.states[frames])
        images, present, states = augmented(pictures, states, augmentation, generator, still)
        return ModelInputs(images, present, command, _seen_along(self._model.config.axes, states.numpy()))

    def _phrasings(self, task: str) -> tuple[str, ...]:
        """What may be said for a task; for one that the table lacks there is only what was said."""
        return self._sentences.training(task) if task in self._sentences.phrases else (task,)

    def _places(self, frames: NDArray[np.int64]) -> Places:
        """Seen from the tool: a shifted image shows both, and says little of where the base is."""
        tool = np.tile(self._experience.states[frames, POSITION], PLACES)  # (B, 9)
        positions = self._experience.places[frames] - tool
        return Places(torch.from_numpy(positions), torch.from_numpy(self._experience.places_known[frames]))


def _seen_along(axes: Axes, states: NDArray[np.float32]) -> Tensor:
    """See relative.state_along. (N, 14) -> (N, 14)"""
    return torch.from_numpy(state_along(axes, states.astype(np.float64)).astype(np.float32))


def _twin(generator: torch.Generator) -> torch.Generator:
    """Another one that draws the same from here on."""
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    return twin


def measured_statistics(
    experience: Experience, frames: NDArray[np.int64], config: VLAConfig
) -> tuple[ActionStatistics, ActionStatistics]:
    """Of the chunks' rows that count, and of the states. frames: (N,), those to learn from."""
    some = frames[:: max(1, len(frames) // _MEASURED_ON)]
    stride = stride_of(experience.fps, config.decoder.dt_s)
    chunks = chunks_at(experience, some, config.decoder.horizon, stride, config.axes)
    rows = torch.from_numpy(chunks.rows[chunks.weights > 0.0])
    states = _seen_along(config.axes, experience.states[some])
    return ActionStatistics.of(rows), ActionStatistics.of(states, states[0, QUATERNION])
