"""One picture of a recorded run: a band per task, in it a row per camera and a column per instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from vla_ros.types import ImageArray

_COLUMNS = 6
_TITLE_PX = 18
_GAP_PX = 4
_INK, _PAPER = (20, 20, 20), (255, 255, 255)

# Frames of one view, by the instant they were taken at [ROS ns].
Frames = Mapping[int, ImageArray]


@dataclass(frozen=True)
class Band:
    """One task. views: name -> frames, from its first to its last instant."""

    title: str
    views: Mapping[str, Frames]


def contact_sheet(bands: Sequence[Band]) -> Image.Image:
    """Draw the bands below each other."""
    drawn = [_draw_band(band) for band in bands]
    width = max(image.width for image in drawn)
    sheet = Image.new("RGB", (width, sum(image.height for image in drawn)), _PAPER)
    top = 0
    for image in drawn:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def evenly(instants: Sequence[int], count: int) -> list[int]:
    """`count` of the instants, spread evenly from the first to the last; fewer where there are fewer."""
    places = np.unique(np.linspace(0, len(instants) - 1, min(count, len(instants))).round().astype(int))
    return [instants[place] for place in places]


def _draw_band(band: Band) -> Image.Image:
    rows = [[frames[instant] for instant in evenly(sorted(frames), _COLUMNS)] for frames in band.views.values()]
    height, width = rows[0][0].shape[:2] if rows and rows[0] else (0, 0)
    size = (_COLUMNS * (width + _GAP_PX), _TITLE_PX + len(rows) * (height + _GAP_PX))
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((2, 3), band.title, fill=_INK)
    for row, (view, pictures) in enumerate(zip(band.views, rows, strict=True)):
        top = _TITLE_PX + row * (height + _GAP_PX)
        for column, picture in enumerate(pictures):
            image.paste(Image.fromarray(picture), (column * (width + _GAP_PX), top))
        draw.text((3, top + 2), view, fill=_PAPER, stroke_width=1, stroke_fill=_INK)
    return image
