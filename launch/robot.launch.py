"""A policy and the guard for one robot. The guard starts disarmed: nothing moves before it is armed.

ros2 launch vla_ros robot.launch.py contract:=/path/to/contract.yaml policy:=my_robot.policies:create
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, LogInfo, OpaqueFunction
from launch.conditions import IfCondition, UnlessCondition
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage

ARGUMENTS = (
    DeclareLaunchArgument("contract", description="Path of the robot's contract (YAML)"),
    DeclareLaunchArgument("policy", default_value="hold", description="Policy: a name, or module:function"),
    DeclareLaunchArgument("checkpoint", default_value="", description="Folder of a trained policy; empty: none"),
    DeclareLaunchArgument("policy_options", default_value="", description="More options, as key=value key=value"),
    DeclareLaunchArgument("policy_python", default_value="", description="Python of the policy's worker; empty: ROS's"),
    DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the policy"),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the robot's nodes and topics"),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock"),
    DeclareLaunchArgument("shadow", default_value="false", description="Decide and tell, but send the robot nothing"),
    DeclareLaunchArgument("arm", default_value="false", description="Arm at once: the robot may move by itself"),
)
_ARM_TIMEOUT_S = "150"


def value(name: str, value_type: type) -> ParameterValue:
    """A launch argument as a parameter of that type; launch would guess it from the text."""
    return ParameterValue(LaunchConfiguration(name), value_type=value_type)


def guard() -> Node:
    """The guard. If it ends, the robot's driver stops the robot; what is left can do nothing and is ended as well."""
    return Node(
        package="vla_ros",
        executable="guard_node",
        name="guard",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "contract": value("contract", str),
                "shadow": value("shadow", bool),
                "use_sim_time": value("use_sim_time", bool),
            }
        ],
        output="screen",
        on_exit=EmitEvent(event=Shutdown(reason="the guard ended")),
    )


def policy(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The policy. Its options are a list, which only exists once the arguments are known."""
    checkpoint = LaunchConfiguration("checkpoint").perform(context)
    options = LaunchConfiguration("policy_options").perform(context).split()
    if checkpoint:
        options.append(f"checkpoint={checkpoint}")
    parameters = {
        "contract": value("contract", str),
        "policy": value("policy", str),
        "policy_python": value("policy_python", str),
        "autostart": value("autostart", bool),
        "use_sim_time": value("use_sim_time", bool),
        # ROS cannot tell the type of an empty list.
        **({"policy_options": options} if options else {}),
    }
    node = Node(
        package="vla_ros",
        executable="policy_node",
        name="policy",
        namespace=LaunchConfiguration("namespace"),
        parameters=[parameters],
        output="screen",
    )
    return [node]


def arming(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Arm when the guard is ready, if told to; otherwise say how."""
    namespace = LaunchConfiguration("namespace").perform(context)
    domain_id = context.environment.get("ROS_DOMAIN_ID", "")
    where = ["--domain-id", domain_id] if domain_id else []
    where += ["--namespace", namespace] if namespace else []
    words = ["arm", "--timeout", _ARM_TIMEOUT_S, "--wait", _ARM_TIMEOUT_S, *where]
    tell = "disarmed: nothing moves before    " + " ".join(["ros2 run vla_ros vla_ros arm", *where])
    return [
        ExecuteProcess(
            cmd=[ExecutableInPackage("vla_ros", "vla_ros"), *words],
            name="arm",
            output="screen",
            condition=IfCondition(LaunchConfiguration("arm")),
        ),
        LogInfo(msg=tell, condition=UnlessCondition(LaunchConfiguration("arm"))),
    ]


def generate_launch_description() -> LaunchDescription:
    """Policy and guard."""
    return LaunchDescription([*ARGUMENTS, guard(), OpaqueFunction(function=policy), OpaqueFunction(function=arming)])
