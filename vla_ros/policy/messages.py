"""The worker's vocabulary as payloads: observations to it; hello, chunks and failures from it.

Every decoder checks names, types and shapes and raises WorkerError; whether a chunk makes sense is judged elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import WorkerError
from vla_ros.policy import wire
from vla_ros.types import Chunk, FloatArray, ImageArray, Needs, Observation, Pose

PROTOCOL = 1
MAX_SAID = 200  # letters of what a policy says in words, which go to whoever watches the robot
_SAID: dict[str, type[Any]] = {"subtask": str, "surprise": float, "stop_because": str}


@dataclass(frozen=True)
class Hello:
    """The worker's first message: its policy is loaded. pid: of the worker itself, whatever started it."""

    policy: str
    needs: Needs
    pid: int
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Failure:
    """What could not be loaded, or why an observation was not answered."""

    text: str


@dataclass(frozen=True, eq=False)
class Plan:
    """A policy's answer and how long it took, measured by the worker."""

    chunk: Chunk
    inference_s: float


FromWorker = Hello | Failure | Plan


def encode_observation(observation: Observation) -> bytes:
    """The same observation gives the same bytes: their SHA-256 names it."""
    return wire.encode(
        {
            "t_obs_ns": observation.t_obs_ns,
            "instruction": observation.instruction,
            "images": {view: observation.images[view] for view in sorted(observation.images)},
            "ee_position": observation.ee_pose.position,
            "ee_quaternion": observation.ee_pose.quaternion,
            "commanded_position": observation.commanded_pose.position,
            "commanded_quaternion": observation.commanded_pose.quaternion,
            "joint_positions": observation.joint_positions,
            "gripper": float(observation.gripper),
            "privileged": observation.privileged,
        }
    )


def decode_observation(payload: bytes | bytearray) -> Observation:
    """Raises WorkerError. The arrays are read-only."""
    message = wire.decode(payload)
    images = _field(message, "images", dict)
    return Observation(
        t_obs_ns=_field(message, "t_obs_ns", int),
        instruction=_field(message, "instruction", str),
        images={view: _image(images, view) for view in images},
        ee_pose=Pose(_floats(message, "ee_position", 3), _floats(message, "ee_quaternion", 4)),
        commanded_pose=Pose(_floats(message, "commanded_position", 3), _floats(message, "commanded_quaternion", 4)),
        joint_positions=_floats_or_none(message, "joint_positions"),
        gripper=_field(message, "gripper", float),
        privileged=_floats_or_none(message, "privileged"),
    )


def encode_answer(answer: FromWorker) -> bytes:
    """Raises WorkerError if a chunk's fields are of the wrong type: policies answer anything."""
    if isinstance(answer, Hello):
        needs = {"views": list(answer.needs.views), "privileged": bool(answer.needs.privileged)}
        fields = {"protocol": answer.protocol, "policy": answer.policy, "pid": answer.pid, "needs": needs}
        return wire.encode({"type": "hello", **fields})
    if isinstance(answer, Failure):
        return wire.encode({"type": "failure", "text": answer.text})
    return wire.encode({"type": "chunk", "inference_s": answer.inference_s, **_chunk_fields(answer.chunk)})


def decode_answer(payload: bytes) -> FromWorker:
    """Raises WorkerError."""
    message = wire.decode(payload)
    kind = _field(message, "type", str)
    if kind == "hello":
        return _hello(message)
    if kind == "failure":
        return Failure(_field(message, "text", str))
    if kind == "chunk":
        rows = np.asarray(_array(message, "rows", 2), np.float64)
        chunk = Chunk(_field(message, "t_obs_ns", int), _field(message, "dt_s", float), rows, **_said(message))
        return Plan(chunk, _field(message, "inference_s", float))
    raise WorkerError(f"the message's type {kind!r} is not one of hello, failure, chunk")


def _chunk_fields(chunk: Chunk) -> dict[str, Any]:
    try:
        rows = np.asarray(chunk.rows, np.float64)
        fields = {"t_obs_ns": int(chunk.t_obs_ns), "dt_s": float(chunk.dt_s), "rows": rows, **_said(chunk.said)}
    except (TypeError, ValueError, OverflowError) as error:
        raise WorkerError(f"the chunk is malformed: {error}") from None
    if rows.ndim != 2:
        raise WorkerError(f"the chunk is malformed: its rows have the shape {rows.shape}, not (H, 14)")
    return fields


def _said(message: wire.Message) -> dict[str, Any]:
    """What a policy says besides its rows; as short as it says it. Raises WorkerError."""
    said = {name: _field(message, name, kind) for name, kind in _SAID.items() if name in message}
    if not math.isfinite(said.get("surprise", 0.0)):
        raise WorkerError("the message's 'surprise' is not finite")
    for name in ("subtask", "stop_because"):
        if len(said.get(name, "")) > MAX_SAID:
            raise WorkerError(f"the message's {name!r} is longer than {MAX_SAID} letters")
    return said


def _hello(message: wire.Message) -> Hello:
    needs = _field(message, "needs", dict)
    views = _field(needs, "views", list)
    if not all(isinstance(view, str) for view in views):
        raise WorkerError("the message's 'views' are not names")
    return Hello(
        policy=_field(message, "policy", str),
        needs=Needs(tuple(views), _field(needs, "privileged", bool)),
        pid=_field(message, "pid", int),
        protocol=_field(message, "protocol", int),
    )


def _field(message: wire.Message, key: str, kind: type[Any]) -> Any:
    value = message.get(key)
    if type(value) is not kind:
        raise WorkerError(f"the message's {key!r} is {type(value).__name__}, not {kind.__name__}")
    return value


def _array(message: wire.Message, key: str, dimensions: int) -> NDArray[Any]:
    array = message.get(key)
    if not isinstance(array, np.ndarray) or array.ndim != dimensions:
        raise WorkerError(f"the message's {key!r} is not an array of {dimensions} dimensions")
    return array


def _floats_or_none(message: wire.Message, key: str) -> FloatArray | None:
    return None if message.get(key) is None else np.asarray(_array(message, key, 1), np.float64)


def _floats(message: wire.Message, key: str, size: int) -> FloatArray:
    array = _array(message, key, 1)
    if len(array) != size:
        raise WorkerError(f"the message's {key!r} has {len(array)} numbers, not {size}")
    return np.asarray(array, np.float64)


def _image(images: wire.Message, view: Any) -> ImageArray:
    image = _array(images, view, 3)
    if not isinstance(view, str) or image.shape[2] != 3 or image.dtype != np.uint8:
        raise WorkerError(f"the image of view {view!r} is {image.dtype} {image.shape}, not uint8 (height, width, 3)")
    return image
