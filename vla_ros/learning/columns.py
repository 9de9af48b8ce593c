"""Names of the numbers in a dataset's state and action, whoever made it: metres, unit quaternions, m/s, rad/s."""

from __future__ import annotations

POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
ACTION = (*POSE, "vx", "vy", "vz", "wx", "wy", "wz", "gripper")
# Joint positions follow, as many as the robot has.
STATE = (*(f"ee_{axis}" for axis in POSE), *(f"commanded_{axis}" for axis in POSE), "gripper")
