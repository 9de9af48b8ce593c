"""Demonstrations on disk, in LeRobot's dataset format v3.0: written, read and checked without torch or ROS."""
