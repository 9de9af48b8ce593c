"""The only importer of rclpy and of message packages: messages, parameters, nodes."""
