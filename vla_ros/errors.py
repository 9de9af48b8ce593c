"""Every error that vla_ros raises on purpose. All of them are the user's to read: one sentence, no traceback."""

from __future__ import annotations

import textwrap

_MAX_TEXT = 400


def in_one_line(error: BaseException) -> str:
    """Somebody else's error without line breaks, cut short: `ModuleNotFoundError: No module named 'torch'`."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", _MAX_TEXT, placeholder=" ...")


class VlaRosError(Exception):
    """Base of all errors that a command prints as one line and turns into exit status 2."""


class ContractError(VlaRosError):
    """A robot contract is wrong. The text names the file, the key's path and the valid choices."""


class MessageError(VlaRosError):
    """A ROS message cannot be turned into data: truncated, wrong encoding, NaN, wrong frame."""

    def __init__(self, kind: str, text: str) -> None:
        """kind: a short stable word to count by, such as "truncated"; text: the sentence for people."""
        super().__init__(text)
        self.kind = kind


class PolicyError(VlaRosError):
    """A policy cannot be found, loaded or asked, or answered something that is not a chunk."""


class ModelError(VlaRosError):
    """A network cannot be built, loaded or saved: wrong configuration, missing weights, another version's files."""


class WorkerError(VlaRosError):
    """The worker process cannot be started, or broke the protocol."""


class SimError(VlaRosError):
    """The simulated robot was asked for a task, variation or renderer that it does not have."""


class BagError(VlaRosError):
    """A bag cannot be read or written."""


class LearningError(VlaRosError):
    """Demonstrations, training or evaluation was asked for something that cannot be done."""


class DataError(VlaRosError):
    """A dataset cannot be written, or is not what it must be. The text names the file, and the row and column."""


class ReplayError(VlaRosError):
    """A replay was asked for something that cannot be done, or of which there is no metric."""
