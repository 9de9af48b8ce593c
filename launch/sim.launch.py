"""A simulated robot, with a policy and the guard. It keeps to ROS domain 77 on this machine, unless told otherwise.

    ros2 launch vla_ros sim.launch.py policy:=oracle task:=push-v3
    ros2 launch vla_ros sim.launch.py policy:=oracle contract:=$(ros2 pkg prefix --share vla_ros)/config/base_sim.yaml
    ROS_DOMAIN_ID=77 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ros2 topic list

Further arguments are those of robot.launch.py.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    SetEnvironmentVariable,
)
from launch.events import Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("vla_ros")

ARGUMENTS = (
    DeclareLaunchArgument(
        "contract",
        default_value=PathJoinSubstitution([SHARE, "config", "sawyer_sim.yaml"]),
        description="Path of the simulated robot's contract (YAML): it says which robot there is, an arm or a base",
    ),
    DeclareLaunchArgument("task", default_value="", description="One of the robot's tasks; empty: its usual one"),
    DeclareLaunchArgument("variation", default_value="test:0", description="Where things are, as split:index"),
    DeclareLaunchArgument("realtime_factor", default_value="1.0", description="Simulated seconds per second"),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes and topics"),
    DeclareLaunchArgument(
        "domain_id",
        default_value=EnvironmentVariable("VLA_ROS_SIM_DOMAIN_ID", default_value="77"),
        description="ROS domain of the simulation, away from any real robot",
    ),
)


def own_graph() -> list[SetEnvironmentVariable]:
    """A simulation must not meet a robot by accident."""
    return [
        SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain_id")),
        SetEnvironmentVariable("VLA_ROS_SIM_DOMAIN_ID", LaunchConfiguration("domain_id")),
        SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
    ]


def sim() -> Node:
    """The robot. Without it, there is nothing to run for."""
    return Node(
        package="vla_ros",
        executable="sim_node",
        name="sim",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                "task": ParameterValue(LaunchConfiguration("task"), value_type=str),
                "variation": ParameterValue(LaunchConfiguration("variation"), value_type=str),
                "realtime_factor": ParameterValue(LaunchConfiguration("realtime_factor"), value_type=float),
            }
        ],
        output="screen",
        on_exit=EmitEvent(event=Shutdown(reason="the simulated robot ended")),
    )


def generate_launch_description() -> LaunchDescription:
    """robot.launch.py on the simulation's clock, and the robot."""
    robot = IncludeLaunchDescription(
        PathJoinSubstitution([SHARE, "launch", "robot.launch.py"]),
        launch_arguments={
            "contract": LaunchConfiguration("contract"),
            "namespace": LaunchConfiguration("namespace"),
            "use_sim_time": "true",
        }.items(),
    )
    return LaunchDescription([*ARGUMENTS, *own_graph(), sim(), robot])
