"""Meta-World's scripted experts, asked for an action and for the phase of the task that they are in.

An expert is a tree of conditions ("not above the puck yet: go there; not low enough: go down; ..."); its phases are the
leaves of that tree, in the order in which they are written. Which leaf decided is read off the interpreter.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import yaml

from vla_ros.errors import LearningError
from vla_ros.types import FloatArray

# Which experts see their hand lower than it is once the gripper has closed. That of the peg lifts it as soon as it is
# within 25 mm of the peg's height, which is about as low as it can be commanded: within speed limits it would wait for
# that, and nothing in a picture tells when the wait is over, so that nobody could learn to end it.
_LOWERED_M = {"peg-insert-side-v3": 0.02}
_HAND_Z, _GRIPPER = 2, 3
_CLOSED = 0.36  # on a peg it is 0.30, open it is 1
SUBTASKS_FILE = Path(__file__).with_name("subtasks.yaml")


@dataclass(frozen=True, eq=False)
class Decision:
    """action: (4,), in [-1, 1] as Meta-World clips it; phase: which leaf of the expert's tree decided."""

    action: FloatArray
    phase: int


class Decider(Protocol):
    """Whoever shows a task. subtasks: what its phases are called."""

    subtasks: tuple[str, ...]

    def decide(self, observation: FloatArray) -> Decision:
        """observation: (39,), Meta-World's."""
        ...


class Expert:
    """One task's expert. It keeps no state between calls."""

    def __init__(self, task: str) -> None:
        """Raises LearningError for a task without an expert, or whose phases have no names."""
        self.subtasks = subtask_names(task)
        self._lowered_m = _LOWERED_M.get(task, 0.0)
        expert_class = _expert_class(task)
        self._expert = expert_class()
        decides = getattr(expert_class, "_desired_pos", expert_class.get_action)  # some decide in get_action itself
        self._code = decides.__code__
        self._leaves = _leaves(decides)
        if len(self._leaves) != len(self.subtasks):
            raise LearningError(
                f"{SUBTASKS_FILE.name} names {len(self.subtasks)} phases of {task}; its expert has {len(self._leaves)}"
            )

    def decide(self, observation: FloatArray) -> Decision:
        """observation: (39,), Meta-World's."""
        last_line = 0

        def on_call(frame: FrameType, event: str, _argument: Any) -> Any:
            return on_line if frame.f_code is self._code else None

        def on_line(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last_line
            if event == "line" and any(frame.f_lineno in leaf for leaf in self._leaves):
                last_line = frame.f_lineno
            return on_line

        before = sys.gettrace()
        sys.settrace(on_call)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                seen = observation.copy()  # the experts of the door write into it
                if seen[_GRIPPER] < _CLOSED:
                    seen[_HAND_Z] -= self._lowered_m
                action = np.asarray(self._expert.get_action(seen), np.float64)
        finally:
            sys.settrace(before)
        phase = next((index for index, leaf in enumerate(self._leaves) if last_line in leaf), 0)
        return Decision(np.clip(action, -1.0, 1.0), phase)


@cache
def subtask_names(task: str) -> tuple[str, ...]:
    """What a task's phases are called, in words. Raises LearningError for a task that has none."""
    table = _table()
    if task not in table:
        raise LearningError(
            f"{SUBTASKS_FILE.name} has no names for the phases of '{task}'; choose one of {', '.join(table)}"
        )
    return tuple(table[task])


@cache
def _table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = yaml.safe_load(SUBTASKS_FILE.read_text(encoding="utf-8"))
    return table


def _expert_class(task: str) -> Any:
    from metaworld.policies import ENV_POLICY_MAP

    if task not in ENV_POLICY_MAP:
        raise LearningError(f"'{task}' has no expert; choose one of {', '.join(sorted(ENV_POLICY_MAP))}")
    return ENV_POLICY_MAP[task]


def _leaves(function: Any) -> tuple[range, ...]:
    """The lines of each branch that has no branches of its own; one of the whole function if it has none."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    branches = [leaf for statement in tree.body for leaf in _branches(statement)] or [tree.body]
    if tree.name != "get_action" and branches[-1][-1] is not tree.body[-1] and isinstance(tree.body[-1], ast.Return):
        branches.append(tree.body[-1:])  # what is reached when no condition held
    return tuple(range(first + b[0].lineno - 1, first + (b[-1].end_lineno or b[-1].lineno)) for b in branches)


def _branches(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The bodies of an if-tree's leaves, in order."""
    if not isinstance(statement, ast.If):
        return []
    found = []
    for body in (statement.body, statement.orelse):
        inner = [leaf for inside in body for leaf in _branches(inside)]
        if body and not inner:
            found.append(body)
        elif body:
            found.extend(inner)
            if not isinstance(body[-1], ast.If):  # what stands below an inner `if`
                found.append(body[-1:])
    return found
