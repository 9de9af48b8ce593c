"""The policy `vla`: a checkpoint's network, asked for one chunk per observation.

The same observations give the same chunks: the flow's noise is drawn from the option `seed` and the observation's
instant, and how many rows of the previous chunk count as committed is fixed, not measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla_ros.contract import Contract
from vla_ros.control.chunks import make_row, target_at
from vla_ros.control.safety import distance
from vla_ros.errors import PolicyError, in_one_line
from vla_ros.model.checkpoint import load_checkpoint
from vla_ros.model.chunk_decoder import Prefix
from vla_ros.model.reasoning import Thinking
from vla_ros.model.relative import to_absolute, to_relative
from vla_ros.model.vla import VLAModel
from vla_ros.policy.protocol import Needs
from vla_ros.policy.vla_memory import MEMORY_OPTIONS, Recollection, recollection
from vla_ros.policy.vla_plan import Course, planned
from vla_ros.policy.vla_thinking import THINKING_OPTIONS, Unwatched, thinking_of, watch_of
from vla_ros.resources import checkpoint_path
from vla_ros.types import ACTION_WIDTH, NS_PER_S, POSITION, QUATERNION, Chunk, FloatArray, Observation, Pose

_OPTIONS = {
    "checkpoint": "folder of the checkpoint, or the name of one that comes with the package (required)",
    "device": "cpu, cuda, cuda:1, ...; default: cuda where there is one",
    "threads": "of the CPU; default: one less than there are cores, which is left to the control loop",
    "seed": "of the noise that a flow starts from; default: 0",
    "committed_s": "how much of the previous chunk is kept while this one is made, in seconds; default: 0.1",
    "untrained": "yes, to run a network that has learned nothing",
    "other_robot": "yes, to run it on another robot than the one whose contract it was made with",
    **MEMORY_OPTIONS,
    **THINKING_OPTIONS,
}
# The robot is where the previous chunk said it would be, and has moved as it said, or is no longer following it.
_NEAR_M, _NEAR_RAD = 0.02, 0.1
_STEP_SHARE, _STEP_M, _STEP_RAD = 0.5, 0.002, 0.01
# Frames further apart are no history of each other.
_MAX_GAP_S = 0.5
_COMMITTED_S = 0.1


@dataclass(frozen=True, eq=False)
class _Moment:
    """What was seen and planned at one observation."""

    t_obs_ns: int
    commanded_pose: Pose
    frame_features: Tensor  # (D,)
    chunk: Chunk


class VLAPolicy:
    """Knows the last few observations of the instruction that it is following, and the last chunk.

    recollection: what it recalls from beyond that, however long ago. thinking: before it acts. watch: of what happens.
    """

    def __init__(
        self,
        model: VLAModel,
        seed: int,
        committed_rows: int,
        recollection: Recollection,
        thinking: Thinking,
        watch: Unwatched,
        camera_rate_hz: float,
    ) -> None:
        """camera_rate_hz: at which the network, if it looks back, has learned to."""
        self._model = model
        self._seed = seed
        self._committed_rows = committed_rows
        self._recollection = recollection
        self._thinking = thinking
        self._watch = watch
        self._period_ns = round(NS_PER_S / camera_rate_hz)
        self._instruction = ""
        self._past: tuple[_Moment, ...] = ()
        self._course: Course | None = None
        self.needs = Needs(model.config.views)

    @property
    def errors(self) -> tuple[float, ...] | None:
        """See protocol.Surprised."""
        return self._watch.errors

    @property
    def glimpse(self) -> tuple[float, ...] | None:
        """See protocol.Surprised."""
        return self._watch.glimpse

    def predict(self, observation: Observation) -> Chunk:
        """One chunk, absolute, from the observation's instant on."""
        if not self._continues(observation):
            self._past, self._course = (), None
            self._recollection.begin()
            self._watch.forget()
        self._instruction = observation.instruction
        with torch.inference_mode():
            inputs = self._model.inputs([observation]).with_history(*self._history(observation.t_obs_ns))
            inputs = inputs.with_memory(self._recollection.memory)
            perception = self._model.perceive(inputs, plan=False)
            verdict = self._watch.look(self._model, perception, observation)
            prefix, course = (None, None) if verdict.replan else (self._prefix(observation), self._course)
            if self._thinking.plan:
                perception, self._course = planned(self._model, perception, course)
            rows = self._model.decide(perception, prefix, self._generator(observation), self._thinking)[0]
            self._recollection.experience(self._model, perception, observation.t_obs_ns)
        absolute = to_absolute(rows.double().cpu().numpy(), observation.commanded_pose, self._model.config.axes)
        said = "" if self._course is None else self._course.step, verdict.surprise, verdict.stop_because
        chunk = Chunk(observation.t_obs_ns, self._model.config.decoder.dt_s, absolute, *said)
        moment = _Moment(observation.t_obs_ns, observation.commanded_pose, perception.frame_features[0], chunk)
        oldest_ns = observation.t_obs_ns - (self._model.config.fusion.history + 1) * self._period_ns
        self._past = (*(earlier for earlier in self._past if earlier.t_obs_ns >= oldest_ns), moment)
        return chunk

    def _continues(self, observation: Observation) -> bool:
        """Whether it is the next look at the same task."""
        if not self._past or observation.instruction.strip() != self._instruction.strip():
            return False
        return 0 < observation.t_obs_ns - self._past[-1].t_obs_ns <= _MAX_GAP_S * NS_PER_S

    def _history(self, now_ns: int) -> tuple[Tensor | None, Tensor | None]:
        """What was seen at the camera's instants before, (1, T, D), and where it was: a slow policy misses some."""
        count = self._model.config.fusion.history
        if not self._past or count == 0:
            return None, None
        instants_ns = [now_ns - lag * self._period_ns for lag in range(count, 0, -1)]
        seen = [_seen_at(self._past, instant_ns, self._period_ns // 2) for instant_ns in instants_ns]
        nothing = torch.zeros_like(self._past[-1].frame_features)
        features = [nothing if moment is None else moment.frame_features for moment in seen]
        here = torch.tensor([[moment is not None for moment in seen]], device=nothing.device)
        return torch.stack(features).unsqueeze(0), here

    def _prefix(self, observation: Observation) -> Prefix | None:
        """The rows that will be carried out while this chunk is being made, if the robot is still on course."""
        if not self._past:
            return None
        config, last = self._model.config.decoder, self._past[-1]
        rows = _rows_from(last.chunk, observation.t_obs_ns, config.dt_s, self._committed_rows)
        if not len(rows) or not _follows(last, rows[0], observation.commanded_pose):
            return None
        relative = np.zeros((1, config.horizon, ACTION_WIDTH))
        relative[0, : len(rows)] = to_relative(rows, observation.commanded_pose, self._model.config.axes)
        device = self._model.device
        return Prefix(torch.from_numpy(relative).float().to(device), torch.tensor([len(rows)], device=device))

    def _generator(self, observation: Observation) -> torch.Generator:
        # Every instant has noise of its own, whatever was asked before.
        return torch.Generator().manual_seed((self._seed * 1_000_003 + observation.t_obs_ns) % 2**63)


def create(contract: Contract, options: Mapping[str, str]) -> VLAPolicy:
    """The policy of a checkpoint for a robot. Raises PolicyError or ModelError, in one sentence."""
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        known = "; ".join(f"{name}: {meaning}" for name, meaning in _OPTIONS.items())
        raise PolicyError(f"policy 'vla' has no option {unknown[0]!r}; it knows {known}")
    if "checkpoint" not in options:
        raise PolicyError("policy 'vla' needs a checkpoint: give the option checkpoint=FOLDER, or checkpoint=mt10")
    spare_cores = max(1, len(os.sched_getaffinity(0)) - 1)
    torch.set_num_threads(_whole_number(options, "threads", 1) if "threads" in options else spare_cores)
    may_be_untrained, may_be_foreign = (_is_yes(options, name) for name in ("untrained", "other_robot"))
    checkpoint = load_checkpoint(checkpoint_path(options["checkpoint"]), _device(options.get("device", "")))
    _check_views(checkpoint.model.config.views, contract)
    if not checkpoint.is_trained and not may_be_untrained:
        raise PolicyError(f"{checkpoint.folder} has learned nothing yet; to run it all the same: untrained=yes")
    if not may_be_foreign:
        _check_robot(checkpoint.contract, contract)
    seed, committed_rows = _whole_number(options, "seed", 0), _committed_rows(options, checkpoint.model)
    thinking, watch = thinking_of(options, checkpoint.model), watch_of(options, checkpoint.model)
    recalled = recollection(options, checkpoint)
    # Of the robot that it was trained for: there the instants were that far apart.
    rate_hz = min(checkpoint.contract.cameras[view].rate_hz for view in checkpoint.model.config.views)
    return VLAPolicy(checkpoint.model, seed, committed_rows, recalled, thinking, watch, rate_hz)


def _check_views(views: tuple[str, ...], contract: Contract) -> None:
    missing = [view for view in views if view not in contract.cameras]
    if missing:
        choices = ", ".join(contract.cameras) or "none"
        raise PolicyError(f"the checkpoint looks through camera {missing[0]!r}; the robot has: {choices}")


def _check_robot(made_for: Contract, robot: Contract) -> None:
    for what, wanted, found in (("robot", made_for.name, robot.name), ("frames", made_for.frames, robot.frames)):
        if wanted != found:
            raise PolicyError(
                f"the checkpoint is for another robot ({what}: {wanted}, not {found}); to run it here: other_robot=yes"
            )


def _is_yes(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "no")
    if text not in ("yes", "no"):
        raise PolicyError(f"the option {name} is {text!r}; choose yes or no")
    return text == "yes"


def _committed_rows(options: Mapping[str, str], model: VLAModel) -> int:
    """Rows 0 to the one at or after committed_s: up to there the target is interpolated between committed rows."""
    committed_s = _number(options, "committed_s", _COMMITTED_S)
    config = model.config.decoder
    rows = math.ceil(committed_s / config.dt_s) + 1 if committed_s > 0.0 else 0
    if rows > config.max_prefix and "committed_s" in options:
        most_s = max(0.0, (config.max_prefix - 1) * config.dt_s)
        raise PolicyError(f"the option committed_s is {committed_s}; this network was made for at most {most_s:g}")
    return min(rows, config.max_prefix)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PolicyError(f"device {name!r} cannot be used: {in_one_line(error)}") from error
    return device


def _whole_number(options: Mapping[str, str], name: str, least: int) -> int:
    text = options.get(name, str(least))
    if not text.isdecimal() or int(text) < least:
        raise PolicyError(f"the option {name} is {text!r}; it must be a whole number of at least {least}")
    return int(text)


def _number(options: Mapping[str, str], name: str, default: float) -> float:
    text = options.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise PolicyError(f"the option {name} is {text!r}; it must be a number of at least 0")
    return number


def _seen_at(past: tuple[_Moment, ...], instant_ns: int, within_ns: int) -> _Moment | None:
    """The nearest to an instant, if it is near enough."""
    nearest = min(past, key=lambda moment: abs(moment.t_obs_ns - instant_ns))
    return nearest if abs(nearest.t_obs_ns - instant_ns) <= within_ns else None


def _rows_from(chunk: Chunk, start_ns: int, dt_s: float, count: int) -> FloatArray:
    """The chunk's next rows on another grid of instants, fewer where it ends. -> (at most count, 14)"""
    instants = [start_ns + round(index * dt_s * NS_PER_S) for index in range(count)]
    targets = [target for instant_ns in instants if (target := target_at(chunk, instant_ns)) is not None]
    return np.array([make_row(target) for target in targets]).reshape(-1, ACTION_WIDTH)


def _follows(last: _Moment, row: FloatArray, commanded: Pose) -> bool:
    """Whether the robot carries out the last chunk. row: where that chunk has it now."""
    planned = Pose(row[POSITION], row[QUATERNION])
    gap_m, gap_rad = distance(planned, commanded)
    step_m, step_rad = distance(last.commanded_pose, planned)
    # A robot at rest is near a slow plan, too: it must have made most of the step.
    bound_m = min(_NEAR_M, max(_STEP_SHARE * step_m, _STEP_M))
    bound_rad = min(_NEAR_RAD, max(_STEP_SHARE * step_rad, _STEP_RAD))
    return gap_m <= bound_m and gap_rad <= bound_rad
