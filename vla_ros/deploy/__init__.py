"""Towards the robot's computer: what a network costs there. Torch, no ROS."""
