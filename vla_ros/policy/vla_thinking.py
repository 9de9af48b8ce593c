"""How much the policy `vla` thinks, by its options, and how it watches that what happens is what it expected."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from vla_ros.errors import PolicyError
from vla_ros.geometry import rotation_between
from vla_ros.model.meddling import LOOKS, glimpse
from vla_ros.model.reasoning import Thinking
from vla_ros.model.relative import along
from vla_ros.model.sight import PLACE_UNIT_M, Sight
from vla_ros.model.surprise import Escalation, escalate
from vla_ros.model.vla import Perception, VLAModel
from vla_ros.types import (
    ACTION_WIDTH,
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    NS_PER_S,
    QUATERNION,
    FloatArray,
    Observation,
    Pose,
)

THINKING_OPTIONS = {
    "candidates": "chunks of a flow, of which the one that the network foresees most of is followed, 64 at most; "
    "default: 1",
    "refine": "yes, to correct the chunk by what the network has learned of such ones; default: no",
    "plan": "no, to act without the plan that a network makes; default: yes",
    "surprise": "tell, to say how far what is seen is from what was expected; stop, to plan anew and to ask for a stop "
    "too where that lasts; default: no",
}
MOST_CANDIDATES = 64
PATIENCE_S = 1.0
"""How long a surprise lasts before a stop is asked for: a chunk made after the first one has had time to mend it."""


@dataclass(frozen=True)
class Verdict:
    """surprise, stop_because: as of a Chunk; replan: whether what was planned before is to be dropped."""

    surprise: float | None = None
    replan: bool = False
    stop_because: str = ""


class Unwatched:
    """Expects nothing. errors, glimpse: of the last look, see protocol.Surprised."""

    errors: tuple[float, ...] | None = None
    glimpse: tuple[float, ...] | None = None

    def look(self, model: VLAModel, perception: Perception, observation: Observation) -> Verdict:
        """Something was perceived at an observation."""
        return Verdict()

    def forget(self) -> None:
        """What comes does not continue what was."""


@dataclass(frozen=True, eq=False)
class _Look:
    """sight: of one sample."""

    t_obs_ns: int
    commanded_pose: Pose
    sight: Sight


class Watch(Unwatched):
    """Compares what is seen with what the last look and the commands since then led to expect, whoever gave them."""

    def __init__(self, is_told_only: bool) -> None:
        self._is_told_only = is_told_only
        self._last: _Look | None = None
        self._glimpses: deque[FloatArray] = deque(maxlen=LOOKS)
        self._since_ns: int | None = None

    def look(self, model: VLAModel, perception: Perception, observation: Observation) -> Verdict:
        """How surprising it is, and what follows from that; a chunk that follows from a stop may be followed again as
        soon as what is seen is as expected.
        """
        look = _Look(observation.t_obs_ns, observation.commanded_pose, model.sight(perception))
        surprise = self._surprise(model, look, observation)
        self._last = look
        if self._is_told_only:
            return Verdict(surprise)
        threshold = model.reasoning.calibration.threshold
        now_ns = observation.t_obs_ns
        step, self._since_ns = escalate(surprise, self._since_ns, now_ns, threshold, PATIENCE_S)
        if step is not Escalation.STOP or surprise is None:
            return Verdict(surprise, step is Escalation.REPLAN)
        far = f"{surprise / threshold:.1f} times as far"
        return Verdict(
            surprise, True, f"what is seen is {far} from what was expected, or from all known, as is allowed"
        )

    def forget(self) -> None:
        """Expect nothing of the next look."""
        self._last = self._since_ns = None
        self._glimpses.clear()

    def _surprise(self, model: VLAModel, look: _Look, observation: Observation) -> float | None:
        """None where there was no look before, or a view is absent."""
        self.errors = self.glimpse = None
        if self._last is None or not (self._last.sight.is_complete.all() and look.sight.is_complete.all()):
            self._glimpses.clear()  # what is on both sides of a gap is not one motion
            return None
        reasoning, before, now = model.reasoning, self._last.sight.features, look.sight.features
        driven = driven_rows(self._last, observation, model.config.decoder.dt_s)
        driven = along(model.config.axes, driven, self._last.commanded_pose.quaternion)
        rows = torch.from_numpy(driven).float().unsqueeze(0).to(model.device)  # (1, n, 14)
        miss = reasoning.missed(before, rows, now, model.action_statistics)[0]
        places_m = PLACE_UNIT_M * now[0, reasoning.layout.where].double().cpu().numpy().reshape(-1, 3)
        self._glimpses.append(glimpse(places_m, self._last.commanded_pose, observation))
        glimpses = torch.from_numpy(np.stack(self._glimpses)).float().to(model.device)
        self.errors, self.glimpse = reasoning.errors(miss, now[0], glimpses), tuple(self._glimpses[-1].tolist())
        return reasoning.calibration.surprise(self.errors)


def driven_rows(before: _Look, now: Observation, dt_s: float) -> FloatArray:
    """How the robot was commanded from one look to the next, evenly: rows of which velocities and gripper count.

    -> (n, 14), n the whole number of rows that is nearest, at least one
    """
    elapsed_s = (now.t_obs_ns - before.t_obs_ns) / NS_PER_S
    count = max(1, round(elapsed_s / dt_s))
    rows = np.zeros((count, ACTION_WIDTH))
    rows[:, QUATERNION] = (0.0, 0.0, 0.0, 1.0)
    moved_s = count * dt_s
    was, there = before.commanded_pose, now.commanded_pose
    rows[:, LINEAR_VELOCITY] = (there.position - was.position) / moved_s
    rows[:, ANGULAR_VELOCITY] = rotation_between(was.quaternion, there.quaternion) / moved_s
    rows[:, GRIPPER] = now.gripper
    return rows


def thinking_of(options: Mapping[str, str], model: VLAModel) -> Thinking:
    """As the options ask for. Raises PolicyError where the network cannot."""
    config = model.config
    text = options.get("candidates", "1")
    if not text.isdecimal() or not 1 <= int(text) <= MOST_CANDIDATES:
        raise PolicyError(f"the option candidates is {text!r}; it must be a whole number from 1 to {MOST_CANDIDATES}")
    refine, plan = (_choice(options, *of) for of in (("refine", ("no", "yes")), ("plan", ("yes", "no"))))
    if (int(text) > 1 or refine == "yes") and not config.foresees:
        raise PolicyError(
            "candidates and refine are for networks that foresee; this one's reasoning is " + config.reasoning
        )
    if int(text) > 1 and config.decoder.kind != "flow":
        raise PolicyError(f"candidates are for a flow decoder; all of a {config.decoder.kind} decoder's are the same")
    return Thinking(int(text), refine == "yes", plan == "yes")


def watch_of(options: Mapping[str, str], model: VLAModel) -> Unwatched:
    """As the options ask for. Raises PolicyError where the network expects nothing, or nobody knows what is usual."""
    how = _choice(options, "surprise", ("no", "tell", "stop"))
    if how == "no":
        return Unwatched()
    if not model.config.foresees:
        raise PolicyError(f"surprise is for networks that foresee; this one's reasoning is {model.config.reasoning}")
    if how == "stop" and not np.isfinite(model.reasoning.calibration.threshold):
        raise PolicyError("surprise=stop needs a network whose surprise has been calibrated; surprise=tell does not")
    return Watch(is_told_only=how == "tell")


def _choice(options: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """The first one where nothing is said."""
    text = options.get(name, choices[0])
    if text not in choices:
        raise PolicyError(f"the option {name} is {text!r}; choose {', '.join(choices[:-1])} or {choices[-1]}")
    return text
