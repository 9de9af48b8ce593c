"""The page's time line: cameras, lanes and curves below each other on one axis, with one cursor through all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from vla_ros.replay.report.content import Content
from vla_ros.replay.report.curves import COMMAND, ERROR, PLAN, RECORDED, RIVAL, TARGET, Panel, panels
from vla_ros.replay.report.frames import Picture, Strips
from vla_ros.replay.report.html import data_uri
from vla_ros.replay.report.lanes import Bar, lanes, shades
from vla_ros.replay.report.svg import Curve, axis_of, bands, chart, nice_step
from vla_ros.types import FloatArray

_MAX_INSTANTS = 1500
"""At which the page knows the values of its curves."""
_AXIS_MARKS = 10.0
_MEANINGS = {
    RECORDED: "recorded command",
    COMMAND: "replayed command, after the guard",
    TARGET: "the policy's target, before the guard",
    PLAN: "its plans",
    RIVAL: "",
}
_SHADES = {
    "human": "a human in command",
    "clipped": "a limit acted",
    "event-stop": "stop",
    "event-latch": "latch",
    "event-near-miss": "near miss",
}


def timeline(content: Content) -> str:
    """Everything that the cursor goes through, and what it points at."""
    found = list(panels(content))
    drawn = [panel for panel in found if not panel.is_flat]
    return (
        f'<div id="now">{_now(content.strips or {})}{_readout(content, found)}</div>{_controls(content)}'
        f'<div id="scroll"><div id="timeline">{"".join(_strips(content))}{"".join(_lanes(content))}'
        f'<div id="curves"><div class="shades">{_shades(content)}</div>{"".join(_chart(content, one) for one in drawn)}'
        f'</div>{_flat(found)}{_axis(content.end_s)}<div id="overlay"><div id="cursor"></div></div></div></div>'
        f'<script type="application/json" id="data">{_data(content, found)}</script>'
    )


def _data(content: Content, found: Sequence[Panel]) -> str:
    """What the page's script needs, as JSON that no `</script>` can end. Values are those of the readout's cells."""
    instants = np.linspace(0.0, content.end_s, min(_MAX_INSTANTS, max(2, len(content.replayed.policy))))
    values = [_numbers(_at(curve, instants), 4) for panel in found for curve in panel.curves if curve.css != PLAN]
    data: dict[str, Any] = {"end_s": content.end_s, "instants": _numbers(instants, 3), "values": values}
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _now(strips: Strips) -> str:
    return "".join(
        f'<figure><img data-view="{escape(view)}" src="{data_uri(pictures[0].jpeg)}" alt="{escape(view)} camera">'
        f"<figcaption>{escape(view)}</figcaption></figure>"
        for view, pictures in strips.items()
    )


def _readout(content: Content, found: Sequence[Panel]) -> str:
    """A table whose cells the script fills: one for each curve, in the order of the data."""
    names = [RECORDED, COMMAND, TARGET, *([RIVAL] if content.rival is not None else [])]
    head = "".join(f'<th class="{name}"><i></i>{name}</th>' for name in names)
    rows, number = [], 0
    for panel in found:
        curves = [curve.css for curve in panel.curves if curve.css != PLAN]
        cells = {name: number + index for index, name in enumerate(curves)}
        number += len(curves)
        cells[TARGET] = cells.pop(ERROR) if ERROR in cells else cells[TARGET]
        tds = "".join(f'<td data-curve="{cells[name]}"></td>' if name in cells else "<td></td>" for name in names)
        rows.append(f"<tr><th>{escape(panel.title)}</th>{tds}</tr>")
    return (
        f'<table id="readout"><thead><tr><th id="instant">0.00 s</th>{head}</tr></thead><tbody>{"".join(rows)}</table>'
    )


def _controls(content: Content) -> str:
    meanings = {**_MEANINGS, RIVAL: "" if content.rival is None else f"{content.rival.name}: target"}
    curves = "".join(
        f'<label class="{name}"><input type="checkbox" data-hides="{name}" checked><i></i>{escape(meaning)}</label>'
        for name, meaning in meanings.items()
        if meaning
    )
    seen = {bar.css for bar in shades(content)}
    marks = "".join(f'<span class="{css}"><i></i>{text}</span>' for css, text in _SHADES.items() if css in seen)
    zooms = "".join(f'<option value="{factor}">{factor} x</option>' for factor in (1, 2, 5, 10, 20))
    return (
        '<div id="controls"><button id="play" type="button">Play</button>'
        f'<label>Zoom <select id="zoom">{zooms}</select></label>{curves}{marks}</div>'
    )


def _strips(content: Content) -> Iterator[str]:
    for view, pictures in (content.strips or {}).items():
        shown = "".join(_picture(content, picture) for picture in pictures)
        yield _row(view, "camera", f'<div class="strip" data-view="{escape(view)}">{shown}</div>')


def _picture(content: Content, picture: Picture) -> str:
    at_s = content.seconds(picture.at_ns)
    left = _percent(at_s, content.end_s)
    return f'<img data-at="{at_s:.3f}" style="left:{left}" src="{data_uri(picture.jpeg)}" alt="">'


def _lanes(content: Content) -> Iterator[str]:
    for lane in lanes(content):
        bars = "".join(_bar(bar, content.end_s) for bar in lane.bars)
        yield _row(lane.title, lane.detail, f'<div class="lane">{bars}</div>')


def _bar(bar: Bar, end_s: float) -> str:
    place = f"left:{_percent(bar.from_s, end_s)};width:{_percent(bar.to_s - bar.from_s, end_s)}"
    label = escape(bar.label)
    title = f"{label}: {bar.from_s:.2f} to {bar.to_s:.2f} s"
    return f'<span class="{bar.css}" style="{place}" title="{title}">{label}</span>'


def _shades(content: Content) -> str:
    return bands([(bar.from_s, bar.to_s, bar.css) for bar in shades(content)], content.end_s)


def _chart(content: Content, panel: Panel) -> str:
    axis = axis_of(panel.curves, panel.least)
    marks = "".join(
        f'<span class="value" style="top:{100.0 * axis.share(tick):.1f}%">{tick:.4g}</span>' for tick in axis.ticks()
    )
    drawing = chart(panel.curves, content.end_s, axis)
    return _row(panel.title, panel.unit, f'<div class="chart">{drawing}{marks}</div>', "charted")


def _flat(found: Sequence[Panel]) -> str:
    titles = [panel.title for panel in found if panel.is_flat]
    return f'<p class="quiet">Without any change worth drawing: {escape(", ".join(titles))}.</p>' if titles else ""


def _axis(end_s: float) -> str:
    step = nice_step(end_s / _AXIS_MARKS)
    marks = [index * step for index in range(math.floor(end_s / step + 1e-9) + 1)]
    texts = "".join(f'<span style="left:{_percent(at_s, end_s)}">{at_s:g} s</span>' for at_s in marks)
    return _row("", "", f'<div class="axis">{texts}</div>')


def _row(title: str, detail: str, body: str, css: str = "") -> str:
    return (
        f'<div class="row {css}"><div class="label"><b>{escape(title)}</b> <span>{escape(detail)}</span></div>'
        f'<div class="plot">{body}</div></div>'
    )


def _percent(seconds: float, end_s: float) -> str:
    return f"{100.0 * seconds / end_s if end_s > 0.0 else 0.0:.3f}%"


def _at(curve: Curve, instants: FloatArray) -> FloatArray:
    """The last value until each instant, NaN before the first. -> (N,)"""
    if not len(curve.seconds):
        return np.full(len(instants), math.nan)
    index = np.searchsorted(curve.seconds, instants, side="right") - 1
    return np.where(index >= 0, curve.values[np.maximum(index, 0)], math.nan)


def _numbers(values: FloatArray, digits: int) -> list[float | None]:
    return [None if math.isnan(value) else round(value, digits) for value in values.tolist()]
