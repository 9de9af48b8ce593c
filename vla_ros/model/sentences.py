"""Where the sentences of an instruction begin and end: text only, no network.

Instructions are often typed without capitals, so a boundary is told by its punctuation and not by the letter after it.
"""

from __future__ import annotations

import re

_BOUNDARY = re.compile(
    r"""
    [;\n\r]                                       # always
    | [.!?…]+ ["'\u201d\u2019)\]]* (?= \s | \Z )  # with the quotes that it closes, and before a gap: not in 0.5
    """,
    re.VERBOSE,
)
_LAST_WORD = re.compile(r"[\w.]+\Z")
_ABBREVIATIONS = frozenset({"approx", "ca", "cf", "dr", "e.g", "i.e", "incl", "mr", "mrs", "ms", "prof", "vs"})
_BEFORE_A_NUMBER = frozenset({"fig", "max", "min", "no", "nr"})


def sentence_spans(text: str) -> tuple[tuple[int, int], ...]:
    """First character and one past the last of every sentence, in order, without the space around it.

    A sentence ends with its punctuation (. ! ? ;) or with its line. The points of numbers ("0.5"), abbreviations
    ("approx. 5 cm") and enumerations ("1. Open it.") end none. What has neither letter nor digit is no sentence.
    """
    cuts = [0]
    for boundary in _BOUNDARY.finditer(text):
        is_point = boundary.group() == "."
        if not (is_point and _goes_on(text[cuts[-1] : boundary.start()], text[boundary.end() :])):
            cuts.append(boundary.end())
    pieces = zip(cuts, [*cuts[1:], len(text)], strict=True)
    return tuple(_trimmed(text, *piece) for piece in pieces if any(map(str.isalnum, text[slice(*piece)])))


def _goes_on(before: str, after: str) -> bool:
    """Whether a point stands inside a sentence. before: the sentence up to it; after: all that follows it."""
    last = _LAST_WORD.search(before)
    word = last.group().lower() if last else ""
    is_enumeration = before.strip().isdecimal()
    precedes_number = after.lstrip()[:1].isdecimal()
    return is_enumeration or word in _ABBREVIATIONS or (precedes_number and word in _BEFORE_A_NUMBER)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
