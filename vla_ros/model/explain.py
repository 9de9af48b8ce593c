"""What a network looks at, as one picture: where in the images the words look, and at which words the images look.

Attention says where information was taken from, not why an action was chosen: Jain and Wallace, "Attention is not
explanation", 2019. Weights are those of the last level of the fusion, averaged over heads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vla_ros.errors import ModelError
from vla_ros.model.language import NO_SENTENCE, LanguageEncoder
from vla_ros.model.vla import Perception, VLAModel
from vla_ros.types import FloatArray, ImageArray, Observation

_COLUMNS = 4
_PANEL_IN = 3.2
_WORDS_IN = 1.3
_DPI = 100
_HEAT, _WORD_HEAT = "inferno", "YlOrRd"
_FONT_PT = 13
_CHARACTER_EM = 0.602  # width of DejaVu Sans Mono
_MARGIN_IN = 0.5


@dataclass(frozen=True, eq=False)
class Explanation:
    """One look at one scene, V views.

    frames: view -> (S, S, 3) uint8, as the network is given them. heats: view -> (rows, columns), the share of the
    words' attention that each patch gets; with the robot's state, which gets the rest, they sum to 1. words: each with
    the share of the patches' attention that it gets; the rest goes to whole sentences and to the tokens around them.
    between_views: (V, V), how much each view, in the order of frames, looks at each; rows sum to 1. plan: its steps,
    each with the row of an action that it proposes, (14,), relative as a chunk's are; empty without a planner.
    """

    instruction: str
    frames: Mapping[str, ImageArray]
    heats: Mapping[str, FloatArray]
    words: tuple[tuple[str, float], ...]
    between_views: FloatArray
    plan: tuple[tuple[str, FloatArray], ...] = ()


def explain(model: VLAModel, observation: Observation) -> Explanation:
    """Let a network in eval mode look once.

    Raises ModelError if there are no words in the instruction, or none of the network's views was observed.
    """
    inputs = model.inputs([observation])
    is_word = inputs.command.sentence_index[0] != NO_SENTENCE  # (L,)
    if not is_word.any():
        raise ModelError("an instruction without words has nothing to look with: give a sentence")
    with torch.inference_mode():
        perception = model.perceive(inputs)
    frames = {
        view: pixels[0].permute(1, 2, 0).cpu().numpy()  # (1, 3, S, S) -> (S, S, 3)
        for view, pixels in inputs.images.items()
        if isinstance(pixels, Tensor)
    }
    return Explanation(
        instruction=observation.instruction,
        frames=frames,
        heats=_heats(perception, is_word),
        words=_words(model.language.word_encoder, observation.instruction, _looks_at_tokens(perception)),
        between_views=_numbers(perception.vision.attention_weights[0]),
        plan=_plan(model, perception),
    )


def save_picture(explanation: Explanation, path: Path) -> None:
    """Write it as PNG, whole or not at all. Raises ModelError if that cannot be done."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draw(explanation).savefig(draft, format="png", dpi=_DPI)
        draft.replace(path)
    except OSError as error:
        raise ModelError(f"the picture {path} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def draw(explanation: Explanation) -> Figure:
    """A panel per view, one for how the views look at each other, and the words below."""
    panels = len(explanation.frames) + 1
    columns = min(panels, _COLUMNS)
    rows = math.ceil(panels / columns)
    width_in = columns * _PANEL_IN
    characters = math.floor((width_in - _MARGIN_IN) * 72 / (_CHARACTER_EM * _FONT_PT))
    lines = _in_lines([word for word, _ in explanation.words], characters)
    heights = [_PANEL_IN] * rows + [_WORDS_IN + 0.3 * len(lines)]
    figure = Figure(figsize=(width_in, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=heights)
    _title(figure, explanation)
    hottest = max(float(heat.max()) for heat in explanation.heats.values())
    for index, view in enumerate(explanation.frames):
        _draw_view(figure.add_subplot(grid[divmod(index, columns)]), view, explanation, hottest)
    _draw_between(figure.add_subplot(grid[divmod(panels - 1, columns)]), explanation)
    _draw_words(figure.add_subplot(grid[rows, :]), explanation, lines, characters)
    return figure


def _heats(perception: Perception, is_word: Tensor) -> dict[str, FloatArray]:
    """is_word: (L,). view -> (rows, columns)"""
    weights = perception.fusion.levels[-1].language_to_vision[0]  # (L + S, N + 1): the robot's state comes last
    looks = weights[: len(is_word)][is_word.to(weights.device)].mean(dim=0)  # (N + 1,)
    vision = perception.vision
    return {view: _numbers(looks[vision.token_slices[view]]).reshape(vision.grids[view]) for view in vision.views}


def _looks_at_tokens(perception: Perception) -> FloatArray:
    """How much the patches look at each token of the instruction. -> (L,)"""
    weights = perception.fusion.levels[-1].vision_to_language[0]  # (N + 1, L + S)
    patches = perception.vision.tokens.shape[1]
    return _numbers(weights[:patches].mean(dim=0))[: perception.language.word_features.shape[1]]


def _words(encoder: LanguageEncoder, instruction: str, looks: FloatArray) -> tuple[tuple[str, float], ...]:
    """What a tokenizer cut into pieces is one word again, with the sum of what they get. looks: (L,)"""
    encoded = encoder.tokenizer(
        instruction, truncation=True, max_length=encoder.max_length, return_offsets_mapping=True
    )
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    pieces = [
        (word, start, end, float(look))
        for word, (start, end), look in zip(encoded.word_ids(), offsets, looks, strict=True)
        if end > start
    ]
    words = []
    for _, group in groupby(pieces, key=lambda piece: piece[0]):
        _, starts, ends, shares = zip(*group, strict=True)
        words.append((instruction[min(starts) : max(ends)].strip(), sum(shares)))
    return tuple(words)


def _plan(model: VLAModel, perception: Perception) -> tuple[tuple[str, FloatArray], ...]:
    planner, planned = model.reasoning.planner, perception.plan
    if planner is None or planned is None:
        return ()
    proposals = _numbers(model.action_statistics.denormalise(planned.proposals)[0])  # (L, 14)
    return tuple(zip(planner.names_of(planned.plan)[0], proposals, strict=True))


def _numbers(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().double().cpu().numpy()
    return array


def _title(figure: Figure, explanation: Explanation) -> None:
    state = 1.0 - sum(float(heat.sum()) for heat in explanation.heats.values())
    title = figure.suptitle(
        f'Where in the images do the words of "{explanation.instruction}" look?\n'
        f"bright: much, on one scale for all views; the robot's state gets {state:.0%}",
        fontsize=_FONT_PT,
        wrap=True,
    )
    title.set_parse_math(False)


def _draw_view(axes: Axes, view: str, explanation: Explanation, hottest: float) -> None:
    frame, heat = explanation.frames[view], explanation.heats[view]
    side = len(frame)
    axes.imshow(frame, extent=(0, side, side, 0))
    axes.imshow(
        heat, cmap=_HEAT, vmin=0.0, vmax=hottest, alpha=0.55, extent=(0, side, side, 0), interpolation="bilinear"
    )
    axes.set_title(f"{view}: {heat.sum():.0%}, brightest patch {heat.max():.1%}", fontsize=10, parse_math=False)
    axes.set_axis_off()


def _draw_between(axes: Axes, explanation: Explanation) -> None:
    views, shares = list(explanation.frames), explanation.between_views
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(views)), views, parse_math=False)
    axes.set_yticks(range(len(views)), views, parse_math=False)
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.6 else "black"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=ink)
    axes.set_title("Which view (row) looks at which?", fontsize=10)


