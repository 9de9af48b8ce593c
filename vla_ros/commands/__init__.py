"""The commands of `vla_ros`, one file per group. Each imports ROS only when it runs, so that --help is quick."""
