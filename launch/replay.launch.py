"""A recorded bag against a live policy and guard, in shadow: they see what the robot saw, and no robot obeys.

    ros2 launch vla_ros replay.launch.py bag:=runs/2026-11-23/bag contract:=/path/to/contract.yaml

What a policy said while the bag was recorded is played under recorded/. Everything stays in ROS domain 77 on this
machine, unless told otherwise. Further arguments are those of robot.launch.py.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

ARGUMENTS = (
    DeclareLaunchArgument("bag", description="The bag: a rosbag2 folder, or an .mcap or .db3 file"),
    DeclareLaunchArgument("contract", description="Path of the contract of the robot that was recorded (YAML)"),
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed; 2.0 is twice as fast as recorded"),
    DeclareLaunchArgument("loop", default_value="false", description="Start again at the end"),
    DeclareLaunchArgument("start_paused", default_value="false", description="Wait for the service play/pause"),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes and topics"),
    DeclareLaunchArgument(
        "domain_id",
        default_value=EnvironmentVariable("VLA_ROS_SIM_DOMAIN_ID", default_value="77"),
        description="ROS domain of the replay, away from any real robot",
    ),
)
_POLICY_TOPICS = ("target_pose", "target_twist", "gripper", "instruction", "status", "trace")


def own_graph() -> list[SetEnvironmentVariable]:
    """A replay must not meet a robot by accident."""
    return [
        SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain_id")),
        SetEnvironmentVariable("VLA_ROS_SIM_DOMAIN_ID", LaunchConfiguration("domain_id")),
        SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
    ]


def play() -> Node:
    """The bag. At its end, the rest ends as well."""
    return Node(
        package="vla_ros",
        executable="play_node",
        name="play",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "bag": ParameterValue(LaunchConfiguration("bag"), value_type=str),
                "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "start_paused": ParameterValue(LaunchConfiguration("start_paused"), value_type=bool),
            }
        ],
        remappings=[(f"policy/{topic}", f"recorded/policy/{topic}") for topic in _POLICY_TOPICS],
        output="screen",
        on_exit=EmitEvent(event=Shutdown(reason="the bag ended")),
    )


def play_when_all_are_up(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """A bag that starts before the policy listens would be half heard."""
    namespace = LaunchConfiguration("namespace").perform(context)
    where = ["--namespace", namespace] if namespace else []
    wait = ExecuteProcess(
        cmd=[ExecutableInPackage("vla_ros", "vla_ros"), "wait", "--timeout", "150", *where],
        name="wait",
        output="screen",
    )

    def then(event: ProcessExited, _context: LaunchContext) -> LaunchDescriptionEntity:
        return play() if event.returncode == 0 else EmitEvent(event=Shutdown(reason="not everything came up"))

    return [RegisterEventHandler(OnProcessExit(target_action=wait, on_exit=then)), wait]


def generate_launch_description() -> LaunchDescription:
    """The bag, and robot.launch.py on its clock, in shadow."""
    robot = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare("vla_ros"), "launch", "robot.launch.py"]),
        launch_arguments={
            "contract": LaunchConfiguration("contract"),
            "namespace": LaunchConfiguration("namespace"),
            "use_sim_time": "true",
            "shadow": "true",
        }.items(),
    )
    return LaunchDescription([*ARGUMENTS, *own_graph(), robot, OpaqueFunction(function=play_when_all_are_up)])
