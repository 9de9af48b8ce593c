"""What the suites are called and what they ask; apart from the rest, so that a help text loads nothing heavy."""

from __future__ import annotations

HORIZON = 400
"""Steps of 12.5 ms that an episode has."""
LATENCY_S = 0.05
"""Of inference, where nobody measures it so that runs on different machines are alike."""
BLANK = "do the task"
"""What is said where nothing is said: an empty sentence, or "stop", would hold the robot."""
MEANINGS = {
    "seen_phrasings": "unseen worlds, phrasings as in training",
    "held_out": "the same worlds, phrasings that no training saw",
    "blank": f'the same worlds, told "{BLANK}"',
    "opposites": "half open drawers and windows, told to open and to close them; success is 5 cm as told",
    "opposites_blank": f'the same scenes, told "{BLANK}"',
    "light": "the same worlds in other light",
    "cameras": "the same worlds, cameras bumped",
    "distractors": "the same worlds, more things on the table",
}
"""The suites that are run unless one is asked for."""
ROS, METAWORLD = "ros", "metaworld_mt50"
ALL_MEANINGS = {
    **MEANINGS,
    ROS: "worlds and sentences of seen_phrasings, over ROS between processes, in real time",
    METAWORLD: "all of Meta-World, as others report it",
}
