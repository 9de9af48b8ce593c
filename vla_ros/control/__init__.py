"""Decisions, in plain numpy: no ROS, no torch, no clock, no thread, no log. Time is always an argument."""
