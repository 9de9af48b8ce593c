"""Values of options that several commands have, with errors that argparse prints."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping

from vla_ros.errors import VlaRosError


def count(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def counted(number: int, thing: str) -> str:
    """In words: 1 frame, 1,200 frames."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def options(words: Iterable[str]) -> Mapping[str, str]:
    """KEY=VALUE words, as policies take them. Raises VlaRosError."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise VlaRosError(f"policy option {word!r} is not of the form key=value")
        found[key] = value
    return found


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)
