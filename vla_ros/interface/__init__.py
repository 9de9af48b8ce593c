"""What the robot's topics say, without ROS: which topic feeds which channel, and how a message is read."""
