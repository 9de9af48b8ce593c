"""The decision log: JSON Lines, one line per tick, floats in as many digits as give them back; of a chunk that was
refused for numbers that are not finite, as words. The first line is the identity.

Identical replays give identical bytes. The last line says how the replay ended; a log without it was cut short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from vla_ros.contract import Contract
from vla_ros.control.chunks import make_row
from vla_ros.control.safety import Motion
from vla_ros.errors import ReplayError
from vla_ros.replay.decisions import (
    Decision,
    GuardDecision,
    Instructed,
    Outcome,
    PolicyDecision,
    RecordedCommand,
    Replayed,
    ReplyDecision,
    by_kind,
    in_order,
)
from vla_ros.types import (
    ANGULAR_VELOCITY,
    GRIPPER,
    LINEAR_VELOCITY,
    POSITION,
    QUATERNION,
    Chunk,
    FloatArray,
    Json,
    Now,
    Pose,
    Target,
    Twist,
)

_IDENTITY, _END = "identity", "end"
_ENCODER = msgspec.json.Encoder()
_POLICY, _GUARD, _RECORDED, _INSTRUCTION = "policy", "guard", "recorded", "instruction"


class DecisionLog:
    """Writes a log beside its name and puts it in place when the block ends well. Raises ReplayError."""

    def __init__(self, path: Path, identity: Json) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.draft")
        self._identity = identity
        self._file: IO[bytes] | None = None

    def write(self, decision: Decision) -> None:
        """Add a line."""
        self._line(_entry(decision))

    def end(self, outcome: Outcome) -> None:
        """Add the last line."""
        fields = {"damage": outcome.damage, "missing": dict(sorted(outcome.missing.items())), "notes": outcome.notes}
        self._line({"kind": _END, **fields})

    def _line(self, entry: Json) -> None:
        assert self._file is not None, "lines are written within the block"
        with self._told():
            self._file.write(_ENCODER.encode(entry) + b"\n")

    def __enter__(self) -> DecisionLog:
        with self._told():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._draft.open("wb")
        try:
            self._line({"kind": _IDENTITY, **self._identity})
        except ReplayError as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        try:
            with self._told():
                self._file.close()  # writes what is left
                if kind is None:
                    self._draft.replace(self._path)
        finally:
            self._draft.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReplayError(f"{self._path} cannot be written: {error}") from error


def write_log(path: Path, replayed: Replayed) -> None:
    """A whole replay as a log, by the instants of its ticks."""
    with DecisionLog(path, replayed.identity) as log:
        for decision in in_order(replayed):
            log.write(decision)
        log.end(replayed.outcome)


def read_log(path: Path, contract: Contract) -> Replayed:
    """A log as a whole. Raises ReplayError for what is not one, or one that was cut short."""
    identity, lines = open_log(path)
    outcome: Outcome | None = None
    decisions: list[Decision] = []
    for entry in lines:
        if entry["kind"] == _END:
            outcome = Outcome(entry["damage"], entry["missing"], tuple(entry["notes"]))
        else:
            decisions.append(_decision(entry))
    if outcome is None:
        raise ReplayError(f"{path} was cut short: it has no last line")
    return gather(contract, identity, decisions, outcome)


def logged(path: Path) -> Iterator[Decision]:
    """The decisions in a log, one at a time. Raises ReplayError for what is not one."""
    return (_decision(entry) for entry in open_log(path)[1] if entry["kind"] != _END)


def gather(contract: Contract, identity: Json, decisions: Iterable[Decision], outcome: Outcome) -> Replayed:
    """A whole replay of a stream of decisions, in order."""
    return Replayed(**vars(by_kind(decisions)), contract=contract, identity=identity, outcome=outcome)


def open_log(path: Path) -> tuple[Json, Iterator[Json]]:
    """The identity, and the lines behind it as JSON, one at a time. Raises ReplayError for what is not a log."""
    lines = _lines(path)
    first = next(lines, {})
    if first.get("kind") != _IDENTITY:
        raise ReplayError(f"{path} is not a decision log: its first line is no identity")
    return {key: value for key, value in first.items() if key != "kind"}, lines


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                entry = msgspec.json.decode(line)
                if not isinstance(entry, dict) or "kind" not in entry:
                    raise ReplayError(f"{path}: line {number} is not of a decision log")
                yield entry
    except (OSError, msgspec.DecodeError) as error:
        raise ReplayError(f"{path} cannot be read as a decision log: {error}") from error


def _entry(decision: Decision) -> Json:
    if isinstance(decision, PolicyDecision):
        return _policy_entry(decision)
    if isinstance(decision, GuardDecision):
        return _guard_entry(decision)
    if isinstance(decision, RecordedCommand):
        return {"kind": _RECORDED, "stamp_ns": decision.stamp_ns, "motion": _motion_entry(decision.motion)}
    return {"kind": _INSTRUCTION, "ros_ns": decision.ros_ns, "text": decision.text}


def _policy_entry(decision: PolicyDecision) -> Json:
    return {
        "kind": _POLICY,
        "ros_ns": decision.now.ros_ns,
        "steady_ns": decision.now.steady_ns,
        "dt_s": decision.dt_s,
        "text": decision.text,
        "target": None if decision.target is None else make_row(decision.target).tolist(),
        "t_obs_ns": decision.t_obs_ns,
        "requested_t_obs_ns": decision.requested_t_obs_ns,
        "replies": [_reply_entry(reply) for reply in decision.replies],
        "stale": decision.stale,
        "missing": decision.missing,
    }


def _reply_entry(reply: ReplyDecision) -> Json:
    chunk = reply.chunk
    return {
        "id": reply.request_id,
        "t_obs_ns": reply.t_obs_ns,
        "observation_sha256": reply.observation_sha256,
        "chunk_sha256": reply.chunk_sha256,
        "chunk": None if chunk is None else _chunk_entry(chunk),
        "failed": reply.failed,
        "inference_s": reply.inference_s,
    }


def _chunk_entry(chunk: Chunk) -> Json:
    is_finite = math.isfinite(chunk.dt_s) and np.isfinite(chunk.rows).all()
    if is_finite:
        return {"dt_s": chunk.dt_s, "rows": chunk.rows.tolist(), **chunk.said}
    return {"dt_s": str(chunk.dt_s), "rows": chunk.rows.astype(str).tolist(), **chunk.said}  # JSON has no such numbers


def _guard_entry(decision: GuardDecision) -> Json:
    return {
        "kind": _GUARD,
        "ros_ns": decision.now.ros_ns,
        "steady_ns": decision.now.steady_ns,
        "dt_s": decision.dt_s,
        "mode": decision.mode,
        "source": decision.source,
        "text": decision.text,
        "clips": decision.clips,
        "command": None if decision.command is None else _motion_entry(decision.command),
        "missing": decision.missing,
    }


def _motion_entry(motion: Motion) -> Json:
    return {
        "position": motion.pose.position.tolist(),
        "quaternion": motion.pose.quaternion.tolist(),
        "linear": motion.twist.linear.tolist(),
        "angular": motion.twist.angular.tolist(),
        "gripper": motion.gripper,
    }


def _decision(entry: Json) -> Decision:
    kind = entry["kind"]
    if kind == _RECORDED:
        return RecordedCommand(entry["stamp_ns"], read_motion(entry["motion"]))
    if kind == _INSTRUCTION:
        return Instructed(entry["ros_ns"], entry["text"])
    if kind not in (_POLICY, _GUARD):
        raise ReplayError(f"the decision log has a line of kind {kind!r}; it is of another version of vla_ros")
    now, missing = Now(entry["ros_ns"], entry["steady_ns"]), tuple(entry["missing"])
    if kind == _GUARD:
        command = None if entry["command"] is None else read_motion(entry["command"])
        words = (entry["mode"], entry["source"], entry["text"])
        return GuardDecision(now, entry["dt_s"], *words, tuple(entry["clips"]), command, missing)
    return PolicyDecision(
        now,
        entry["dt_s"],
        tuple(_reply(reply) for reply in entry["replies"]),
        entry["requested_t_obs_ns"],
        entry["text"],
        None if entry["target"] is None else _target(np.array(entry["target"])),
        entry["t_obs_ns"],
        tuple(entry["stale"]),
        missing,
    )


def _reply(entry: Json) -> ReplyDecision:
    chunk = entry["chunk"]
    return ReplyDecision(
        entry["id"],
        entry["t_obs_ns"],
        entry["observation_sha256"],
        None if chunk is None else _chunk(chunk, entry["t_obs_ns"]),
        entry["chunk_sha256"],
        entry["failed"],
        entry["inference_s"],
    )


def _chunk(entry: Json, t_obs_ns: int) -> Chunk:
    said = {name: value for name, value in entry.items() if name not in ("dt_s", "rows")}
    return Chunk(t_obs_ns, float(entry["dt_s"]), np.array(entry["rows"], float), **said)


def _target(row: FloatArray) -> Target:
    twist = Twist(row[LINEAR_VELOCITY], row[ANGULAR_VELOCITY])
    return Target(Pose(row[POSITION], row[QUATERNION]), twist, float(row[GRIPPER]))


def read_motion(entry: Json) -> Motion:
    """A motion as a guard's trace has it."""
    position, quaternion, linear, angular = (
        np.array(entry[name], float) for name in ("position", "quaternion", "linear", "angular")
    )
    return Motion(Pose(position, quaternion), Twist(linear, angular), entry["gripper"])
