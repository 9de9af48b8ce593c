"""What the things in Meta-World's scenes are called, for labels that people and other models can read."""

from __future__ import annotations

from typing import Any

import mujoco

BACKGROUND, ROBOT, GOAL = "table", "robot", "goal marker"

# Body at the root of the scene -> name. A plain "obj" is told by the task's mesh or shape below.
_THINGS = {
    "tablelink": BACKGROUND,
    "RetainingWall": BACKGROUND,
    "world": BACKGROUND,
    "base": ROBOT,
    "mocap": ROBOT,
    "box": "button box",
    "wall": "wall",
    "door": "door",
    "puck_channel": "plate",
    "puck_goal": "rack",
    "peg": "peg",
    "coffee_machine": "coffee machine",
    "RoundNut": "nut",
    "drawer": "drawer",
    "faucetBase": "faucet",
    "stick": "stick",
    "object": "thermos",
    "window": "window",
    "bsktball": "basketball",
    "basket_goal": "hoop",
    "bin_start": "bin",
    "bin_goal": "bin",
    "boxbody": "box",
    "boxbodytop": "lid",
    "dial": "dial",
    "hammerbody": "hammer",
    "lever": "lever",
    "plug1": "plug",
    "shelf": "shelf",
    "soccer_ball": "soccer ball",
    "goal_whole": "soccer goal",
    "obj": "small object",
}
_OTHER = "fixture"
THINGS: tuple[str, ...] = tuple(sorted({GOAL, _OTHER, *_THINGS.values()} - {BACKGROUND, ROBOT}))
"""All names that a label may have; the table and the robot are always there and are none of them."""


def thing_of(model: Any, objtype: int, objid: int) -> str:
    """The name of the thing that a drawn geom or site belongs to."""
    if objtype == mujoco.mjtObj.mjOBJ_SITE.value:
        return GOAL if model.site(objid).name.startswith("goal") else ROBOT
    if objtype != mujoco.mjtObj.mjOBJ_GEOM.value:
        return BACKGROUND  # a distractor, which belongs to no model
    root = model.body(int(model.body_rootid[model.geom_bodyid[objid]])).name
    return _THINGS.get(root, _OTHER)


def body_of(model: Any, objtype: int, objid: int) -> str:
    """The name of the body that a drawn geom belongs to; empty for anything else."""
    if objtype != mujoco.mjtObj.mjOBJ_GEOM.value:
        return ""
    return str(model.body(int(model.geom_bodyid[objid])).name)


def things_touched_by_both_fingers(model: Any, data: Any) -> frozenset[str]:
    """Names of what is in contact with the pads of both fingers."""
    touched: dict[str, set[str]] = {"leftpad": set(), "rightpad": set()}
    for contact in data.contact[: data.ncon]:
        bodies = [model.body(int(model.geom_bodyid[geom])).name for geom in (contact.geom1, contact.geom2)]
        for pad, names in touched.items():
            if pad in bodies:
                other = contact.geom2 if bodies[0] == pad else contact.geom1
                names.add(thing_of(model, mujoco.mjtObj.mjOBJ_GEOM.value, int(other)))
    return frozenset(touched["leftpad"] & touched["rightpad"]) - {ROBOT, BACKGROUND}
