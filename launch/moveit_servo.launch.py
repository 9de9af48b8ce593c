"""Example: a UR5e through MoveIt Servo. Policy and guard, with their topics remapped to those of the drivers.

    ros2 launch vla_ros moveit_servo.launch.py policy:=my_robot.policies:create

Start the robot's driver and servo_node before, and tell Servo to take twists (1 is TWIST):

    ros2 service call /servo_node/switch_command_type moveit_msgs/srv/ServoCommandType "{command_type: 1}"

Copy this file and config/ur5e_servo.yaml for your own robot. Further arguments are those of robot.launch.py.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import SetRemap
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("vla_ros")

ARGUMENTS = (
    DeclareLaunchArgument(
        "contract",
        default_value=PathJoinSubstitution([SHARE, "config", "ur5e_servo.yaml"]),
        description="Path of the robot's contract (YAML)",
    ),
    DeclareLaunchArgument(
        "servo_twist_topic",
        default_value="/servo_node/delta_twist_cmds",
        description="Where Servo listens for geometry_msgs/TwistStamped",
    ),
    DeclareLaunchArgument(
        "tool_pose_topic",
        default_value="/tcp_pose_broadcaster/pose",
        description="The measured tool pose (geometry_msgs/PoseStamped)",
    ),
)


def generate_launch_description() -> LaunchDescription:
    """robot.launch.py with Servo's names."""
    robot = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, "launch", "robot.launch.py"]),
        launch_arguments={"contract": LaunchConfiguration("contract")}.items(),
    )
    remaps = [
        SetRemap("target_twist", LaunchConfiguration("servo_twist_topic")),
        SetRemap("ee_pose", LaunchConfiguration("tool_pose_topic")),
    ]
    return LaunchDescription([*ARGUMENTS, GroupAction([*remaps, robot])])
