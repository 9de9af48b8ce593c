"""Pieces of HTML that more than one part of the page is made of."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape


def data_uri(file: bytes, kind: str = "jpeg") -> str:
    """A picture's file as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], css: str = "") -> str:
    """A table of plain texts, which scrolls by itself where it is too wide."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return wide(f'<table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def wide(inner: str) -> str:
    """Something that may be wider than a phone."""
    return f'<div class="wide">{inner}</div>'


def quiet(text: str) -> str:
    """A remark."""
    return f'<p class="quiet">{escape(text)}</p>'


def number(value: float | None, digits: int = 4) -> str:
    """For people."""
    return "-" if value is None else f"{value:.{digits}g}"
