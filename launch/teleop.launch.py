"""A human's controls. Hold the deadman to take over; release it, and the policy may go on.

    ros2 launch vla_ros teleop.launch.py contract:=/path/to/contract.yaml device:=joy
    ros2 run vla_ros teleop_node --ros-args -p contract:=/path/to/contract.yaml -p device:=keyboard

The keyboard needs a terminal of its own, which launch does not give: use `ros2 run` for it, or a terminal prefix.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = (
    DeclareLaunchArgument("contract", description="Path of the robot's contract (YAML)"),
    DeclareLaunchArgument(
        "device",
        default_value="joy",
        choices=["joy", "keyboard"],
        description="joy listens to sensor_msgs/Joy on `joy`",
    ),
    DeclareLaunchArgument(
        "joystick",
        default_value=PathJoinSubstitution([FindPackageShare("vla_ros"), "config", "joystick.yaml"]),
        description="Parameter file (YAML): which axis and button does what",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the robot's nodes and topics"),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock"),
    DeclareLaunchArgument("terminal", default_value="", description="Prefix that opens a terminal, such as `xterm -e`"),
)


def generate_launch_description() -> LaunchDescription:
    """The teleop node alone; robot.launch.py has the guard that it talks to."""
    teleop = Node(
        package="vla_ros",
        executable="teleop_node",
        name="teleop",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("joystick"),
            {
                "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                "device": ParameterValue(LaunchConfiguration("device"), value_type=str),
                "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
            },
        ],
        prefix=LaunchConfiguration("terminal"),
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, teleop])
