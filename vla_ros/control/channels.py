"""Names of the inputs that the decision path reads. The ROS layer and the bag reader map topics to these."""

from __future__ import annotations

COMMAND = "command"  # str: the instruction
JOINT_STATES = "joint_states"  # JointState
EE_POSE = "ee_pose"  # Pose, measured
EE_TWIST = "ee_twist"  # Twist, measured
PRIVILEGED = "sim/privileged_state"  # (m,) float array, simulator only
COMMANDED_POSE = "guard/commanded_pose"  # Pose

POLICY_POSE = "policy/target_pose"  # Pose
POLICY_TWIST = "policy/target_twist"  # Twist
POLICY_GRIPPER = "policy/gripper"  # float, 0 closed to 1 open
POLICY_PROVENANCE = "policy/instruction"  # Provenance

TELEOP_POSE = "teleop/target_pose"  # Pose
TELEOP_TWIST = "teleop/target_twist"  # Twist
TELEOP_GRIPPER = "teleop/gripper"  # float
TELEOP_DEADMAN = "teleop/deadman"  # bool

EMERGENCY_STOP = "emergency_stop"  # bool
ARM = "guard/arm"  # bool: arm or disarm
RESET = "guard/reset"  # None
SIM_RESET = "sim/reset"  # None: the simulated world was put back; disarms and clears streams
SUCCESS = "sim/success"  # bool: whether the task is done, as whoever knows says; nothing is decided by it

WORKER = "worker"  # a reply of the policy's worker, see policy_tick


def camera(view: str) -> str:
    """The channel of a view's frames (Frame)."""
    return f"camera/{view}"
