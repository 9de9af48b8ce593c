"""Behaviour cloning of chunks: one loop, and what it needs to go on after it was cut off.

Every step draws from seeds made of the recipe's seed and the step's number, and nothing else is random: a training that
was killed and goes on gives the same weights, bit for bit, as one that was not. Built on Hugging Face Accelerate: on
several devices each process takes its share of every batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_ros.learning.batches import Batch, BatchMaker
from vla_ros.learning.curriculum import CurriculumSampler, Progress, advanced
from vla_ros.learning.recipe import Recipe
from vla_ros.learning.schedule import learning_rate
from vla_ros.learning.task_report import TaskReport, TaskTally
from vla_ros.learning.trained import FASTER, Trained, parameter_groups, trained_of
from vla_ros.learning.usual import measure_usual
from vla_ros.learning.value_report import ValueReport, ValueTally
from vla_ros.model.multi_task import MANIPULATION
from vla_ros.model.vla import Losses, VLAModel

_DRAW, _NETWORK, _VALIDATION = range(3)  # what a seed is for
_ACCURATE_M = 0.02
_VALIDATED_ON = 768  # frames
_USUAL_ON = 4096  # frames at most


@dataclass(frozen=True)
class StepReport:
    """One step. losses: by name, as they are, unweighted; weights: of tasks, how much each counts beside 1 of the
    action's; gradient_norm: before it was clipped.
    """

    step: int
    stage: int
    learning_rate: float
    losses: Mapping[str, float]
    weights: Mapping[str, float]
    gradient_norm: float


@dataclass(frozen=True)
class ValidationReport:
    """On episodes that nothing was learned from, by the averaged weights.

    position_error_m: mean distance between predicted and recorded positions, over the chunk's rows that count;
    accuracy: share of frames at which it is below 2 cm. tasks: of those beside the chunk; outcome: of the value, on
    held-out failures too.
    """

    step: int
    losses: Mapping[str, float]
    position_error_m: float
    accuracy: float
    tasks: TaskReport
    outcome: ValueReport


class CurriculumTrainer:
    """A network, its optimiser, its data in the curriculum's order, and the average of its weights."""

    def __init__(
        self,
        recipe: Recipe,
        model: VLAModel,
        batches: BatchMaker,
        sampler: CurriculumSampler,
        held_out: NDArray[np.int64],
        failures: NDArray[np.int64],
    ) -> None:
        """held_out: frames to validate on; failures: others, of episodes that ended badly, for the value alone."""
        self.recipe = recipe
        self.step = 0
        self.progress = Progress()
        self._batches = batches
        self._sampler = sampler
        self._held_out = held_out
        self._ended = np.union1d(held_out, failures)
        self._shown = sampler.all_frames
        self.accelerator = Accelerator(
            mixed_precision=_precision(), kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
        )
        self.model = model.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._what = trained_of(recipe)
        self.trained = self._what.parameters(model)
        groups = parameter_groups(self.trained, recipe.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, recipe.learning_rate, foreach=True)
        self._network, self._prepared = self.accelerator.prepare(_Network(model, self._what), self.optimiser)
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files."""
        return bool(self.accelerator.is_main_process)

    def run_step(self) -> StepReport:
        """Learn from one batch."""
        rate = learning_rate(self.step, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = group[FASTER] * rate
        batch = self._next_batch()
        torch.manual_seed(self._seed(_NETWORK))
        self._what.prepare(self.model)
        generator = torch.Generator().manual_seed(self._seed(_DRAW))
        with self.accelerator.autocast():
            losses: Losses = self._network(batch, generator)
            total = self._total(losses)
        self.accelerator.backward(total)
        # Of what a network does alone: however wrong an uncertainty is, that must not shorten its steps.
        does, *_ = self.optimiser.param_groups
        norm = self.accelerator.clip_grad_norm_(does["params"], self.recipe.clip)
        self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)
        self._average()
        self.progress = replace(self.progress, batches=self.progress.batches + 1)
        self.step += 1
        told = _numbers(losses), _weights(losses)
        return StepReport(self.step, self.progress.stage, rate, *told, float(norm))

    def validate(self) -> ValidationReport:
        """Measure on the held-out frames, and move the curriculum on if that says so."""
        with self.averaged():
            report = self.measured()
        self.progress = advanced(self.progress, report.accuracy, self.recipe.curriculum)
        return report

    def settle(self) -> None:
        """Measure what is usual to a world model, by the weights that the model has now; nothing without one."""
        if self.model.config.foresees:
            shown, held_out = (self._parts(_at_most(_USUAL_ON, some)) for some in (self._shown, self._held_out))
            measure_usual(self.model, self._batches, shown, held_out)

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the model has the averaged weights."""
        return _Swapped(self.trained, self.average)

    def _next_batch(self) -> Batch:
        frames = self._sampler.batch(self.progress)
        mine = frames[self.accelerator.process_index :: self.accelerator.num_processes]
        batch = self._batches.make(mine, self._seeds(_DRAW), self.recipe.augmentation)
        return batch.to(self.accelerator.device)

    def _total(self, losses: Losses) -> Tensor:
        recipe = self.recipe
        perceived = losses.acting + recipe.alignment * losses.alignment + recipe.grounding * losses.grounding
        return perceived + recipe.reasoning * losses.reasoning

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows quickly: it would else remember the first, random weights for long.
        keep = min(self.recipe.ema, (1.0 + self.step) / (10.0 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1.0 - keep)

    @torch.no_grad()
    def measured(self) -> ValidationReport:
        """On the held-out frames, by the weights that the model has now."""
        self.model.eval()
        sums: dict[str, float] = {}
        distances, tally = [], TaskTally(self.model.config)
        some = _at_most(_VALIDATED_ON, self._held_out)
        for number, frames in enumerate(self._parts(some)):
            batch = self._batches.make(frames, (self.recipe.seed, number, _VALIDATION)).to(self.accelerator.device)
            generator = torch.Generator().manual_seed(number)
            with self.accelerator.autocast():
                batch = batch.lived(self.model)
                losses = self._what.losses(self.model, batch, generator)
                rows = self.model(batch.inputs, generator=generator)
            for name, value in _numbers(losses).items():
                sums[name] = sums.get(name, 0.0) + value * len(frames) / len(some)
            distances.append(_distances_m(rows.float(), batch))
            tally.add(self.model, batch)
        distance = torch.cat(distances)
        accuracy = float((distance < _ACCURATE_M).float().mean())
        told = tally.report(), self._judged()
        return ValidationReport(self.step, sums, float(distance.mean()), accuracy, *told)

    def _judged(self) -> ValueReport:
        """How a value judges frames of held-out episodes, however they ended; nothing without one."""
        if not self.model.config.foresees:
            return {}
        tally = ValueTally()
        for number, frames in enumerate(self._parts(_at_most(_VALIDATED_ON, self._ended))):
            batch = self._batches.make(frames, (self.recipe.seed, number, _VALIDATION)).to(self.accelerator.device)
            with self.accelerator.autocast():
                tally.add(self.model, batch)
        return tally.report()

    def _parts(self, frames: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """In batches, the last one perhaps shorter."""
        return [
            frames[start : start + self.recipe.batch_size] for start in range(0, len(frames), self.recipe.batch_size)
        ]

    def _seeds(self, purpose: int) -> tuple[int, ...]:
        return self.recipe.seed, self.step, self.accelerator.process_index, purpose

    def _seed(self, purpose: int) -> int:
        return int(np.random.default_rng(self._seeds(purpose)).integers(2**62))


class _Network(nn.Module):
    """The losses as a forward pass, which is what several devices synchronise."""

    def __init__(self, model: VLAModel, what: Trained) -> None:
        super().__init__()
        self.model = model
        self._what = what

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        return self._what.losses(self.model, batch, generator)


class _Swapped(AbstractContextManager[None]):
    """Exchanges two sets of tensors, and back at the end."""

    def __init__(self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        self._pairs = [(ours[name], theirs[name]) for name in ours]

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for ours, theirs in self._pairs:
            kept = ours.detach().clone()
            ours.copy_(theirs)
            theirs.copy_(kept)


def _at_most(count: int, frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Evenly some of them, about so many. (N,) -> (n,)"""
    return frames[:: max(1, len(frames) // count)]


def _precision() -> str:
    """bf16 where the processor computes in it, else full precision."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"


def _numbers(losses: Losses) -> dict[str, float]:
    """By name; of tasks those that had a target."""
    plain = {name: float(value.detach()) for name, value in vars(losses).items() if isinstance(value, Tensor)}
    beside = {} if losses.tasks is None else losses.tasks.losses
    return plain | {name: float(value) for name, value in beside.items() if name != MANIPULATION}


def _weights(losses: Losses) -> dict[str, float]:
    """Of tasks beside the chunk that had a target, by name."""
    weights = {} if losses.tasks is None else losses.tasks.weights
    return {name: float(value) for name, value in weights.items() if name != MANIPULATION}


def _distances_m(rows: Tensor, batch: Batch) -> Tensor:
    """Mean distance of the positions, over the rows that count, of each frame that has any. -> (B',)"""
    distance = (rows[..., :3] - batch.targets[..., :3]).norm(dim=-1)  # (B, H)
    counts = (batch.weights > 0.0).to(distance.dtype)
    counts[:, 0] = 0.0  # where it is: no prediction
    total = counts.sum(dim=1)
    means: Tensor = (distance * counts).sum(dim=1) / total.clamp(min=1.0)
    return means[total > 0.0]
