"""Simulated robots as plain environments: no ROS, no threads, no clock of their own."""
