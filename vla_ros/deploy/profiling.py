"""What a network costs: how long each of its parts takes, how much it computes, how large it is.

A device works on after the call that gave it work has returned, and the first calls are slower than all later ones. So
nothing is measured before a few rounds went by, and the device is waited for at every instant that is noted.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vla_ros.model.backbones import Backbone
from vla_ros.model.inputs import ModelInputs
from vla_ros.model.vla import VLAModel

BACKBONES, ENCODER, DECODER, REST = "vision.backbones", "language.encoder", "decoder", "rest"
_MS_PER_S = 1000.0

# A number that grows with what has been done so far: seconds, or operations.
Meter = Callable[[], float]


@dataclass(frozen=True)
class Duration:
    """Over all runs [ms]."""

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Duration:
        """Of at least one run."""
        return cls(_MS_PER_S * statistics.median(seconds), _MS_PER_S * float(np.percentile(seconds, 95)))


@dataclass(frozen=True)
class PartProfile:
    """One part, without the parts inside it that have a profile of their own.

    module: the names of its classes. output: the name and shape of the first tensor that it gives; empty if it takes no
    part in making a chunk. parameters: all, trainable ones included. flops, duration: for one batch of chunks.
    """

    name: str
    module: str
    output: str
    parameters: int
    trainable: int
    flops: int
    duration: Duration


@dataclass(frozen=True)
class Profile:
    """A batch of chunks from observations to rows, its instructions read before.

    parts: in the order of the network; the last is REST, what no part accounts for. reading: how long the language part
    takes for instructions that were not read before, and reading_flops what that computes beyond a chunk's flops.
    flops: a multiplication and its addition count as two; only matrix products and convolutions are counted.
    peak_memory_bytes: allocated on a CUDA device; None for another. threads: of the CPU.
    """

    device: str
    threads: int
    batch: int
    runs: int
    parts: tuple[PartProfile, ...]
    whole: Duration
    reading: Duration
    reading_flops: int
    peak_memory_bytes: int | None

    def part(self, name: str) -> PartProfile:
        """The part of that name. Raises KeyError."""
        return {part.name: part for part in self.parts}[name]

    @property
    def parameters(self) -> int:
        """All there are, each counted once."""
        return sum(part.parameters for part in self.parts)

    @property
    def trainable(self) -> int:
        """Those of them that training changes."""
        return sum(part.trainable for part in self.parts)

    @property
    def flops(self) -> int:
        """Of the whole batch of chunks."""
        return sum(part.flops for part in self.parts)

    @property
    def backbone_share(self) -> float:
        """How much of the time the vision backbones take, 0..1."""
        total = sum(part.duration.median_ms for part in self.parts)
        return self.part(BACKBONES).duration.median_ms / total

    @property
    def chunks_per_second(self) -> float:
        """At the median duration."""
        return self.batch * _MS_PER_S / self.whole.median_ms


def profile_vla_model(
    model: VLAModel,
    inputs: ModelInputs,
    *,
    runs: int = 20,
    warm_up: int = 3,
    threads: int | None = None,
    synchronise: Callable[[], None] | None = None,
) -> Profile:
    """Measure a network on inputs like those of its use. It and torch are left in the state that they were in.

    runs: how often everything is measured, at least once; warm_up: how often it is done before. threads: of the CPU;
    None for torch's present number. synchronise: waits until the device has done all its work; None for its own way.
    """
    inputs = inputs.to(model.device)
    parts = _parts_of(model)
    with _as_on_a_robot(model, threads):
        flops, reading_flops, outputs = _count_flops(model, inputs, parts)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        clock = partial(_synchronised_time, synchronise or _synchronise_of(model.device))
        with torch.inference_mode():
            for _ in range(warm_up):
                _chunks(model, inputs, _Ledger(clock))
            measured = [_measure(model, inputs, parts, clock) for _ in range(runs)]
        profiles = [
            PartProfile(
                part.name,
                part.module,
                outputs.get(part.name, ""),
                part.parameters,
                part.trainable,
                round(flops.get(part.name, 0.0)),
                Duration.of([run.parts.get(part.name, 0.0) for run in measured]),
            )
            for part in (*parts, _Part(REST, (), 0, 0))
        ]
        return Profile(
            device=_device_name(model.device),
            threads=torch.get_num_threads(),
            batch=len(inputs.state),
            runs=runs,
            parts=tuple(profiles),
            whole=Duration.of([run.whole for run in measured]),
            reading=Duration.of([run.reading for run in measured]),
            reading_flops=round(reading_flops),
            peak_memory_bytes=torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else None,
        )


@dataclass(frozen=True)
class _Part:
    name: str
    modules: tuple[nn.Module, ...]
    parameters: int
    trainable: int

    @property
    def module(self) -> str:
        return ", ".join(sorted({type(module).__name__ for module in self.modules}))


def _parts_of(model: VLAModel) -> tuple[_Part, ...]:
    """Every module of the network's own that has parameters; what it contains and is a part too stands before it."""
    inside: Mapping[str, tuple[str, tuple[nn.Module, ...]]] = {
        "vision": (BACKBONES, tuple(module for module in model.vision.modules() if isinstance(module, Backbone))),
        "language": (ENCODER, (model.language.word_encoder.encoder,)),
    }
    counted: set[nn.Parameter] = set()
    parts = []
    for child_name, child in model.named_children():
        inner = [inside[child_name]] if child_name in inside else []
        for name, modules in (*inner, (child_name, (child,))):
            own = {parameter for module in modules for parameter in module.parameters()} - counted
            counted |= own
            if own:
                total = sum(parameter.numel() for parameter in own)
                trainable = sum(parameter.numel() for parameter in own if parameter.requires_grad)
                parts.append(_Part(name, modules, total, trainable))
    return tuple(parts)


