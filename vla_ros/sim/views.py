"""Where the simulated robot's cameras stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vla_ros.contract import Camera
from vla_ros.errors import SimError


@dataclass(frozen=True)
class FreeView:
    """A camera that looks at a point. look_at: [m] in the base frame; azimuth 90 looks along +y; angles in degrees."""

    look_at: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    elevation_deg: float


# front: from behind the robot's right side, since handles and buttons face the robot; top: straight down;
# wrist: the model's own between the fingers. All see the goal's marker: it is part of Meta-World's scenes.
# corner2: what is called so where Meta-World is learned from pixels: the model's corner2 moved to (0.75, 0.075, 0.7),
# its picture turned round, since it hangs upside down. The model has that place as corner4.
VIEWS: Mapping[str, FreeView | str] = {
    "front": FreeView((0.0, 0.67, 0.1), 1.05, 140.0, -32.0),
    "wrist": "gripperPOV",
    "top": FreeView((0.0, 0.65, 0.0), 1.3, 90.0, -89.0),
    "corner2": "corner4",
}
DEFAULT_VIEWS = ("front", "wrist", "top")
# Of the simulated base: the model's camera on its mast.
BASE_VIEWS: Mapping[str, FreeView | str] = {"front": "front"}
UPSIDE_DOWN = frozenset({"corner2"})


def check_views(names: tuple[str, ...], there: Mapping[str, FreeView | str] = VIEWS) -> None:
    """Raises SimError for a view that the simulated robot does not have. there: those that it has."""
    for name in names:
        if name not in there:
            raise SimError(f"'{name}' is not a view of the simulated robot; choose from {', '.join(there)}")


def image_size(cameras: Mapping[str, Camera], views: Iterable[str]) -> tuple[int, int]:
    """Width and height that all of these views share [pixels]; (1, 1) of none. Raises SimError if they differ."""
    sizes = {(cameras[view].width, cameras[view].height) for view in views}
    if len(sizes) > 1:
        raise SimError("cameras: the simulated robot's cameras are alike in width and height")
    return sizes.pop() if sizes else (1, 1)
