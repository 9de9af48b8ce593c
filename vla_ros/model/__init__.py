"""The VLA network: torch and transformers, no ROS. Start with vla.py; every other file is one of its parts."""
