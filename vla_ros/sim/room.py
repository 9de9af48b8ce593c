"""A room with things in it, and a base to drive in it: the MuJoCo model, and where everything is at the start.

All things that there may be are in the model, those of another room far below the floor: so the model never changes,
and what draws it need not be made anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import SimError
from vla_ros.policy.driving import BASE_RADIUS_M, COLOURS, SHAPES, TASKS, THINGS, thing_of
from vla_ros.sim.variations import SPLITS, Variation
from vla_ros.types import FloatArray

HALF_M = 2.2
"""From the middle of the room to its walls."""
RADII_M: Mapping[str, float] = {"box": 0.17, "ball": 0.15, "cylinder": 0.13}
"""From a thing's middle to its outermost point, seen from above."""
BELOW_M = -5.0
_HEIGHTS_M = {"box": 0.12, "ball": 0.15, "cylinder": 0.17}  # of a thing's middle
_GEOMS = {
    "box": 'type="box" size="0.12 0.12 0.12"',
    "ball": 'type="sphere" size="0.15"',
    "cylinder": 'type="cylinder" size="0.13 0.17"',
}
_RGBA = {
    "red": "0.85 0.08 0.08 1",
    "green": "0.1 0.6 0.15 1",
    "blue": "0.1 0.2 0.85 1",
    "yellow": "0.95 0.85 0.1 1",
    "purple": "0.55 0.1 0.6 1",
    "white": "0.95 0.95 0.95 1",
}
_SEED = 20261127
_FEWEST, _MOST = 4, 6
_APART_M = 0.85  # from middle to middle: the base passes between any two
_THINGS_WITHIN_M, _BASE_WITHIN_M = 1.5, 1.6  # the base passes between any thing and the wall
_TRIES = 50


@dataclass(frozen=True, eq=False)
class Room:
    """Where things are at the start, in the fixed frame. things: place in THINGS -> (4,) x, y [m], turned by [rad],
    height of its middle [m]; start: (3,) the base's x, y [m] and heading [rad].
    """

    things: Mapping[int, FloatArray]
    start: FloatArray


def draw_room(task: str, variation: Variation) -> Room:
    """The room of a task's variation: the thing that the task is about and three to five others, at random.

    The same in every process, and no room of one split is one of another. Raises SimError.
    """
    if task not in TASKS:
        raise SimError(f"'{task}' is not a task of the simulated base; choose one of {', '.join(TASKS)}")
    if variation.index < 0:
        raise SimError(f"variation {variation} has a negative index")
    seed = (_SEED, SPLITS.index(variation.split), zlib.crc32(task.encode()), variation.index)
    rng = np.random.default_rng(seed)
    chosen = _choose(thing_of(task), rng)
    places = _places(len(chosen) + 1, rng)
    things = {
        thing: np.array([x, y, rng.uniform(-np.pi, np.pi), _HEIGHTS_M[_shape(thing)]])
        for thing, (x, y) in zip(chosen, places[1:], strict=True)
    }
    return Room(things, np.array([*places[0], rng.uniform(-np.pi, np.pi)]))


def radius_m(thing: int) -> float:
    """Of a thing, by its place in THINGS [m]."""
    return RADII_M[_shape(thing)]


def model_xml() -> str:
    """The room as MuJoCo reads it: z up, x and y from the middle, metres, radians."""
    bodies = "\n".join(_thing_xml(index) for index in range(len(THINGS)))
    return _ROOM.format(half=HALF_M, beyond=HALF_M + 0.05, radius=BASE_RADIUS_M, things=bodies)


def _choose(named: int, rng: np.random.Generator) -> list[int]:
    """The named thing, then others of other colours."""
    colours = [index for index in range(len(COLOURS)) if index != named // len(SHAPES)]
    count = int(rng.integers(_FEWEST, _MOST + 1)) - 1
    others = rng.permutation(colours)[:count]
    return [named, *(int(colour) * len(SHAPES) + int(rng.integers(len(SHAPES))) for colour in others)]


def _places(count: int, rng: np.random.Generator) -> FloatArray:
    """The base's place, then those of things, all apart from each other. -> (count, 2) [m]"""
    while True:
        places = [rng.uniform(-_BASE_WITHIN_M, _BASE_WITHIN_M, 2)]
        for _ in range(_TRIES):
            place = rng.uniform(-_THINGS_WITHIN_M, _THINGS_WITHIN_M, 2)
            if np.linalg.norm(np.array(places) - place, axis=1).min() >= _APART_M:
                places.append(place)
            if len(places) == count:
                return np.array(places)


def _shape(thing: int) -> str:
    return SHAPES[thing % len(SHAPES)]


def _thing_xml(index: int) -> str:
    name, rgba = THINGS[index], _RGBA[COLOURS[index // len(SHAPES)]]
    return f'<body name="{name}" mocap="true" pos="0 0 {BELOW_M}"><geom {_GEOMS[_shape(index)]} rgba="{rgba}"/></body>'


# The base's joints are driven by velocity, with a lag of 50 ms: mass over gain. It has no wheels that could slip; their
# angles are reckoned from its motion. The camera stands on a mast, so that no thing hides behind another.
_ROOM = """
<mujoco model="room">
  <option timestep="0.0025" integrator="implicitfast" gravity="0 0 0"/>
  <visual><map znear="0.005"/><headlight ambient="0.25 0.25 0.25" diffuse="0.35 0.35 0.35" specular="0 0 0"/></visual>
  <default><geom friction="0.1"/></default>
  <worldbody>
    <light name="lamp" directional="true" pos="0 0 3" dir="0.3 0.2 -1" diffuse="0.5 0.5 0.5" ambient="0.1 0.1 0.1"/>
    <geom name="floor" type="plane" size="{half} {half} 0.1" rgba="0.42 0.38 0.34 1" contype="0" conaffinity="0"/>
    <geom name="north" type="box" pos="{beyond} 0 0.4" size="0.05 {beyond} 0.4" rgba="0.45 0.55 0.6 1"/>
    <geom name="south" type="box" pos="-{beyond} 0 0.4" size="0.05 {beyond} 0.4" rgba="0.6 0.52 0.45 1"/>
    <geom name="west" type="box" pos="0 {beyond} 0.4" size="{beyond} 0.05 0.4" rgba="0.5 0.5 0.55 1"/>
    <geom name="east" type="box" pos="0 -{beyond} 0.4" size="{beyond} 0.05 0.4" rgba="0.52 0.58 0.5 1"/>
    <body name="base">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <joint name="heading" type="hinge" axis="0 0 1"/>
      <geom type="cylinder" size="{radius} 0.08" pos="0 0 0.12" mass="10" rgba="0.2 0.2 0.22 1"/>
      <geom type="cylinder" size="0.02 0.2" pos="-0.05 0 0.4" mass="0" rgba="0.2 0.2 0.22 1" contype="0"
            conaffinity="0"/>
      <camera name="front" pos="0 0 0.62" xyaxes="0 -1 0 0.42 0 0.91" fovy="100"/>
    </body>
    {things}
  </worldbody>
  <actuator>
    <velocity joint="x" kv="200"/>
    <velocity joint="y" kv="200"/>
    <velocity joint="heading" kv="2.25"/>
  </actuator>
</mujoco>
"""
