"""What a VLA network is made of: frozen dataclasses, their presets, and their JSON.

Every field is a choice that changes the network's weights or what they mean; nothing here is about training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from vla_ros.errors import ModelError
from vla_ros.strict import build_or_refuse
from vla_ros.strict_values import Count, Natural, Share, at_least

Backbone = Literal["efficientnet_lite0", "clip_vision", "resnet50", "efficientnet", "film_conv"]
Decoder = Literal["flow", "regression", "single", "continuous"]
Axes = Literal["base", "tool"]
Task = Literal["manipulation", "grasping", "detection", "navigation"]


Seconds = Annotated[float, at_least(0.001)]


@dataclass(frozen=True)
class VisionConfig:
    """How each view becomes tokens.

    source: a hub name or a local folder; empty for the backbone's own (weights from its package, or its hub name).
    image_size: side of the square that frames are fitted into [pixels].
    trainable_from: the first stage that is trained, 0 for all; None freezes the backbone.
    feature_stage: the stage whose output is used; None for the last (only efficientnet_lite0 offers earlier ones).
    shared: one encoder for all views, else one for each.
    cross_view_layers: blocks in which the views' tokens look at each other, 0 for views side by side.
    """

    backbone: Backbone = "efficientnet_lite0"
    source: str = ""
    image_size: Annotated[int, at_least(32)] = 128
    trainable_from: Natural | None = None
    feature_stage: Natural | None = None
    shared: bool = True
    cross_view_layers: Natural = 1


@dataclass(frozen=True)
class LanguageConfig:
    """How an instruction becomes tokens.

    source: "all-MiniLM-L6-v2" (embedded), a hub name, or a local folder.
    trainable_from: the first of the encoder's layers that is trained, 0 for all; None freezes it.
    max_length: tokens kept of an instruction. layers: blocks per level above the words.
    """

    source: str = "all-MiniLM-L6-v2"
    trainable_from: Natural | None = None
    max_length: Annotated[int, at_least(4)] = 64
    layers: Count = 1


@dataclass(frozen=True)
class FusionConfig:
    """layers: levels on which vision and language meet. history: earlier fused features that it looks back at, 0 for
    none. meeting: "attention" of every token on the other modality's, or "mean": each is told their mean.
    """

    layers: Count = 2
    history: Natural = 0
    meeting: Literal["attention", "mean"] = "attention"


@dataclass(frozen=True)
class DecoderConfig:
    """What is predicted: `horizon` rows, dt_s apart.

    kind: "flow" or "regression" for a chunk; "single" or "continuous" for one action, held over the horizon.
    flow_steps: integration steps of a flow. max_prefix: most rows of the previous chunk that may be committed.
    """

    kind: Decoder = "flow"
    horizon: Annotated[int, at_least(2)] = 16
    dt_s: Seconds = 0.05
    layers: Count = 4
    flow_steps: Count = 5
    max_prefix: Natural = 4


@dataclass(frozen=True)
class VLAConfig:
    """The whole network. views: names of the contract's cameras. width: of every token between the parts.

    axes: along which a chunk's rows are seen: the base frame's, or the commanded tool's at the instant of the frames.
    places: how many places the grounding head is asked for in training, 0 for no such head.
    memory: "external" for one of memory_slots experiences beside the network.
    reasoning: "plan" for a planner, whose vocabulary the subtasks are; "foresee" for a world model, a value, and a
    refiner of what is chosen by them; "all" for both.
    tasks: what is answered beside each other, manipulation, which is the chunk, among them; none for the chunk alone.
    classes: names of the things that detection tells of.
    """

    views: tuple[str, ...] = ("front", "wrist", "top")
    width: Count = 256
    heads: Count = 8
    dropout: Share = 0.1
    vision: VisionConfig = VisionConfig()
    language: LanguageConfig = LanguageConfig()
    fusion: FusionConfig = FusionConfig()
    decoder: DecoderConfig = DecoderConfig()
    axes: Axes = "base"
    places: Natural = 0
    memory: Literal["none", "external"] = "none"
    memory_slots: Count = 256
    reasoning: Literal["none", "plan", "foresee", "all"] = "none"
    subtasks: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def plans(self) -> bool:
        """Whether there is a planner."""
        return self.reasoning in ("plan", "all")

    @property
    def foresees(self) -> bool:
        """Whether there is a world model."""
        return self.reasoning in ("foresee", "all")


SIZES: Mapping[str, VLAConfig] = {
    "tiny": VLAConfig(
        width=64,
        heads=4,
        dropout=0.0,
        vision=VisionConfig(backbone="film_conv", image_size=32, trainable_from=0),
        fusion=FusionConfig(layers=1),
        decoder=DecoderConfig(kind="regression", horizon=8, dt_s=0.1, layers=2, max_prefix=3),
    ),
    "small": VLAConfig(),
    "base": VLAConfig(
        width=512,
        vision=VisionConfig(backbone="clip_vision", image_size=224),
        language=LanguageConfig(source="bert-base-uncased", layers=2),
        fusion=FusionConfig(layers=3),
        decoder=DecoderConfig(layers=6),
    ),
}
"""tiny: for tests. small: the embedded backbones, the default. base: CLIP and BERT, from the hub."""


def preset(size: str, views: tuple[str, ...]) -> VLAConfig:
    """A size for a robot's cameras. Raises ModelError that lists the sizes."""
    if size not in SIZES:
        raise ModelError(f"there is no size {size!r}; choose one of {', '.join(SIZES)}")
    return validated(replace(SIZES[size], views=views), "the configuration")