def _draw_words(axes: Axes, explanation: Explanation, lines: list[list[tuple[int, int]]], characters: int) -> None:
    """lines: the index of each word and the character where it begins; characters: that fit beside each other."""
    shares = [share for _, share in explanation.words]
    colours = colormaps[_WORD_HEAT]
    for row, line in enumerate(lines):
        for index, start in line:
            word, share = explanation.words[index]
            heat = share / max(shares)
            axes.text(
                start,
                row,
                word,
                family="monospace",
                fontsize=_FONT_PT,
                color="white" if heat > 0.7 else "black",
                bbox={"facecolor": colours(0.9 * heat), "edgecolor": "none", "pad": 2.5},
                parse_math=False,
            )
            axes.text(start, row + 0.45, f"{share:.0%}", fontsize=8, color="dimgray", va="center")
    axes.set_xlim(-1, characters + 1)
    axes.set_ylim(len(lines) - 0.2, -0.8)
    axes.set_title(
        f"How much do the images look at each word? In all {sum(shares):.0%}; the rest goes to whole sentences and to "
        "the tokens around them",
        fontsize=10,
    )
    axes.set_axis_off()


def _in_lines(words: list[str], characters: int) -> list[list[tuple[int, int]]]:
    """Lines of (index of a word, character where it begins)."""
    lines: list[list[tuple[int, int]]] = [[]]
    at = 0
    for index, word in enumerate(words):
        room = max(len(word), 3)  # for the number below
        if at + room > characters and lines[-1]:
            lines.append([])
            at = 0
        lines[-1].append((index, at))
        at += room + 2
    return lines
