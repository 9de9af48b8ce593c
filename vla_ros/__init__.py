"""Run a vision-language-action policy on a ROS 2 robot, behind a guard."""

__version__ = "0.1.0"