_LISTS = ("views", "subtasks", "tasks", "classes")


def to_mapping(config: VLAConfig) -> dict[str, Any]:
    """Plain types for JSON."""
    return {**asdict(config), **{name: list(getattr(config, name)) for name in _LISTS}}


def from_mapping(source: Mapping[str, Any], where: str) -> VLAConfig:
    """The inverse of to_mapping. where: named in errors. Raises ModelError with every fault and the valid choices."""
    config = build_or_refuse(
        VLAConfig, source, lambda faults: ModelError(f"{where} is not a model configuration:{faults}")
    )
    return validated(config, where)


def validated(config: VLAConfig, where: str) -> VLAConfig:
    """The same configuration, if its fields agree with each other. Raises ModelError."""
    decoder = config.decoder
    faults = (
        (not config.views, "views: there must be at least one"),
        (len(set(config.views)) < len(config.views), "views: each name may stand once"),
        (config.width % config.heads != 0, f"heads: {config.heads} do not divide a width of {config.width}"),
        (config.width % 4 != 0, f"width: {config.width} is not a multiple of 4"),
        (
            decoder.max_prefix >= decoder.horizon,
            f"decoder.max_prefix: {decoder.max_prefix} leaves nothing of {decoder.horizon} rows",
        ),
        (config.plans and not config.subtasks, "subtasks: a planner needs at least one"),
        (not config.plans and bool(config.subtasks), "subtasks: without a planner there is no use for them"),
        (len(set(config.subtasks)) < len(config.subtasks), "subtasks: each name may stand once"),
        *_faults_of_tasks(config),
    )
    lines = "".join(f"\n  {text}" for is_wrong, text in faults if is_wrong)
    if lines:
        raise ModelError(f"{where} is not a model configuration:{lines}")
    return config


def _faults_of_tasks(config: VLAConfig) -> tuple[tuple[bool, str], ...]:
    tasks, classes = config.tasks, config.classes
    detects = "detection" in tasks
    return (
        (bool(tasks) and "manipulation" not in tasks, "tasks: one of them is manipulation, which is the chunk"),
        (len(set(tasks)) < len(tasks), "tasks: each name may stand once"),
        (detects and not classes, "classes: detection needs at least one"),
        (not detects and bool(classes), "classes: without detection there is no use for them"),
        (len(set(classes)) < len(classes), "classes: each name may stand once"),
    )