class _Ledger:
    """Who caused how much of what a meter counts: a part is charged for itself, not for the parts inside it."""

    def __init__(self, meter: Meter) -> None:
        self.charges: defaultdict[str, float] = defaultdict(float)
        self.outputs: dict[str, str] = {}
        self._meter = meter
        self._open = [REST]
        self._read = meter()

    def enter(self, name: str) -> None:
        """What follows is this part's."""
        self.charge()
        self._open.append(name)

    def leave(self, output: Any) -> None:
        """The part that was entered last has made this."""
        self.charge()
        self.outputs[self._open.pop()] = _described(output)

    def charge(self) -> None:
        """Whatever the meter counted since it was last read."""
        now = self._meter()
        self.charges[self._open[-1]] += now - self._read
        self._read = now


@contextmanager
def _watched(parts: Sequence[_Part], ledger: _Ledger) -> Iterator[None]:
    """Every call of a part's module is entered in the ledger."""
    with ExitStack() as stack:
        for part in parts:
            for module in part.modules:
                before = module.register_forward_pre_hook(lambda _module, _given, name=part.name: ledger.enter(name))
                after = module.register_forward_hook(lambda _module, _given, output: ledger.leave(output))
                stack.callback(before.remove)
                stack.callback(after.remove)
        yield


def _chunks(model: VLAModel, inputs: ModelInputs, ledger: _Ledger) -> None:
    """A batch of chunks. The decoder is asked through a method of its own, which no hook sees."""
    perception = model.perceive(inputs)
    ledger.enter(DECODER)
    ledger.leave(model.act(perception))
    ledger.charge()


@dataclass(frozen=True)
class _Run:
    """Seconds. parts: name -> what it took."""

    whole: float
    reading: float
    parts: Mapping[str, float]


def _measure(model: VLAModel, inputs: ModelInputs, parts: Sequence[_Part], clock: Meter) -> _Run:
    """One after the other, so that a machine that is slow for a while is so for all. It ends with all read again."""
    whole = _Ledger(clock)
    _chunks(model, inputs, whole)
    by_part = _Ledger(clock)
    with _watched(parts, by_part):
        _chunks(model, inputs, by_part)
    model.language.word_encoder.clear_cache()
    start = clock()
    model.language(inputs.command)
    return _Run(sum(whole.charges.values()), clock() - start, by_part.charges)


def _count_flops(
    model: VLAModel, inputs: ModelInputs, parts: Sequence[_Part]
) -> tuple[Mapping[str, float], float, Mapping[str, str]]:
    """Per part with all instructions read, how much more it is with none read, and the outputs of the parts.

    torch knows no formula for the attention that a CPU fuses, and sees no operations inside inference_mode.
    """
    ledgers = []
    model.language.word_encoder.clear_cache()
    for _ in ("reading", "having read"):
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            ledger = _Ledger(counter.get_total_flops)
            with _watched(parts, ledger):
                _chunks(model, inputs, ledger)
        ledgers.append(ledger)
    reading, read = ledgers
    more = sum(reading.charges.values()) - sum(read.charges.values())
    return read.charges, more, reading.outputs


@contextmanager
def _as_on_a_robot(model: nn.Module, threads: int | None) -> Iterator[None]:
    """In eval mode, with so many threads, and with nothing to learn, for a while."""
    training = {module: module.training for module in model.modules()}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    model.eval()
    for parameter in learning:
        parameter.requires_grad = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        for parameter in learning:
            parameter.requires_grad = True
        for module, mode in training.items():
            module.training = mode


def _synchronise_of(device: torch.device) -> Callable[[], None]:
    if device.type == "cpu":
        return lambda: None
    return partial(torch.accelerator.synchronize, device)


def _synchronised_time(synchronise: Callable[[], None]) -> float:
    synchronise()
    return time.perf_counter()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _described(output: Any) -> str:
    """ "tokens 1x48x256": the first tensor of a part's output."""
    if isinstance(output, Tensor):
        return "x".join(map(str, output.shape))
    if is_dataclass(output):
        for field in fields(output):
            if isinstance(value := getattr(output, field.name), Tensor):
                return f"{field.name} {_described(value)}"
    return ""
