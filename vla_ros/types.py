"""The shared vocabulary: numpy only, no torch, no ROS.

Conventions: positions in metres, velocities in m/s and rad/s, all in the base frame at the tool point;
quaternions are x, y, z, w and unit. Instants are integer nanoseconds (`_ns`), durations float seconds (`_s`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.uint8]
Value = TypeVar("Value", covariant=True)

NS_PER_S = 1_000_000_000

# One row of an action: the same 14 numbers everywhere.
POSITION = slice(0, 3)
QUATERNION = slice(3, 7)
LINEAR_VELOCITY = slice(7, 10)
ANGULAR_VELOCITY = slice(10, 13)
GRIPPER = 13
ACTION_WIDTH = 14


@dataclass(frozen=True)
class Now:
    """One instant on both clocks: ROS time (may pause, may jump) and steady time (never does)."""

    ros_ns: int
    steady_ns: int


@dataclass(frozen=True, eq=False)
class Pose:
    """A tool pose in the base frame. position: (3,) [m]; quaternion: (4,) xyzw, unit."""

    position: FloatArray
    quaternion: FloatArray


@dataclass(frozen=True, eq=False)
class Twist:
    """A tool twist in the base frame. linear: (3,) [m/s]; angular: (3,) [rad/s]."""

    linear: FloatArray
    angular: FloatArray


@dataclass(frozen=True, eq=False)
class JointState:
    """names: n joints; positions: (n,) [rad or m]."""

    names: tuple[str, ...]
    positions: FloatArray


@dataclass(frozen=True, eq=False)
class Target:
    """What a policy or a human asks for at one instant. gripper: 0 closed to 1 open."""

    pose: Pose
    twist: Twist
    gripper: float


@dataclass(frozen=True)
class Provenance:
    """What a policy's target was made for: the instruction's hash, and the stamp of the newest observation used."""

    instruction_hash: str
    t_obs_ns: int


@dataclass(frozen=True, eq=False)
class Sample(Generic[Value]):
    """Something that arrived. stamp_ns: ROS time of its header, None if it has none; received_ns: steady time."""

    channel: str
    value: Value
    stamp_ns: int | None
    received_ns: int


@dataclass(frozen=True)
class Needs:
    """What a policy must be given before it can be asked. views: names of cameras in the contract."""

    views: tuple[str, ...]
    privileged: bool = False


@dataclass(frozen=True, eq=False)
class Observation:
    """What a policy sees. images: view -> (H, W, 3) uint8 RGB; joint_positions: (n,), contract's
    order, None where optional and absent.

    commanded_pose is the pose the guard commanded at t_obs_ns: the origin of a model's relative rows.
    gripper: the opening last commanded, 0 closed to 1 open. privileged: (m,) simulator state; None on a real robot.
    """

    t_obs_ns: int
    instruction: str
    images: Mapping[str, ImageArray]
    ee_pose: Pose
    commanded_pose: Pose
    joint_positions: FloatArray | None
    gripper: float
    privileged: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Chunk:
    """A policy's plan. rows: (H, 14), absolute, in the base frame; row i is for t_obs_ns + i * dt_s.

    A policy may say more. subtask: what it is about now, in words. surprise: how far what it sees is from what it had
    expected, in a unit of the policy's own; None where it had expected nothing. stop_because: why it asks not to be
    followed.
    """

    t_obs_ns: int
    dt_s: float
    rows: FloatArray
    subtask: str = ""
    surprise: float | None = None
    stop_because: str = ""

    @property
    def said(self) -> dict[str, str | float]:
        """What the policy says besides its rows, by name; empty for one that says nothing."""
        said: dict[str, str | float] = {"subtask": self.subtask} if self.subtask else {}
        if self.surprise is not None:
            said["surprise"] = self.surprise
        return {**said, "stop_because": self.stop_because} if self.stop_because else said

    @property
    def end_ns(self) -> int:
        """The instant of the last row, after which the chunk says nothing. ROS time [ns]."""
        return self.t_obs_ns + round((len(self.rows) - 1) * self.dt_s * NS_PER_S)


@dataclass(frozen=True, eq=False)
class Request:
    """What the policy's worker is asked. id: the asker's, increasing; it comes back in the reply."""

    id: int
    observation: Observation


@dataclass(frozen=True, eq=False)
class _Reply:
    """asked: the encoded observation. started_ns, ended_ns: when the request was sent and the reply here, steady."""

    request_id: int
    asked: bytes
    started_ns: int
    ended_ns: int

    @cached_property
    def observation_sha256(self) -> str:
        """64 hex digits that name what was asked. Made when asked for: to hash takes longer than many a policy."""
        return hashlib.sha256(self.asked).hexdigest()


@dataclass(frozen=True, eq=False)
class ChunkReply(_Reply):
    """The policy's plan. inference_s: what the worker itself measured."""

    chunk: Chunk
    inference_s: float


@dataclass(frozen=True, eq=False)
class FailureReply(_Reply):
    """The policy raised, or answered something that is not a chunk; the worker lives and may be asked again."""

    text: str


@dataclass(frozen=True)
class WorkerDied:
    """The worker is gone; a request in flight is lost. text: why, such as "killed by signal 9 (SIGKILL)"."""

    text: str


WorkerReply = ChunkReply | FailureReply | WorkerDied


@lru_cache(maxsize=64)
def instruction_hash(instruction: str) -> str:
    """16 hex digits that name an instruction. Surrounding white space does not count."""
    return hashlib.sha256(instruction.strip().encode()).hexdigest()[:16]


def is_hold(instruction: str) -> bool:
    """True for the instructions that mean "do nothing": an empty one, or "stop" in any case."""
    return instruction.strip().lower() in ("", "stop")


Json = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera frame as it arrived, read-only; `vla_ros.images.frame_to_rgb` makes an image of it when one is needed.

    encoding: ROS's name, or "jpeg", "png". pixels: (H, W) or (H, W, C) in the message's own byte order, a view into the
    message where possible; for jpeg and png the encoded file, (n,) uint8.
    """

    pixels: NDArray[Any]
    encoding: str
