"""From recorded samples to demonstrations: numpy only, no torch, no simulator, no bags."""
